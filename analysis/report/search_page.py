"""Assembly of the page of a search: the networks to take first, then how they were found."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.report.elements import Fact, Picture, inline, notices_of, provenance_of, render
from ordercomp.analysis.report.plots import progress_plot, search_plot, to_svg
from ordercomp.analysis.report.result_files import SearchFile, SearchPoint
from ordercomp.analysis.report.tables import (
    CONVENTIONS,
    Table,
    duration_text,
    loss_text,
    percent_text,
    points_text,
    rows_by_loss,
    threshold_text,
    times_text,
)
from ordercomp.codec import encode
from ordercomp.files import replace_file
from ordercomp.records import Record, metric_of
from ordercomp.sequence import Order

MOST_ORDERS = 25
MOST_STEPS = 8  # rows of the progress
NO_EVIDENCE = "A sampler tries what it likes more often, with better knobs: this is no evidence for a law."
MOST_LOSS = 0.06  # of accuracy, beyond which nothing is drawn if there is something within
_POINT_NAMES = ("reduction", "storage", "latency", "test accuracy", "loss", "threshold")


def write_search_report(path: Path | str, search: SearchFile, records: Iterable[Record]) -> None:
    """Write one self-contained HTML page about `search`, the content of a search.json, and its records.

    The records are drawn as they are: leave out the operating points that break a constraint. The same input
    gives the same bytes. The file is replaced at once. Raises OSError if it cannot be written, ValueError if
    records lack the cost convention of the search.
    """
    replace_file(Path(path), render("search_page.html.j2", _content(search, list(records))))


def search_headline(search: SearchFile) -> str:
    """Say what the best network saves within the loss that the task tolerates, or within the next larger one.

    Where only smaller losses have a network, it is that of the largest of them.
    """
    points = {tolerance: best.point for tolerance, best in search.best.items() if best is not None}
    if not points:
        return f"No network loses at most {loss_text(max(map(float, search.best)))}."
    tolerance = min(points, key=lambda text: (float(text) < search.loss, abs(float(text) - search.loss)))
    best = points[tolerance]
    saving = {
        "log2_bitops_cr": f"{times_text(best.bitops_cr)} fewer bit operations",
        "log2_cr": f"{times_text(best.cr)} less storage",
        "latency_ms": f"{best.latency_ms or 0:.3g} ms an image",
    }[search.cost]
    return f"{saving}, losing at most {loss_text(float(tolerance))}."


def law_sentence(search: SearchFile) -> str:
    """Say how the law's order fared among the orders tried; empty if there is no law to speak of."""
    law = search.law
    if law is None:
        return ""
    what = f"The {law.role} of the {law.evidence} evidence in this study is {law.order}"
    if law.rank is None:
        return f"{what}; the search did not try it."
    rank = f"{what}: rank {law.rank} of {law.of} tried orders of these stages"
    values = {score.order: score.value for score in search.orders if sorted(score.order) == sorted(law.order)}
    best = max(values, key=values.__getitem__)
    worth = f"worth {values[law.order]:.2f} doublings"
    if best == law.order:
        return f"{rank}, {worth}."
    return f"{rank}, {worth}; the best of them is {best}, worth {values[best]:.2f}."


def _content(search: SearchFile, records: Sequence[Record]) -> dict[str, object]:
    metric = metric_of(records)
    return {
        "search": search,
        "headline": search_headline(search),
        "asked": _asked(search).replace("accuracy", metric),
        "facts": _facts(search),
        "law": law_sentence(search),
        "pictures": _pictures(search, records),
        "network_table": network_table(search).about(metric),
        "front_table": front_table(search).about(metric),
        "progress_table": progress_table(search),
        "order_table": order_table(search, most=MOST_ORDERS),
        "importance_table": importance_table(search),
        "notes": notices_of(records),
        "provenance": _provenance(search, records),
    }


def _asked(search: SearchFile) -> str:
    """The question in a sentence."""
    objectives = search.objectives
    asked = f"Searched for {' and '.join(objectives.names)}"
    limits = []
    if objectives.max_loss is not None:
        limits.append(f"a loss of at most {loss_text(objectives.max_loss)}")
    if objectives.max_bytes is not None:
        limits.append(f"at most {objectives.max_bytes:g} bytes")
    return f"{asked}{' within ' + ' and '.join(limits) if limits else ''}, on validation data."


def _facts(search: SearchFile) -> list[Fact]:
    facts = [
        Fact(str(search.networks), "networks measured"),
        Fact(str(len(search.front)), "operating points on the front"),
        Fact(f"{search.value:.2f}", "value of the front, in doublings"),
    ]
    if search.progress:
        last = search.progress[-1]
        facts.append(Fact(str(last.trainings), f"stage trainings, {duration_text(last.seconds)}"))
    return facts


