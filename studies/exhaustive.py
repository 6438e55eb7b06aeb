"""Experiments: is the whole law worth more than its best pairs, and is it the best among all orders?

The law against its pairs; then against the D-first orders that the paper prints, and against all.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ordercomp.analysis.checks import Exhaustive
from ordercomp.analysis.fronts import front, group_by_seed
from ordercomp.analysis.ranking import permutation_records, rank_orders
from ordercomp.analysis.report.plots import (
    Panel,
    distance_plot,
    panels_plot,
    pareto_plot,
    ranking_plot,
    to_svg,
)
from ordercomp.analysis.report.tables import Table, convergence_table, ranking_table, reduction_table
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES, Rules, decide_alone, estimate_all, shifted
from ordercomp.records import Record
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    LOSSES,
    Claim,
    best_verdict,
    chance_of_best,
    convergence,
    decide_claims,
    even_out,
    has_fresh_student,
    law_of,
    rank_of,
    stages_of,
)
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
from ordercomp.studies.facts import PAPER

SLIGHT = 0.01  # "less than 1 %" of accuracy, a fraction


def _plan_combination(design: Design) -> list[Workload]:
    """The law and its pairs, each at its own grid of knob settings."""
    return [design.part(design.sequences([design.law, *_pairs(design.law)]))]


def _decide_combination(records: Sequence[Record]) -> Conclusion:
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
            Table.of(
                "The paper, figure 4 and section 5 (ResNet34, CIFAR-10)",
                ("what", "accuracy", "BitOpsCR"),
                PAPER.figure_4.rows,
                left=("what",),
                note=PAPER.figure_4.note,
            ),
        ),
    )


def _draw_combination(records: Sequence[Record]) -> dict[str, str]:
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
    fronts = {seed: front(own) for seed, own in group_by_seed(records).items()}
    return {
        seed: max(points, key=lambda point: point.accuracy).reported_accuracy
        for seed, points in fronts.items()
        if points
    }


COMBINATION = Experiment(
    name="combination",
    section="section 5, figure 4",
    question="is the whole law worth more than its best pairs?",
    plan=_plan_combination,
    rule=_decide_combination,
    draw=_draw_combination,
)


def _plan_exhaustive(design: Design) -> list[Workload]:
    """All permutations of the task's stages, with control arms."""
    return [design.part(design.sequences(permutations(design.task.ordered)))]


def _decide_exhaustive(records: Sequence[Record]) -> Conclusion:
    """The law against the orders of Table 1 and against all, and whether nearer orders do better."""
    stages, law = stages_of(records), law_of(records)
    guard = convergence(records)
    findings = decide_claims(_table_1_claims(records), guard)
    rank = rank_of(records, law, stages)
    if rank is not None:
        findings += _whole_findings(rank, CONSTRUCTION if has_fresh_student(records) else "")
    return Conclusion(
        findings=tuple(findings),
        tables=(
            reduction_table(permutation_records(records, stages), tolerances=LOSSES),
            _paper_table(),
            ranking_table(rank_orders(records, stages), law=law),
            *((convergence_table(guard),) if guard else ()),
        ),
        notes=(
            "Reductions are chosen on validation data; the rank is by value at a loss of 2 %. Orders share "
            "knobs and seeds, and every stage trains equally long.",
            *RunTable.of(records, stages=stages).notes,
        ),
    )


def _draw_exhaustive(records: Sequence[Record]) -> dict[str, str]:
    """Fronts of all orders, their ranking, and value against distance from the law."""
    stages, law = stages_of(records), law_of(records)
    ranking = rank_orders(records, stages)
    highlights = {law: "law", **({ranking[0].order: "best"} if ranking and ranking[0].order != law else {})}
    return {
        "fronts": to_svg(pareto_plot(permutation_records(records, stages), highlights=highlights)),
        "ranking": to_svg(ranking_plot(ranking, highlights=highlights)),
        "distance": to_svg(distance_plot(ranking, law=law)),
    }


def _table_1_claims(records: Sequence[Record]) -> list[Claim]:
    """The law against each of the other orders that the paper prints, restricted to the stages at hand."""
    stages, law, orders = stages_of(records), law_of(records), by_order(records)
    rivals = dict.fromkeys(restrict(order, stages) for order in PAPER.table_1.rows)
    return [
        Claim(
            text=f"{law} reaches larger reductions than {rival} (Table 1)",
            first=orders.get(law, []),
            second=orders.get(rival, []),
        )
        for rival in rivals
        if rival != law and len(rival) == len(stages)
    ]


def _whole_findings(rank: Exhaustive, caveat: str) -> list[Finding]:
    near: ClaimVerdict = "undecided"
    if rank.seeds >= RULES.least_seeds and abs(rank.kendall_tau) >= 0.3:
        near = "agree" if rank.kendall_tau < 0 else "disagree"
    return [
        Finding(
            claim=f"{rank.order} is the best of all {rank.of} orders",
            measured=f"rank {rank.rank}, {rank.regret:.2f} doublings behind the best ({rank.best})"
            f"{chance_of_best(rank)}",
            verdict=best_verdict(rank),
            seeds=rank.seeds,
            effect=-rank.regret,
            caveat=caveat,
        ),
        Finding(
            claim="orders nearer to the law do better",
            measured=f"Kendall's tau between distance and value {rank.kendall_tau:+.2f} "
            "(decided from 0.3 on, with three seeds or more)",
            verdict=near,
            seeds=rank.seeds,
            caveat=caveat,
        ),
    ]


def _paper_table() -> Table:
    table = PAPER.table_1
    return Table.of(
        "The paper, Table 1 (ResNet34, CIFAR-10, one run each)",
        ("order", *(f"loss ≤ {loss:g} %" for loss in table.losses)),
        [
            (order, *("?" if value == "?" else f"{value:.0f}×" for value in values))
            for order, values in table.rows.items()
        ],
        left=("order",),
        note=table.note,
        marked=(0,),
    )


EXHAUSTIVE = Experiment(
    name="exhaustive",
    section="section 5, Table 1",
    question="is the law the best of all orders?",
    plan=_plan_exhaustive,
    rule=_decide_exhaustive,
    draw=_draw_exhaustive,
)
