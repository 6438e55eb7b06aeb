"""Experiment: what does each stage reach alone? Its front over a ladder of knob settings."""

from collections.abc import Sequence

from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import reduction_table
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.studies.claims import LOSSES, Claim, convergence, decide_claims, even_out, measured_table
from ordercomp.studies.experiment import (
    Conclusion,
    Experiment,
    Part,
    by_order,
    by_sequence,
    ladder,
    one_part,
    words_table,
)
from ordercomp.studies.facts import LAW, PAPER
from ordercomp.studies.preset import Preset


def _plan(task: Task, preset: Preset) -> list[Part]:
    """Every stage of the task alone at the settings of its ladder."""
    return [one_part(task, preset, ladder(task, preset, task.stages))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """What section 3.1 says about single stages, front against front of equally many networks."""
    alone = _alone(records)
    claims = []
    for pair, said in PAPER.singles.items():
        first, second = tuple(pair)
        if first in alone and second in alone:
            sides = even_out(alone[first], alone[second])
            claims.append(Claim(text=said.words, first=sides[0], second=sides[1], kind=said.relation))
    every = [record for front in alone.values() for record in front]
    return Conclusion(
        findings=tuple(decide_claims(claims, convergence(records))),
        tables=(
            reduction_table(every, tolerances=LOSSES),
            measured_table("Each network", by_sequence(every).values()),
            words_table(
                "The paper, section 3.1 (ResNet34, CIFAR-10; read off scatter plots, no numbers are printed)",
                ("stages", "in its words"),
                ((", ".join(pair), said.words) for pair, said in PAPER.singles.items()),
            ),
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the front of every stage."""
    return {"fronts": to_svg(panels_plot([Panel(title="Each stage alone", series=_alone(records))]))}


def _alone(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each stage alone, in the order of the law; F is no compression."""
    orders = by_order(records)
    letters = [*LAW, *sorted(order for order in orders if len(order) == 1 and order not in LAW + "F")]
    return {letter: orders[letter] for letter in letters if letter in orders}


EXPERIMENT = Experiment(
    name="single",
    section="section 3.1, the single curves of figure 2",
    question="what does each stage reach alone?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
