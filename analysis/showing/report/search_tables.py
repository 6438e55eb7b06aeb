"""Tables of a search, from the content of its search.json, for the terminal and for its page alike."""

import itertools
from collections.abc import Sequence

from ordercomp.analysis.report.elements import duration
from ordercomp.analysis.report.tables import CONVENTIONS, Column, Table, loss_text, times_text
from ordercomp.analysis.showing.search_file import BestPoint, SearchFile, SearchPoint

MOST_STEPS = 8  # rows of the progress
NO_EVIDENCE = "A sampler tries what it likes more often, with better knobs: this is no evidence for a law."


def network_table(search: SearchFile) -> Table:
    """Tabulate the best network within each tolerated loss, and the command that makes it.

    Tolerances that the same operating point serves share a row.
    """
    shared = itertools.groupby(search.best.items(), key=lambda item: item[1])
    rows = [_network_row([float(tolerance) for tolerance, _ in some], found) for found, some in shared]
    right = ("tolerated loss", "reduction", "storage", "latency", "test accuracy", "loss", "threshold")
    return _table(
        "Best network within each tolerated loss",
        [*(Column(name, "right") for name in right), Column("command")],
        rows,
        note="Chosen on validation data, where the loss is measured too. Reduction: of bit operations, "
        f"counted {CONVENTIONS[search.objectives.convention]}; threshold: confidence to leave early.",
    )


def front_table(search: SearchFile) -> Table:
    """Tabulate the operating points that no other beats."""
    rows = [(point.sequence, *_point_cells(point)) for point in search.front]
    right = ("reduction", "storage", "latency", "test accuracy", "loss", "threshold")
    return _table(
        "Front of the search",
        [Column("sequence"), *(Column(name, "right") for name in right)],
        rows,
        note=f"No other point beats these in {', '.join(search.objectives.names)} on validation data.",
    )


def order_table(search: SearchFile, *, most: int | None = None) -> Table:
    """Tabulate the orders by the value of their networks, the `most` best of them; the law's is marked."""
    law = search.law.order if search.law else None
    shown = search.orders[:most]
    rows = [
        (str(rank), one.order, str(one.networks), f"{one.value:.2f}", str(one.on_front))
        for rank, one in enumerate(shown, start=1)
    ]
    names = ("rank", "order", "networks", "value", "on the front")
    return _table(
        "Orders by the value of their networks",
        [Column(name, "left" if name == "order" else "right") for name in names],
        rows,
        note=f"{len(shown)} of {len(search.orders)} tried orders, value in doublings. {NO_EVIDENCE}",
        marked=frozenset(place for place, one in enumerate(shown) if one.order == law),
    )


def importance_table(search: SearchFile) -> Table:
    """Tabulate the share of each objective's variance that each parameter explains, largest first."""
    shares = search.importances
    names = {name for some in shares.values() for name in some}
    ranked = sorted(names, key=lambda name: (-sum(some.get(name, 0.0) for some in shares.values()), name))
    return _table(
        "Which parameters mattered",
        [Column("parameter"), *(Column(objective, "right") for objective in shares)],
        [
            (name, *(f"{100 * some.get(name, 0.0):.0f} %" if some else "" for some in shares.values()))
            for name in ranked
        ],
        note="Share of the variance of an objective that a parameter explains (fANOVA), over the trials with "
        "the most common set of parameters.",
    )


def progress_table(search: SearchFile) -> Table:
    """Tabulate the value after some numbers of trainings, evenly spread, the last included."""
    steps = search.progress
    places = sorted({round(len(steps) * part / MOST_STEPS) - 1 for part in range(1, MOST_STEPS + 1)} - {-1})
    rows = [
        (
            str(steps[place].trainings),
            duration(steps[place].seconds),
            str(steps[place].networks),
            f"{steps[place].value:.2f}",
        )
        for place in places
    ]
    names = ("trainings", "time", "networks", "value")
    return _table(
        "Value of the front over time",
        [Column(name, "right") for name in names],
        rows,
        note="Stage trainings, the time that they took, and the value of what was found, in doublings of the "
        f"reduction of {'storage' if search.cost == 'log2_cr' else 'bit operations'}.",
    )


def _network_row(tolerances: Sequence[float], found: BestPoint | None) -> tuple[str, ...]:
    within = ", ".join(map(loss_text, tolerances))
    if found is None:
        return (within, "–", "", "", "", "", "", "no network is within this loss")
    return (within, *_point_cells(found.point), found.compress)


def _point_cells(point: SearchPoint) -> tuple[str, ...]:
    latency, threshold = point.latency_ms, point.threshold
    return (
        times_text(point.bitops_cr),
        times_text(point.cr),
        "" if latency is None else f"{latency:.3g} ms",
        f"{100 * point.test_accuracy:.2f} %",
        f"{100 * point.loss:+.2f}",
        "" if threshold is None else f"{threshold:.3g}",
    )


def _table(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[str, ...]],
    *,
    note: str,
    marked: frozenset[int] = frozenset(),
) -> Table:
    """Build the table without the columns that are empty, such as a latency that nobody measured."""
    kept = [place for place in range(len(columns)) if not rows or any(row[place] for row in rows)]
    return Table(
        title=title,
        columns=tuple(columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
        note=note,
        marked=marked,
    )
