"""Experiment: is the whole law worth more than its best pairs?"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ordercomp.analysis.fronts import front
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import reduction_table
from ordercomp.analysis.statistics import RULES, Rules, decide_alone, estimate_all, shifted
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order
from ordercomp.studies.claims import LOSSES, Claim, convergence, decide_claims, even_out, stages_of
from ordercomp.studies.experiment import (
    Conclusion,
    Experiment,
    Finding,
    Part,
    by_order,
    by_seed,
    make_table,
    one_part,
    restrict,
    sequences,
)
from ordercomp.studies.facts import LAW, PAPER
from ordercomp.studies.preset import Preset

SLIGHT = 0.01  # "less than 1 %" of accuracy, a fraction


def _plan(task: Task, preset: Preset) -> list[Part]:
    """The law and its pairs, each at its own grid of knob settings."""
    law = restrict(LAW, task.stages)
    return [one_part(task, preset, sequences(task, preset, [law, *_pairs(law)]))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Whether the law does better than each pair, and how much accuracy it can still reach."""
    law, orders = stages_of(records), by_order(records)
    claims = []
    for pair in _pairs(law):
        sides = even_out(orders.get(law, []), orders.get(pair, []))
        text = f"the whole law {law} does better than its pair {pair}"
        claims.append(Claim(text=text, first=sides[0], second=sides[1]))
    shown = [record for record in records if record.order in (law, *_pairs(law))]
    return Conclusion(
        findings=(*decide_claims(claims, convergence(records)), *_reachable(orders, law)),
        tables=(
            reduction_table(shown, tolerances=LOSSES),
            make_table(
                "The paper, figure 4 and section 5 (ResNet34, CIFAR-10)",
                ("what", "accuracy", "BitOpsCR"),
                PAPER.figure_4.rows,
                left=("what",),
                note=PAPER.figure_4.note,
            ),
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """Figure 4: the law among its pairs."""
    law, orders = stages_of(records), by_order(records)
    series = {order: orders.get(order, []) for order in (law, *_pairs(law))}
    return {"fronts": to_svg(panels_plot([Panel(title="The law and its pairs", series=series)]))}


def _pairs(law: Order) -> list[Order]:
    """The pairs in the order of the law; none if the law is itself a pair."""
    return [first + second for first, second in combinations(law, 2) if len(law) > 2]


def _reachable(orders: Mapping[Order, Sequence[Record]], law: Order) -> list[Finding]:
    """That the best accuracy of the law lies less than a point below that of the best pair."""
    of_law = _best_accuracy(orders.get(law, []))
    of_pairs = [_best_accuracy(orders.get(pair, [])) for pair in _pairs(law)]
    seeds = sorted(of_law.keys() & {seed for pair in of_pairs for seed in pair})
    if not seeds:
        return []
    differences = [of_law[seed] - max(pair.get(seed, 0.0) for pair in of_pairs) for seed in seeds]
    (effect,) = estimate_all([np.array(differences)], rules=RULES, bound=1.0)
    decision = decide_alone("better", shifted(effect, SLIGHT), len(seeds), rules=Rules(margin=0.0))
    return [
        Finding(
            claim=f"{law} reaches slightly less accuracy than the pairs do, by less than 1 %",
            measured=f"{100 * effect.mean:+.2f} [{100 * effect.low:+.2f}, {100 * effect.high:+.2f}] points "
            "against the best pair of each seed",
            verdict=decision.verdict,
            seeds=len(seeds),
        )
    ]


def _best_accuracy(records: Sequence[Record]) -> dict[int, float]:
    """Test accuracy of the most accurate point on validation data, at every seed."""
    fronts = {seed: front(own) for seed, own in by_seed(records).items()}
    return {
        seed: max(points, key=lambda point: point.accuracy).reported_accuracy
        for seed, points in fronts.items()
        if points
    }


EXPERIMENT = Experiment(
    name="combination",
    section="section 5, figure 4",
    question="is the whole law worth more than its best pairs?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