def _pictures(search: SearchFile, records: Sequence[Record]) -> dict[str, Picture]:
    """Draw what there are data for; the progress only where its value is that of bit operations."""
    if not any(record.points for record in records):
        return {}
    metric = metric_of(records)
    scale = Scale(split="validation", convention=search.objectives.convention)
    pictures = {
        "fronts": inline(
            to_svg(search_plot(records, highlights=_highlights(search), scale=scale, most_loss=MOST_LOSS)),
            f"{metric[0].upper()}{metric[1:]} against reduction of bit operations. Orange: the front of the "
            "whole search; grey: the fronts of the other orders. Up and to the right is better. What loses "
            f"more than {loss_text(MOST_LOSS)} is left out.",
        )
    }
    if search.cost != "log2_cr":
        pictures["progress"] = inline(
            to_svg(progress_plot(records, scale=scale)),
            "Value of the best networks pictures, network by network.",
        )
    return pictures


def _highlights(search: SearchFile) -> dict[Order, str]:
    """The law's order, and the best among those with the most stages."""
    roles = {search.law.order: search.law.role} if search.law else {}
    if winner := search.winner:
        best = f"best, of {len(winner)} stages"
        roles[winner] = f"{roles[winner]}, {best}" if winner in roles else best
    return roles


def _provenance(search: SearchFile, records: Sequence[Record]) -> list[tuple[str, str]]:
    trials = ", ".join(f"{count} {state}" for state, count in encode(search.trials).items() if count)
    return [
        ("task", search.task),
        ("study", search.study),
        ("trials", trials),
        ("seeds", ", ".join(map(str, sorted({record.seed for record in records})))),
        *provenance_of(records),
    ]


# Tables of a search, from the content of its search.json, for the terminal and for its page alike.


def network_table(search: SearchFile) -> Table:
    """Tabulate the best network within each tolerated loss, and the command that makes it.

    Tolerances that the same operating point serves share a row.
    """
    best = {float(tolerance): best_point for tolerance, best_point in search.best.items()}
    return Table.of(
        "Best network within each tolerated loss",
        ("tolerated loss", *_POINT_NAMES, "command"),
        rows_by_loss(best, lambda best_point, _: (*_point_cells(best_point.point), best_point.compress)),
        left=("command",),
        note="Chosen on validation data, where the loss is measured too. Reduction: of bit operations, "
        f"counted {CONVENTIONS[search.objectives.convention]}; threshold: confidence to leave early.",
    ).without_empty_columns()


def front_table(search: SearchFile) -> Table:
    """Tabulate the operating points that no other beats."""
    return Table.of(
        "Front of the search",
        ("sequence", *_POINT_NAMES),
        [(point.sequence, *_point_cells(point)) for point in search.front],
        left=("sequence",),
        note=f"No other point beats these in {', '.join(search.objectives.names)} on validation data.",
    ).without_empty_columns()


def order_table(search: SearchFile, *, most: int | None = None) -> Table:
    """Tabulate the orders by the value of their networks, the `most` best of them; the law's is marked."""
    law = search.law.order if search.law else None
    shown = search.orders[:most]
    return Table.of(
        "Orders by the value of their networks",
        ("rank", "order", "networks", "value", "on the front"),
        [
            (str(rank), score.order, str(score.networks), f"{score.value:.2f}", str(score.on_front))
            for rank, score in enumerate(shown, start=1)
        ],
        left=("order",),
        note=f"{len(shown)} of {len(search.orders)} tried orders, value in doublings. {NO_EVIDENCE}",
        marked=(place for place, score in enumerate(shown) if score.order == law),
    ).without_empty_columns()


def importance_table(search: SearchFile) -> Table:
    """Tabulate the share of each objective's variance that each parameter explains, largest first."""
    shares = search.importances
    names = {name for parameters in shares.values() for name in parameters}
    ranked = sorted(
        names, key=lambda name: (-sum(parameters.get(name, 0.0) for parameters in shares.values()), name)
    )
    return Table.of(
        "Which parameters mattered",
        ("parameter", *shares),
        [
            (
                name,
                *(
                    f"{100 * parameters.get(name, 0.0):.0f} %" if parameters else ""
                    for parameters in shares.values()
                ),
            )
            for name in ranked
        ],
        left=("parameter",),
        note="Share of the variance of an objective that a parameter explains (fANOVA), over the trials with "
        "the most common set of parameters.",
    ).without_empty_columns()


def progress_table(search: SearchFile) -> Table:
    """Tabulate the value after some numbers of trainings, evenly spread, the last included."""
    steps = search.progress
    places = sorted({round(len(steps) * part / MOST_STEPS) - 1 for part in range(1, MOST_STEPS + 1)} - {-1})
    return Table.of(
        "Value of the front over time",
        ("trainings", "time", "networks", "value"),
        [
            (str(step.trainings), duration_text(step.seconds), str(step.networks), f"{step.value:.2f}")
            for step in map(steps.__getitem__, places)
        ],
        note="Stage trainings, the time that they took, and the value of what was found, in doublings of the "
        f"reduction of {'storage' if search.cost == 'log2_cr' else 'bit operations'}.",
    ).without_empty_columns()


def _point_cells(point: SearchPoint) -> tuple[str, ...]:
    """What `_POINT_NAMES` name."""
    return (
        times_text(point.bitops_cr),
        times_text(point.cr),
        "" if point.latency_ms is None else f"{point.latency_ms:.3g} ms",
        percent_text(point.test_accuracy),
        points_text(point.loss),
        threshold_text(point.threshold),
    )
