"""Experiment: is the law best among all orders? The D-first orders that the paper prints, then all."""

from collections.abc import Sequence

import numpy as np

from ordercomp.analysis.checks import Exhaustive, exhaustive
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.ranking import permutation_records, permutation_values, rank_orders
from ordercomp.analysis.report.plots import distance_plot, pareto_plot, ranking_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table, convergence_table, ranking_table, reduction_table
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    Claim,
    best_verdict,
    by_order,
    chance_of_best,
    convergence,
    has_fresh_student,
    judge_claims,
    latest,
    stages_of,
)
from ordercomp.studies.experiment import (
    Experiment,
    Finding,
    Judgement,
    Part,
    Verdict,
    one_part,
    restrict,
    sequences,
)
from ordercomp.studies.facts import LAW, TABLE_1, TABLE_1_LOSSES, TABLE_1_NOTE
from ordercomp.studies.preset import Preset

LOSSES = (0.002, 0.006, 0.01, 0.02, 0.05, 0.1)  # the paper's, and what small networks lose
RESAMPLES = 2000


def parts(task: Task, preset: Preset) -> list[Part]:
    """All permutations of the task's stages, with control arms."""
    prepared = preset.prepare(task)
    return [one_part(prepared, preset, sequences(prepared, preset, permutations(task.stages)))]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge the law against the orders of Table 1 and against all, and whether nearer orders do better."""
    found = [record for record in latest(records) if record.order]
    stages = stages_of(found)
    law = restrict(LAW, stages)
    ranking = rank_orders(found, stages)
    shown = permutation_records(found, stages)
    derived = derive_law(found, stages=stages)
    findings = _table_1_findings(found, stages, law)
    verified = _verify(found, stages, law)
    if verified is not None:
        findings += _whole_findings(verified, CONSTRUCTION if has_fresh_student(found) else "")
    return Judgement(
        findings=tuple(findings),
        tables=(
            reduction_table(shown, tolerances=LOSSES),
            _paper_table(),
            ranking_table(ranking, law=law),
            *((convergence_table(derived.convergence),) if derived.convergence else ()),
        ),
        notes=(
            "Reductions are chosen on validation data; the rank is by value on test data. Orders share knobs "
            "and seeds, and every stage trains equally long.",
            *derived.notes,
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Fronts of all orders, their ranking, and value against distance from the law."""
    found = [record for record in latest(records) if record.order]
    stages = stages_of(found)
    law = restrict(LAW, stages)
    shown = permutation_records(found, stages)
    ranking = rank_orders(found, stages)
    highlights = {law: "law", **({ranking[0].order: "best"} if ranking and ranking[0].order != law else {})}
    return {
        "fronts": to_svg(pareto_plot(shown, highlights=highlights)),
        "ranking": to_svg(ranking_plot(ranking, highlights=highlights)),
        "distance": to_svg(distance_plot(ranking, law=law)),
    }


def _table_1_findings(records: Sequence[Record], stages: Order, law: Order) -> list[Finding]:
    """The law against each of the other orders that the paper prints, restricted to the stages at hand."""
    orders = by_order(records)
    rivals = dict.fromkeys(restrict(order, stages) for order in TABLE_1)
    claims = [
        Claim(
            text=f"{law} reaches larger reductions than {rival} (Table 1)",
            first=orders.get(law, []),
            second=orders.get(rival, []),
        )
        for rival in rivals
        if rival != law and len(rival) == len(stages)
    ]
    return judge_claims(claims, convergence(records))


def _verify(records: Sequence[Record], stages: Order, law: Order) -> Exhaustive | None:
    """The rank of the paper's law, which these records had no part in choosing; None without all orders."""
    values, seeds = permutation_values(RunTable.of(records, stages=stages))
    if not seeds:
        return None
    return exhaustive(
        values,
        [law] * len(seeds),
        method="the paper's law, ranked on all seeds",
        resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )


def _whole_findings(found: Exhaustive, caveat: str) -> list[Finding]:
    near: Verdict = "undecided"
    if found.seeds >= RULES.least_seeds and abs(found.kendall_tau) >= 0.3:
        near = "agree" if found.kendall_tau < 0 else "disagree"
    return [
        Finding(
            claim=f"{found.order} is the best of all {found.of} orders",
            measured=f"rank {found.rank}, {found.regret:.2f} doublings behind the best ({found.best})"
            f"{chance_of_best(found)}",
            verdict=best_verdict(found),
            seeds=found.seeds,
            effect=-found.regret,
            caveat=caveat,
        ),
        Finding(
            claim="orders nearer to the law do better",
            measured=f"Kendall's tau between distance and value {found.kendall_tau:+.2f} "
            "(decided from 0.3 on, with three seeds or more)",
            verdict=near,
            seeds=found.seeds,
            caveat=caveat,
        ),
    ]


def _paper_table() -> Table:
    columns = (Column("order"), *(Column(f"loss ≤ {loss:g} %", "right") for loss in TABLE_1_LOSSES))
    rows = tuple(
        (order, *("?" if value is None else f"{value:.0f}×" for value in values))
        for order, values in TABLE_1.items()
    )
    return Table(
        title="The paper, Table 1 (ResNet34, CIFAR-10, one run each)",
        columns=columns,
        rows=rows,
        note=TABLE_1_NOTE,
        marked=frozenset({0}),
    )


EXPERIMENT = Experiment(
    name="exhaustive",
    section="section 5, Table 1",
    question="is the law the best of all orders?",
    parts=parts,
    judge=judge,
    figures=figures,
)
