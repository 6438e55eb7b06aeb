"""Experiments: does the recommended order survive another way of training, and does it beat no order at all?

Each arm runs the same orders and seeds as the plain task, half of the orders at a seed: another rate of
fine-tuning (arXiv 2301.05219), activation ranges that are kept as they were once fitted, exits trained
jointly with the body (exits that come early are tuned by every later stage, exits that come last never), and
a rival without an order: a narrower network trained from scratch for as many epochs, quantized, with exits.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ordercomp.analysis.answer import AnswerAt, derive_answer
from ordercomp.analysis.race import starting_orders
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.statistics import RULES, interval_alone
from ordercomp.analysis.values import front_reduction
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.task import Task
from ordercomp.sequence import Order
from ordercomp.studies.experiment import Experiment, Finding, Judgement, Part, Verdict
from ordercomp.studies.preset import Preset

LOSS = 0.02  # tolerated, a fraction
WIDTHS = (0.5, 0.25)  # of the rival, times the task's
_WIDTH = re.compile(r"(?<=width=)\d+")
_DRAWN = 4  # orders in a figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Another way of training, beside the plain one."""

    name: str
    what: str  # in words, after "the recommended order survives"
    vary: Callable[[Task], Task]  # the plain task, or one of another name and digest
    knobs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # over each setting, by stage


def _other_rate(task: Task) -> Task:
    factor = 0.1 if task.recipe.fine_tune_factor == 1 else 1.0
    return replace(task, name=f"{task.name}-rate", recipe=replace(task.recipe, fine_tune_factor=factor))


def _other_ranges(task: Task) -> Task:
    recipe = replace(task.recipe, refit_ranges=not task.recipe.refit_ranges)
    return replace(task, name=f"{task.name}-ranges", recipe=recipe)


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name="rate", what="another rate of fine-tuning, 0.1 against 1", vary=_other_rate),
        Arm(name="ranges", what="activation ranges that are not fitted again", vary=_other_ranges),
        Arm(
            name="joint",
            what="exits that are trained jointly with the body",
            vary=lambda task: task,
            knobs={"E": {"train": "joint"}},
        ),
    )
}
SCRATCH = "scratch"


def _parts(arm: Arm, task: Task, preset: Preset) -> list[Part]:
    plain = preset.prepare(task)
    return [
        Part(task=plain, requests=_requests(plain, preset.seeds, {})),
        Part(task=arm.vary(plain), requests=_requests(arm.vary(plain), preset.seeds, arm.knobs)),
    ]


def _requests(task: Task, seeds: int, knobs: Mapping[str, Mapping[str, str]]) -> tuple[Request, ...]:
    """Half of the orders at a seed, at every knob setting."""
    cases = [
        {
            letter: {**case.get(letter, {}), **knobs.get(letter, {})}
            for letter in {*case, *knobs}
            if letter in task.stages
        }
        for case in task.settings
    ]
    return tuple(
        Request(task.sequence(order, case), seed)
        for seed in range(seeds)
        for order in starting_orders(task.stages, seed)
        for case in cases
    )


def _judge(arm: Arm, records: Sequence[Record]) -> Judgement:
    stages = _stages(records)
    plain, varied = (_answer(some, stages) for some in _split(records, arm))
    return Judgement(findings=(_survives(arm, plain, varied),), tables=())


def _survives(arm: Arm, plain: AnswerAt, varied: AnswerAt) -> Finding:
    claim = f"the recommended order survives {arm.what}"
    order = plain.recommended
    seeds = max((one.seeds for one in varied.standings.values()), default=0)
    if order is None or order not in varied.standings:
        measured = "too few seeds to recommend an order, or it was not run in the arm"
        return Finding(claim=claim, measured=measured, verdict="undecided", seeds=seeds)
    standing = varied.standings[order]
    inside, out = order in varied.best_set, len(varied.excluded)
    low, high = standing.interval
    holds = out and (order == varied.recommended or high <= RULES.margin)
    verdict: Verdict = "disagree" if not inside else "agree" if holds else "undecided"
    return Finding(
        claim=claim,
        measured=f"at a loss of {100 * LOSS:g} % the plain task recommends {order}, this one "
        f"{varied.recommended}, of which {order} lies {standing.behind:.2f} doublings behind "
        f"({low:.2f} to {high:.2f}); it is {'among' if inside else 'not among'} the {len(varied.best_set)} "
        f"orders that may be the best, {out} are out",
        verdict=verdict,
        seeds=seeds,
        effect=-standing.behind,
        interval=(-high, -low),
    )


def _split(records: Sequence[Record], arm: Arm) -> tuple[list[Record], list[Record]]:
    """The records of the plain task and those of the arm."""

    def is_varied(record: Record) -> bool:
        told = [f"{name}={value}" for some in arm.knobs.values() for name, value in some.items()]
        return all(one in record.sequence for one in told) if told else record.task.endswith(f"-{arm.name}")

    return [one for one in records if not is_varied(one)], [one for one in records if is_varied(one)]


def _answer(records: Sequence[Record], stages: Order) -> AnswerAt:
    return derive_answer(records, stages=stages, loss=LOSS).asked


