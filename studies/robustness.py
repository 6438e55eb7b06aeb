"""Experiments: does the recommended order survive another way of training, and does it beat no order at all?

Each arm runs the same orders and seeds as the plain task, half of the orders at a seed: another rate of
fine-tuning (arXiv 2301.05219), activation ranges that are kept as they were once fitted, exits trained
jointly with the body (exits that come early are tuned by every later stage, exits that come last never), and
a rival without an order: a narrower network trained from scratch for as many epochs, quantized, with exits.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import AnswerAt, derive_answer
from ordercomp.analysis.fronts import group, group_by_seed
from ordercomp.analysis.race import starting_orders
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.statistics import RULES, interval_alone
from ordercomp.analysis.values import front_reduction
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.task import Task
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    restrict,
)
from ordercomp.studies.preset import Setting

FloatArray = npt.NDArray[np.float64]

LOSS = 0.02  # tolerated, a fraction
WIDTHS = (0.5, 0.25)  # of the rival, times the task's
SCRATCH = "scratch"
_WIDTH = re.compile(r"(?<=width=)\d+")
_DRAWN = 4  # orders in a figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Another way of training, beside the plain one."""

    name: str
    words: str  # in words, after "the recommended order survives"
    vary: Callable[[Task], Task]  # the plain task, or one of another name and digest
    knobs: Setting = field(default_factory=dict)  # over each setting

    def owns(self, record: Record) -> bool:
        """Whether a record is one of the arm, not of the plain task."""
        knobs = [f"{name}={value}" for settings in self.knobs.values() for name, value in settings.items()]
        if knobs:
            return all(knob in record.sequence for knob in knobs)
        return record.task.endswith(f"-{self.name}")


def _other_rate(task: Task) -> Task:
    factor = 0.1 if task.recipe.fine_tune_factor == 1 else 1.0
    return replace(task, name=f"{task.name}-rate", recipe=replace(task.recipe, fine_tune_factor=factor))


def _other_ranges(task: Task) -> Task:
    recipe = replace(task.recipe, refit_ranges=not task.recipe.refit_ranges)
    return replace(task, name=f"{task.name}-ranges", recipe=recipe)


ARMS = (
    Arm(name="rate", words="another rate of fine-tuning, 0.1 against 1", vary=_other_rate),
    Arm(name="ranges", words="activation ranges that are not fitted again", vary=_other_ranges),
    Arm(
        name="joint",
        words="exits that are trained jointly with the body",
        vary=lambda task: task,
        knobs={"E": {"train": "joint"}},
    ),
)


def _plan(arm: Arm, design: Design) -> list[Workload]:
    task, seeds = design.task, design.preset.seeds
    return [_half(task, seeds, {}), _half(arm.vary(task), seeds, arm.knobs)]


def _half(task: Task, seeds: int, knobs: Setting) -> Workload:
    """Half of the orders at a seed, at every knob setting, with further knobs."""
    settings = [
        {
            letter: {**setting.get(letter, {}), **knobs.get(letter, {})}
            for letter in {*setting, *knobs}
            if letter in task.stages
        }
        for setting in task.settings
    ]
    requests = (
        Request(task.sequence(order, setting), seed)
        for seed in range(seeds)
        for order in starting_orders(task.stages, seed)
        for setting in settings
    )
    return Workload(task=task, requests=tuple(requests))


def _decide(arm: Arm, records: Sequence[Record]) -> Conclusion:
    sides = group(records, arm.owns)
    stages = max((record.order for record in records), key=len)
    plain, varied = (_answer(sides.get(owned, []), stages) for owned in (False, True))
    return Conclusion(findings=(_survives(arm, plain, varied),))


def _survives(arm: Arm, plain: AnswerAt, varied: AnswerAt) -> Finding:
    claim = f"the recommended order survives {arm.words}"
    order = plain.recommended
    seeds = max((standing.seeds for standing in varied.standings.values()), default=0)
    if order is None or order not in varied.standings:
        measured = "too few seeds to recommend an order, or it was not run in the arm"
        return Finding(claim=claim, measured=measured, verdict="undecided", seeds=seeds)
    standing = varied.standings[order]
    inside, out = order in varied.best_set, len(varied.excluded)
    low, high = standing.interval
    holds = out and (order == varied.recommended or high <= RULES.margin)
    few = min(plain.standings[order].seeds, standing.seeds) < RULES.least_seeds
    return Finding(
        claim=claim,
        measured=f"at a loss of {100 * LOSS:g} % the plain task recommends {order}, this one "
        f"{varied.recommended}, of which {order} lies {standing.behind:.2f} doublings behind "
        f"({low:.2f} to {high:.2f}); it is {'among' if inside else 'not among'} the {len(varied.best_set)} "
        f"orders that may be the best, {out} are out",
        verdict="undecided" if few or (inside and not holds) else "agree" if inside else "disagree",
        seeds=seeds,
        effect=-standing.behind,
        interval=(-high, -low),
    )


