"""What a search found, in words and tables, from its search.json: for terminal and page alike."""

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

MOST_STEPS = 8  # rows of the progress
NO_EVIDENCE = "A sampler tries what it likes more often, with better knobs: this is no evidence for a law."
_POINT_NAMES = ("reduction", "storage", "latency", "test accuracy", "loss", "threshold")


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
        "log2_latency_cr": f"{times_text(best.latency_cr or 1)} faster",
        "latency_ms": f"{best.latency_ms or 0:.3g} ms an image",
    }[search.cost]
    return f"{saving}, losing at most {loss_text(float(tolerance))}."


def law_sentence(search: SearchFile) -> str:
    """Say how the law's order fared among the orders tried; empty if there is no law to speak of."""
    law = search.law
    if law is None:
        return ""
    subject = f"The {law.role} of the {law.evidence} evidence in this study is {law.order}"
    if law.rank is None:
        return f"{subject}; the search did not try it."
    rank = f"{subject}: rank {law.rank} of {law.of} tried orders of these stages"
    values = {score.order: score.value for score in search.orders if sorted(score.order) == sorted(law.order)}
    best = max(values, key=values.__getitem__)
    worth = f"worth {values[law.order]:.2f} doublings"
    if best == law.order:
        return f"{rank}, {worth}."
    return f"{rank}, {worth}; the best of them is {best}, worth {values[best]:.2f}."


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
        note="Share of the variance of an objective that a parameter explains in a forest, over the trials "
        "with the most common set of parameters.",
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
