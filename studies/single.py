"""Experiment: what does each stage reach alone? Its front over a ladder of knob settings."""

from collections.abc import Mapping, Sequence

from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table, reduction_table
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.studies.claims import (
    Claim,
    Kind,
    by_order,
    convergence,
    even_out,
    judge_claims,
    latest,
    measured_table,
)
from ordercomp.studies.experiment import Experiment, Judgement, Part, one_part, rungs
from ordercomp.studies.facts import LAW, SINGLES
from ordercomp.studies.preset import Preset

LOSSES = (0.002, 0.006, 0.01, 0.02, 0.05, 0.1)  # tolerated, fractions
KINDS: Mapping[str, Kind] = {"better": "better", "alike": "alike"}


def parts(task: Task, preset: Preset) -> list[Part]:
    """Every stage of the task alone at the settings of its ladder."""
    prepared = preset.prepare(task)
    return [one_part(prepared, preset, [rung for s in task.stages for rung in rungs(prepared, preset, s)])]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge what section 3.1 says about single stages, front against front of equally many networks."""
    alone = _alone(records)
    claims = []
    for (first, second), (kind, words) in SINGLES.items():
        if first in alone and second in alone:
            sides = even_out(alone[first], alone[second])
            claims.append(Claim(text=words, first=sides[0], second=sides[1], kind=KINDS[kind]))
    every = [record for some in alone.values() for record in some]
    texts = dict.fromkeys(record.sequence for record in every)
    return Judgement(
        findings=tuple(judge_claims(claims, convergence(latest(records)))),
        tables=(
            reduction_table(every, tolerances=LOSSES),
            measured_table("Each network", [[r for r in every if r.sequence == text] for text in texts]),
            _paper_table(),
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the front of every stage."""
    return {"fronts": to_svg(panels_plot([Panel(title="Each stage alone", series=_alone(records))]))}


def _alone(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each stage alone, in the order of the law; F is no compression."""
    orders = by_order(latest(records))
    letters = [*LAW, *sorted(order for order in orders if len(order) == 1 and order not in LAW + "F")]
    return {letter: orders[letter] for letter in letters if letter in orders}


def _paper_table() -> Table:
    return Table(
        title="The paper, section 3.1 (ResNet34, CIFAR-10; read off scatter plots, no numbers are printed)",
        columns=(Column("stages"), Column("in its words")),
        rows=tuple((f"{first}, {second}", words) for (first, second), (_, words) in SINGLES.items()),
    )


EXPERIMENT = Experiment(
    name="single",
    section="section 3.1, the single curves of figure 2",
    question="what does each stage reach alone?",
    parts=parts,
    judge=judge,
    figures=figures,
)