def _answer(records: Sequence[Record], stages: str) -> AnswerAt:
    return derive_answer(records, stages="".join(sorted(stages)), loss=LOSS).asked


# The rival without an order.


def _scratch_plan(design: Design) -> list[Workload]:
    task, seeds = design.task, design.preset.seeds
    rivals = [_rival(task, width, seeds) for width in WIDTHS if _WIDTH.search(task.model)]
    return [_half(task, seeds, {}), *rivals]


def _rival(task: Task, width: float, seeds: int) -> Workload:
    """A narrower network that trains as long as a whole order with its baseline: alone, with Q, with E."""
    model = _WIDTH.sub(lambda match: str(max(1, round(int(match[0]) * width))), task.model)
    order = restrict("QE", task.stages)
    epochs = task.recipe.epochs * (len(task.stages) + 1) / (len(order) + 1)
    small = replace(
        task,
        name=f"{task.name}-{SCRATCH}{width:g}",
        model=model,
        recipe=replace(task.recipe, epochs=epochs),
        weights="",
    )
    settings = small.settings if order else ()
    requests = [
        Request(small.sequence(order, setting), seed) for seed in range(seeds) for setting in settings
    ]
    return Workload(task=small, requests=tuple(dict.fromkeys(requests)))


def _decide_scratch(records: Sequence[Record]) -> Conclusion:
    claim = "the recommended order beats a narrower network trained from scratch for as many epochs"
    plain = [record for record in records if f"-{SCRATCH}" not in record.task]
    rivals = [record for record in records if f"-{SCRATCH}" in record.task and "Q" in record.order]
    answer = _answer(plain, max((record.order for record in plain), key=len)) if plain else None
    values = _rival_values(rivals, plain)
    if answer is None or answer.recommended is None or not len(values):
        measured = "too little was measured: the task's model names no width, or there are too few seeds"
        finding = Finding(claim=claim, measured=measured, verdict="undecided", seeds=len(values))
        return Conclusion(findings=(finding,))
    own, mean = answer.standings[answer.recommended].value, float(np.mean(values))
    enough = len(values) >= RULES.least_seeds
    low, high = interval_alone(own - values, bound=math.inf) if enough else (-math.inf, math.inf)
    verdict: ClaimVerdict = "agree" if low > 0 else "disagree" if high < 0 else "undecided"
    finding = Finding(
        claim=claim,
        measured=f"at a loss of {100 * LOSS:g} % {answer.recommended} reaches {own:.2f} doublings, the "
        f"rival's front {mean:.2f} (the interval is that of the rival's seeds)",
        verdict=verdict,
        seeds=len(values),
        effect=own - mean,
        interval=(low, high),
    )
    return Conclusion(findings=(finding,))


def _rival_values(rivals: Sequence[Record], plain: Sequence[Record]) -> FloatArray:
    """The rival's value at each seed, against the plain task's uncompressed network of that seed."""
    dense = {record.seed: record for record in reversed(plain) if _dense_bitops(record)}
    values = []
    for seed, own in sorted(group_by_seed(filter(_dense_bitops, rivals)).items()):
        points = [(record, point) for record in own for point in record.points]
        if seed not in dense or not points:
            continue
        base, of_base = dense[seed].baseline, _dense_bitops(dense[seed])
        heights = np.array([math.log2(p.bitops_cr * of_base / _dense_bitops(record)) for record, p in points])
        seen = np.array([base.accuracy - point.accuracy for _, point in points])
        unseen = np.array([base.test_accuracy - point.test_accuracy for _, point in points])
        values.append(np.mean([front_reduction(losses, heights, loss=LOSS) for losses in (seen, unseen)]))
    return np.array(values)


def _dense_bitops(record: Record) -> float:
    """Bit operations of the record's uncompressed network; 0 if the record does not say."""
    return float(record.extra.get("costs", {}).get("paper", {}).get("baseline_bitops", 0.0))


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """A panel for the plain task and one for each other, with the first few orders."""
    panels = []
    for task, own in group(records, lambda record: record.task).items():
        most = max(len(record.order) for record in own)
        full = by_order(record for record in own if len(record.order) == most)
        panels.append(Panel(title=task, series=dict(list(full.items())[:_DRAWN])))
    return {"fronts": to_svg(panels_plot(panels))}


def _experiment(arm: Arm) -> Experiment:
    return Experiment(
        name=f"robust-{arm.name}",
        section="beyond the paper",
        question=f"does the recommended order survive {arm.words}?",
        plan=partial(_plan, arm),
        rule=partial(_decide, arm),
        draw=_draw,
    )


EXPERIMENTS = (
    *map(_experiment, ARMS),
    Experiment(
        name=f"robust-{SCRATCH}",
        section="beyond the paper",
        question="does an order beat a narrower network that is trained from scratch for as many epochs?",
        plan=_scratch_plan,
        rule=_decide_scratch,
        draw=_draw,
    ),
)