def _stages(records: Sequence[Record]) -> Order:
    """The letters of the longest order, in the order of letters."""
    longest: Order = max((record.order for record in records), key=len)
    return "".join(sorted(longest))


def _scratch_parts(task: Task, preset: Preset) -> list[Part]:
    plain = preset.prepare(task)
    return [
        Part(task=plain, requests=_requests(plain, preset.seeds, {})),
        *(_rival(plain, width, preset.seeds) for width in WIDTHS if _WIDTH.search(plain.model)),
    ]


def _rival(task: Task, width: float, seeds: int) -> Part:
    """A narrower network that trains as long as a whole order with its baseline: alone, with Q, with E."""
    model = _WIDTH.sub(lambda found: str(max(1, round(int(found[0]) * width))), task.model)
    order = "".join(letter for letter in "QE" if letter in task.stages)
    epochs = task.recipe.epochs * (len(task.stages) + 1) / (len(order) + 1)
    small = replace(
        task,
        name=f"{task.name}-{SCRATCH}{width:g}",
        model=model,
        recipe=replace(task.recipe, epochs=epochs),
        weights="",
    )
    requests = [
        Request(small.sequence(order, case), seed)
        for seed in range(seeds)
        for case in small.settings
        if order
    ]
    return Part(task=small, requests=tuple(dict.fromkeys(requests)))


def _judge_scratch(records: Sequence[Record]) -> Judgement:
    claim = "the recommended order beats a narrower network trained from scratch for as many epochs"
    plain = [record for record in records if f"-{SCRATCH}" not in record.task]
    rivals = [record for record in records if f"-{SCRATCH}" in record.task and "Q" in record.order]
    told = _answer(plain, _stages(plain)) if plain else None
    values = _rival_values(rivals, plain)
    if told is None or told.recommended is None or not values:
        measured = "too little was measured: the task's model names no width, or there are too few seeds"
        finding = Finding(claim=claim, measured=measured, verdict="undecided", seeds=len(values))
        return Judgement(findings=(finding,), tables=())
    own, mean = told.standings[told.recommended].value, float(np.mean(values))
    enough = len(values) >= RULES.least_seeds
    gains = np.array([own - value for value in values])
    low, high = interval_alone(gains, bound=math.inf) if enough else (-math.inf, math.inf)
    verdict: Verdict = "agree" if low > 0 else "disagree" if high < 0 else "undecided"
    finding = Finding(
        claim=claim,
        measured=f"at a loss of {100 * LOSS:g} % {told.recommended} reaches {own:.2f} doublings, the rival's "
        f"front {mean:.2f} (the interval is that of the rival's seeds)",
        verdict=verdict,
        seeds=len(values),
        effect=own - mean,
        interval=(low, high),
    )
    return Judgement(findings=(finding,), tables=())


def _rival_values(rivals: Sequence[Record], plain: Sequence[Record]) -> list[float]:
    """The rival's value at each seed, against the plain task's uncompressed network of that seed."""
    found = []
    for seed in sorted({record.seed for record in rivals}):
        base = next((one for one in plain if one.seed == seed and _dense_bitops(one)), None)
        own = [one for one in rivals if one.seed == seed and _dense_bitops(one)]
        points = [(one, point) for one in own for point in one.points]
        if base is None or not points:
            continue
        heights = np.array(
            [math.log2(point.bitops_cr * _dense_bitops(base) / _dense_bitops(one)) for one, point in points]
        )
        seen = np.array([base.baseline.accuracy - point.accuracy for _, point in points])
        unseen = np.array([base.baseline.test_accuracy - point.test_accuracy for _, point in points])
        found.append(
            float(np.mean([front_reduction(losses, heights, loss=LOSS) for losses in (seen, unseen)]))
        )
    return found


def _dense_bitops(record: Record) -> float:
    """Bit operations of the record's uncompressed network; 0 if the record does not say."""
    return float(record.extra.get("costs", {}).get("paper", {}).get("baseline_bitops", 0.0))


def _figures(records: Sequence[Record]) -> dict[str, str]:
    """A panel for the plain task and one for each other, with the first few orders."""
    panels = []
    for task in dict.fromkeys(record.task for record in records):
        whole = [record for record in records if record.task == task]
        longest = max(len(record.order) for record in whole)
        orders = list(dict.fromkeys(record.order for record in whole if len(record.order) == longest))
        series = {order: [one for one in whole if one.order == order] for order in orders[:_DRAWN]}
        panels.append(Panel(title=task, series=series))
    return {"fronts": to_svg(panels_plot(panels))}


def _experiment(arm: Arm) -> Experiment:
    return Experiment(
        name=f"robust-{arm.name}",
        section="beyond the paper",
        question=f"does the recommended order survive {arm.what}?",
        parts=lambda task, preset: _parts(arm, task, preset),
        judge=lambda records: _judge(arm, records),
        figures=_figures,
    )


EXPERIMENTS = (
    *map(_experiment, ARMS.values()),
    Experiment(
        name=f"robust-{SCRATCH}",
        section="beyond the paper",
        question="does an order beat a narrower network that is trained from scratch for as many epochs?",
        parts=_scratch_parts,
        judge=_judge_scratch,
        figures=_figures,
    ),
)
