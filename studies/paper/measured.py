"""The table of measured networks that several experiments end with."""

from collections.abc import Sequence

import numpy as np

from ordercomp.analysis.fronts import DEFAULT_SCALE, candidates
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.records import Record
from ordercomp.sequence import StageSequence

NAMES = ("sequence", "test accuracy", "change", "BitOpsCR", "CR", "with exits", "epochs", "seeds")
TOLERATED = 0.01  # validation accuracy, a fraction, that early leaving may cost


def measured_table(title: str, groups: Sequence[Sequence[Record]]) -> Table:
    """One row per group of records of the same sequence, over its seeds: accuracy, reductions, epochs.

    Failed records are passed over, groups without any point left out, equal rows shown once.
    """
    rows = [row for some in groups if (row := _row([one for one in some if one.points])) is not None]
    return Table(
        title=title,
        columns=tuple(Column(name, "left" if name == "sequence" else "right") for name in NAMES),
        rows=tuple(dict.fromkeys(rows)),
        note="At the end of the network, no early leaving: means over seeds, of reductions geometric ones. "
        "With exits: BitOpsCR at the cheapest threshold that costs at most a point of validation accuracy.",
    )


def short_name(text: str) -> str:
    """The order of a sequence, with the bits of its Q: `DPQE at 2w4a`."""
    steps = StageSequence.parse(text).steps
    bits = [f"{s.settings['weights']}w{s.settings['activations']}a" for s in steps if s.stage == "Q"]
    return "".join(step.stage for step in steps) + (f" at {' and '.join(bits)}" if bits else "")


def _row(some: Sequence[Record]) -> tuple[str, ...] | None:
    if not some:
        return None
    ends = [next((p for p in one.points if p.threshold is None), one.points[0]) for one in some]
    accuracy = float(np.mean([end.test_accuracy for end in ends]))
    change = accuracy - float(np.mean([one.baseline.test_accuracy for one in some]))
    leaving = ""
    if all(len(one.points) > 1 for one in some):
        leaving = _times([_cheapest(one, end.accuracy) for one, end in zip(some, ends, strict=True)])
    return (
        some[0].sequence,
        f"{100 * accuracy:.2f} %",
        f"{100 * change:+.2f}",
        _times([end.bitops_cr for end in ends]),
        _times([end.cr for end in ends]),
        leaving,
        f"{some[0].epochs:g}",
        str(len({one.seed for one in some})),
    )


def _cheapest(record: Record, end_accuracy: float) -> float:
    allowed = end_accuracy - TOLERATED - 1e-12
    found = candidates([record], scale=DEFAULT_SCALE)
    return max(one.bitops_cr for one in found if one.accuracy >= allowed)


def _times(reductions: Sequence[float]) -> str:
    return f"{2.0 ** float(np.mean(np.log2(reductions))):.3g}×"
