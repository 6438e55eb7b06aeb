"""Experiment: is the whole law worth more than its best pairs?"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ordercomp.analysis.fronts import front
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table, reduction_table
from ordercomp.analysis.statistics import RULES, Rules, decide_alone, estimate_all, shifted
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order
from ordercomp.studies.claims import Claim, by_order, convergence, even_out, judge_claims, latest, stages_of
from ordercomp.studies.experiment import Experiment, Finding, Judgement, Part, one_part, restrict, sequences
from ordercomp.studies.facts import LAW
from ordercomp.studies.preset import Preset

LOSSES = (0.002, 0.006, 0.01, 0.02, 0.05, 0.1)  # tolerated, fractions
SLIGHT = 0.01  # "less than 1 %" of accuracy, a fraction


def parts(task: Task, preset: Preset) -> list[Part]:
    """The law and its pairs, each at its own grid of knob settings."""
    prepared = preset.prepare(task)
    law = restrict(LAW, task.stages)
    return [one_part(prepared, preset, sequences(prepared, preset, [law, *_pairs(law)]))]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge whether the law does better than each pair, and how much accuracy it can still reach."""
    found = [record for record in latest(records) if record.order]
    law = stages_of(found)
    orders = by_order(found)
    claims = []
    for pair in _pairs(law):
        sides = even_out(orders.get(law, []), orders.get(pair, []))
        text = f"the whole law {law} does better than its pair {pair}"
        claims.append(Claim(text=text, first=sides[0], second=sides[1]))
    shown = [record for record in found if record.order in (law, *_pairs(law))]
    return Judgement(
        findings=(*judge_claims(claims, convergence(found)), *_reachable(orders, law)),
        tables=(reduction_table(shown, tolerances=LOSSES), _paper_table()),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Figure 4: the law among its pairs."""
    found = [record for record in latest(records) if record.order]
    law = stages_of(found)
    orders = by_order(found)
    series = {order: orders.get(order, []) for order in (law, *_pairs(law))}
    return {"fronts": to_svg(panels_plot([Panel(title="The law and its pairs", series=series)]))}


def _pairs(law: Order) -> list[Order]:
    """The pairs in the order of the law; none if the law is itself a pair."""
    return [first + second for first, second in combinations(law, 2) if len(law) > 2]


def _reachable(orders: dict[Order, list[Record]], law: Order) -> list[Finding]:
    """That the best accuracy of the law lies less than a point below that of the best pair."""
    best = {order: _best_accuracy(orders.get(order, [])) for order in (law, *_pairs(law))}
    seeds = sorted(set(best[law]) & {seed for pair in _pairs(law) for seed in best[pair]})
    differences = np.array(
        [best[law][seed] - max(best[pair].get(seed, 0.0) for pair in _pairs(law)) for seed in seeds]
    )
    if not len(differences):
        return []
    (effect,) = estimate_all([differences], rules=RULES, bound=1.0)
    decision = decide_alone("better", shifted(effect, SLIGHT), len(seeds), rules=Rules(margin=0.0))
    told = f"{100 * effect.mean:+.2f} [{100 * effect.low:+.2f}, {100 * effect.high:+.2f}] points"
    return [
        Finding(
            claim=f"{law} reaches slightly less accuracy than the pairs do, by less than 1 %",
            measured=f"{told} against the best pair of each seed",
            verdict=decision.verdict,
            seeds=len(seeds),
        )
    ]


def _best_accuracy(records: Sequence[Record]) -> dict[int, float]:
    """Test accuracy of the most accurate point on validation data, at every seed."""
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_seed[record.seed].append(record)
    fronts = {seed: front(some) for seed, some in by_seed.items()}
    return {
        seed: max(points, key=lambda one: one.accuracy).reported_accuracy
        for seed, points in fronts.items()
        if points
    }


def _paper_table() -> Table:
    return Table(
        title="The paper, figure 4 and section 5 (ResNet34, CIFAR-10)",
        columns=(Column("what"), Column("accuracy", "right"), Column("BitOpsCR", "right")),
        rows=(
            ("baseline", "93.42 %", "1×"),
            ("DPQE", "92.8 %", "about 1000×"),
            ("reachable region of DPQE", "≤ 93.5 %", ""),
        ),
        note="The paper prints a loss of 0.6 % next to 92.8 %; no number is printed for the pairs.",
    )


EXPERIMENT = Experiment(
    name="combination",
    section="section 5, figure 4",
    question="is the whole law worth more than its best pairs?",
    parts=parts,
    judge=judge,
    figures=figures,
)
