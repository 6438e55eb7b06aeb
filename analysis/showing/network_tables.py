"""Tables of the networks to take: what each saves, what it loses, and the command that makes it."""

import itertools
import shlex
from collections.abc import Iterable, Sequence

from ordercomp.analysis.fronts import DEFAULT_SCALE, TOLERANCES, Candidate, Scale, best_reductions
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.report.tables import CONVENTIONS, Column, Table, loss_text, times_text
from ordercomp.records import Record


def best_network_table(
    records: Iterable[Record],
    *,
    tolerances: Sequence[float] = TOLERANCES,
    scale: Scale = DEFAULT_SCALE,
) -> Table:
    """Tabulate the most compressed network within each tolerated loss, and the command that makes it.

    Tolerances that the same operating point serves share a row.
    """
    best = best_reductions(records, tolerances=tolerances, scale=scale)
    shared = itertools.groupby(best.items(), key=lambda item: item[1])
    rows = tuple(_network_row([tolerance for tolerance, _ in some], found) for found, some in shared)
    names = (
        "tolerated loss",
        "reduction",
        "storage",
        "test accuracy",
        "test loss",
        "seed",
        "threshold",
        "command",
    )
    left = {"command"}
    return Table(
        title="Best network within each tolerated loss",
        columns=tuple(Column(name, "left" if name in left else "right") for name in names),
        rows=rows,
        note="Chosen on validation accuracy, so the loss on test data may be larger. Reduction: of bit "
        f"operations, counted {CONVENTIONS[scale.convention]}; threshold: confidence to leave early.",
    )


def network_table(picks: Iterable[Pick]) -> Table:
    """Tabulate the networks to take: what each saves and loses, and its command."""
    rows = tuple(map(_pick_row, picks))
    names = ("tolerated loss", "order", "reduction", "storage", "test accuracy", "test loss", "seed", "note")
    left = {"order", "note"}
    return Table(
        title="Networks to take",
        columns=(*(Column(name, "left" if name in left else "right") for name in names), Column("command")),
        rows=rows,
        note="Chosen on validation data; test loss in points of accuracy, on images that chose nothing, with "
        "its 95 % interval. Reduction: of bit operations.",
    )


def compress_command(record: Record) -> str:
    """Return the command line that trains the record's sequence at its seed and saves the network."""
    task, seed = shlex.quote(record.extra.get("task_source", record.task)), record.seed
    return (
        f'ordercomp compress "{record.sequence}" --task {task} --seed {seed} --out {record.order}.safetensors'
    )


def _network_row(tolerances: Sequence[float], found: Candidate | None) -> tuple[str, ...]:
    within = ", ".join(map(loss_text, tolerances))
    if found is None:
        return (within, "–", "", "", "", "", "", "no network is within this loss")
    threshold = found.point.threshold
    return (
        within,
        times_text(found.bitops_cr),
        times_text(found.cr),
        f"{100 * found.reported_accuracy:.2f} %",
        f"{100 * found.reported_loss:+.2f}",
        str(found.record.seed),
        "" if threshold is None else f"{threshold:.3g}",
        compress_command(found.record),
    )


def _pick_row(pick: Pick) -> tuple[str, ...]:
    told = f"{100 * pick.test_loss:+.2f}"
    if pick.interval is not None:
        low, high = pick.interval
        told += f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return (
        loss_text(pick.loss),
        pick.order,
        times_text(pick.reduction),
        times_text(pick.storage),
        f"{100 * pick.test_accuracy:.2f} %",
        told,
        str(pick.seed),
        pick.note,
        pick.command,
    )
