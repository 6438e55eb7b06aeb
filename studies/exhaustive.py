"""Experiment: is the law best among all orders? The D-first orders that the paper prints, then all."""

from collections.abc import Sequence

from ordercomp.analysis.checks import Exhaustive
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.ranking import permutation_records, rank_orders
from ordercomp.analysis.report.plots import distance_plot, pareto_plot, ranking_plot, to_svg
from ordercomp.analysis.report.tables import Table, convergence_table, ranking_table, reduction_table
from ordercomp.analysis.statistics import RULES
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    LOSSES,
    Claim,
    best_verdict,
    chance_of_best,
    convergence,
    decide_claims,
    has_fresh_student,
    law_of,
    rank_of,
    stages_of,
)
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Experiment,
    Finding,
    Part,
    by_order,
    make_table,
    one_part,
    restrict,
    sequences,
)
from ordercomp.studies.facts import PAPER
from ordercomp.studies.preset import Preset


def _plan(task: Task, preset: Preset) -> list[Part]:
    """All permutations of the task's stages, with control arms."""
    return [one_part(task, preset, sequences(task, preset, permutations(task.stages)))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """The law against the orders of Table 1 and against all, and whether nearer orders do better."""
    stages, law = stages_of(records), law_of(records)
    derived = derive_law(records, stages=stages)
    findings = decide_claims(_table_1_claims(records), convergence(records))
    rank = rank_of(records, law, stages, method="the paper's law, ranked on all seeds")
    if rank is not None:
        findings += _whole_findings(rank, CONSTRUCTION if has_fresh_student(records) else "")
    return Conclusion(
        findings=tuple(findings),
        tables=(
            reduction_table(permutation_records(records, stages), tolerances=LOSSES),
            _paper_table(),
            ranking_table(rank_orders(records, stages), law=law),
            *((convergence_table(derived.convergence),) if derived.convergence else ()),
        ),
        notes=(
            "Reductions are chosen on validation data; the rank is by value on test data. Orders share knobs "
            "and seeds, and every stage trains equally long.",
            *derived.notes,
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
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
    return make_table(
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


EXPERIMENT = Experiment(
    name="exhaustive",
    section="section 5, Table 1",
    question="is the law the best of all orders?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
