"""Results as something to look at: text where it is printed, tables in a terminal, HTML in a notebook."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.tables import Table, pair_table, percent_text, threshold_text, times_text
from ordercomp.analysis.report.text import answer_words, read_verdict
from ordercomp.records import OperatingPoint, Record, metric_of

_POINTS = ("accuracy", "test accuracy", "reduction", "storage", "threshold")


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """Sentences and tables; `print` it, or leave it at the end of a notebook's cell."""

    lines: tuple[str, ...]
    tables: tuple[Table, ...] = ()

    def __repr__(self) -> str:
        return "\n\n".join(["\n".join(self.lines), *(table.to_text() for table in self.tables)]).strip()

    def __rich__(self) -> RenderableType:
        """As rich prints it: the first sentence bold, tables with rules."""
        lines = [Text(line, "bold" if place == 0 else "") for place, line in enumerate(self.lines)]
        return Group(*lines, *map(_rich_table, self.tables))

    def _repr_html_(self) -> str:
        lines = [
            f"<p>{f'<b>{html.escape(line)}</b>' if place == 0 else html.escape(line)}</p>"
            for place, line in enumerate(self.lines)
        ]
        return "".join([*lines, *map(_html_table, self.tables)])


def shown_law(file: LawFile) -> Shown:
    """The content of a law.json: the answer if it has one, the verdict on the pairs, and their table."""
    verdict = read_verdict(file.law)
    lines = () if file.answer is None else answer_words(file.answer, file.law.stages).lines
    return Shown((*lines, verdict.headline, verdict.detail), (pair_table(file.law.pairs).about(file.metric),))


def shown_records(records: Iterable[Record]) -> Shown:
    """One row for each record, with its most reduced operating point among those that lose at most 2 %.

    Where none does, it is the most accurate one.
    """
    records = list(records)
    failed = sum(record.error is not None for record in records)
    table = Table.of(
        "Records",
        ("sequence", "seed", *_POINTS, "error"),
        map(_record_row, records),
        left=("sequence", "error"),
        note="The most reduced operating point that loses at most 2 % on validation data, or the most "
        "accurate one. Reduction: of bit operations.",
    ).without_empty_columns("error")
    return Shown((f"{len(records)} records, {failed} of them failed.",), (table.about(metric_of(records)),))


def shown_front(front: Sequence[Candidate]) -> Shown:
    """One row for each operating point, in the order given."""
    table = Table.of(
        "Front",
        ("sequence", "seed", *_POINTS),
        [(point.record.sequence, str(point.record.seed), *_cells(point, point.point)) for point in front],
        left=("sequence",),
        note="Reduction: of bit operations.",
    )
    table = table.about(metric_of(point.record for point in front))
    return Shown((f"{len(front)} operating points on the front.",), (table,))


def _record_row(record: Record) -> tuple[str, ...]:
    if not record.points:
        return (record.sequence, str(record.seed), *("" for _ in _POINTS), record.error or "")
    least = record.baseline.accuracy - 0.02
    within = [point for point in record.points if point.accuracy >= least]
    best = (
        max(within, key=lambda point: point.bitops_cr)
        if within
        else max(record.points, key=lambda point: point.accuracy)
    )
    return (record.sequence, str(record.seed), *_cells(best, best), "")


def _cells(costs: Candidate | OperatingPoint, point: OperatingPoint) -> tuple[str, ...]:
    """What `_POINTS` names."""
    return (
        percent_text(point.accuracy),
        percent_text(point.test_accuracy),
        times_text(costs.bitops_cr),
        times_text(costs.cr),
        threshold_text(point.threshold),
    )


def _rich_table(table: Table) -> RenderableType:
    grid = RichTable(title=Text(table.title), caption=Text(table.note) if table.note else None)
    for name, side in table.aligned:
        grid.add_column(Text(name), justify=side)
    for place, row in enumerate(table.rows):
        grid.add_row(*map(Text, row), style="bold" if place in table.marked else "")
    return grid


def _html_table(table: Table) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
            for cell, (_, side) in zip(row, table.aligned, strict=True)
        )

    head = f"<tr>{cells('th', table.columns)}</tr>"
    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    note = f"<p>{html.escape(table.note)}</p>" if table.note else ""
    return f"<table><caption>{html.escape(table.title)}</caption>{head}{rows}</table>{note}"
