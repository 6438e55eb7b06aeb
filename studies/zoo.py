"""Experiment: what does the law reach on the paper's models and data sets, and on the task at hand?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ordercomp.analysis.fronts import Candidate, best_reductions, group, group_by_seed
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.statistics import RULES, Rules, decide_alone, estimate_all
from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.studies.experiment import (
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    interval_of,
)
from ordercomp.studies.facts import LAW, PAPER, LawResult
from ordercomp.training.recipe import Recipe

RECIPE = Recipe(epochs=20.0, batch_size=128, learning_rate=0.1, augment=True)
HUNDREDS = 100.0  # "hundreds to over 1000 times", of a task that the paper does not have
NEGLIGIBLE = 0.01  # loss, a fraction


def _plan(design: Design) -> list[Workload]:
    """The law on the task at hand, and on the rows of Table 2 if the preset asks and their data are there."""
    preset = design.preset
    others = [preset.prepare(zoo_task(row)) for row in _present_rows()] if preset.zoo else []
    return [
        design.part(design.sequences([design.law])[:1], controlled=False),
        *(replace(design, task=task).part([task.sequence(LAW)], controlled=False) for task in others),
    ]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Each row of Table 2 that was measured, and the paper's general claim on any other task."""
    rows = {_name(row): row for row in PAPER.table_2.rows}
    measured = {task: _whole_orders(own) for task, own in _by_task(records).items()}
    absent = ", ".join(name for name in rows if name not in measured)
    return Conclusion(
        findings=tuple(_finding(task, own, rows.get(task)) for task, own in measured.items()),
        tables=(_measured_table(measured), _paper_table()),
        notes=(
            f"Not measured, as their data are not here or the preset is too small for them: {absent}."
            if absent
            else "All rows of Table 2 were measured.",
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """A panel per task with the networks after each stage of the law."""
    panels = []
    for task, own in _by_task(records).items():
        orders = by_order(own)
        longest = max(orders, key=len)
        prefixes = [longest[:length] for length in range(1, len(longest) + 1)]
        panels.append(Panel(title=task, series={order: orders.get(order, []) for order in prefixes}))
    return {"fronts": to_svg(panels_plot(panels))}


def zoo_task(row: LawResult) -> Task:
    """The task of a row of Table 2. The paper's own length of training comes from its preset."""
    net = PAPER.zoo[row.model]
    return Task(
        name=_name(row),
        model=net.large_model if row.data == "imagenet" else net.model,
        data=row.data,
        stages=LAW,
        knobs={**net.knobs, **net.exceptions.get(row.data, {}), "E": {"exits": 3}},
        recipe=RECIPE,
    )


def _present_rows() -> list[LawResult]:
    rows = PAPER.table_2.rows
    present = {data for data in dict.fromkeys(row.data for row in rows) if _is_present(data)}
    return [row for row in rows if row.data in present]


def _is_present(data: str) -> bool:
    try:
        load_data(data)
    except DataError:
        return False
    return True


def _name(row: LawResult) -> str:
    return f"{row.model}-{row.data}"


def _by_task(records: Sequence[Record]) -> dict[str, list[Record]]:
    return group(records, lambda record: record.task)


def _whole_orders(records: Sequence[Record]) -> list[Record]:
    most = max(len(record.order) for record in records)
    return [record for record in records if len(record.order) == most]


def _best(records: Sequence[Record], tolerance: float) -> list[Candidate | None]:
    """At every seed the largest reduction within the tolerated validation loss."""
    seeds = group_by_seed(records).values()
    return [best_reductions(own, tolerances=[tolerance])[tolerance] for own in seeds]


def _finding(task: str, records: Sequence[Record], row: LawResult | None) -> Finding:
    """Agree if the reduction within the loss is at least the wanted one at 95 %, over seeds."""
    if row is None:
        claim = f"{task}: the law reaches reductions of hundreds with negligible loss"
        wanted, tolerance = HUNDREDS, NEGLIGIBLE
    else:
        claim = f"{row.model} on {row.data}: {row.bitops_cr:g}× at {row.change:+.2f} points"
        wanted, tolerance = row.bitops_cr, max(0.0, -row.change / 100)
    best = _best(records, tolerance)
    logs = np.array([0.0 if point is None else max(0.0, point.log2_reduction) for point in best])
    (effect,) = estimate_all([logs - math.log2(wanted)], rules=RULES, bound=20.0)
    decision = decide_alone("better", effect, len(best), rules=Rules(margin=0.0))
    reached = ", ".join("none" if point is None else f"{point.bitops_cr:.4g}×" for point in best)
    return Finding(
        claim=claim,
        measured=f"within {100 * tolerance:.2f} points on validation data {reached}",
        verdict=decision.verdict,
        seeds=len(best),
        effect=effect.mean if best else None,
        interval=interval_of(effect),
    )


def _measured_table(by_task: Mapping[str, Sequence[Record]]) -> Table:
    return Table.of(
        "Measured: the largest reduction within a point of validation accuracy",
        ("task", "original", "compressed", "BitOpsCR", "CR", "seeds within"),
        (_measured_row(task, records) for task, records in by_task.items()),
        left=("task",),
        note="Accuracy in percent on test data; means over the seeds that have a network within the point.",
    )


def _measured_row(task: str, records: Sequence[Record]) -> tuple[str, ...]:
    measured = [record for record in records if record.points]
    best = [point for point in _best(measured, NEGLIGIBLE) if point is not None]
    cells = ("none within a point", "–", "–")
    if best:
        accuracy, loss = (
            100 * np.mean([getattr(point, name) for point in best])
            for name in ("reported_accuracy", "reported_loss")
        )
        cells = (
            f"{accuracy:.2f} ({-loss:+.2f})",
            f"{2 ** np.mean([point.log2_reduction for point in best]):.4g}×",
            f"{2 ** np.mean([math.log2(point.cr) for point in best]):.4g}×",
        )
    baseline = np.mean([record.baseline.test_accuracy for record in records])
    return task, f"{100 * baseline:.2f}", *cells, f"{len(best)} of {len(records)}"


def _paper_table() -> Table:
    return Table.of(
        "The paper, Table 2",
        ("model", "data", "original", "compressed", "BitOpsCR", "CR"),
        [
            (
                *(row.model, row.data, f"{row.original:.2f}"),
                f"{row.accuracy:.2f} ({row.change:+.2f})",
                *(f"{row.bitops_cr:g}×", f"{row.cr:g}×"),
            )
            for row in PAPER.table_2.rows
        ],
        left=("model", "data"),
        note=PAPER.table_2.note,
    )


EXPERIMENT = Experiment(
    name="zoo",
    section="section 7, Table 2",
    question="what does the law reach on other models and data?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
