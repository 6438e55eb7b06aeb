"""What the networks of each order reach: a curve per order over tolerated losses, and a dot per network."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ordercomp.analysis.fronts import Candidate, Scale, candidates
from ordercomp.analysis.fronts.pareto import FloatArray
from ordercomp.analysis.report.svg import LOSS_GRID
from ordercomp.records import Record
from ordercomp.sequence import Order

LEAST_LOSS = 1e-6  # where what loses nothing stands on a logarithmic axis


def reach_curves(records: Iterable[Record], *, scale: Scale) -> dict[Order, FloatArray]:
    """The log2 reduction that each order reaches within each loss of `LOSS_GRID`, at least 0.

    Read on validation and on test images, and averaged over both and over the seeds of the order.
    """
    runs: dict[Order, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        runs[record.order][record.seed].append(record)
    return {
        order: np.mean([_reached(candidates(found, scale=scale)) for found in by_seed.values()], axis=0)
        for order, by_seed in sorted(runs.items())
    }


@dataclass(frozen=True, slots=True)
class Dots:
    """Operating points as columns, and the names that their numbers stand for."""

    points: Mapping[str, Sequence[float]]
    orders: tuple[Order, ...]
    sequences: tuple[str, ...]


def network_dots(records: Sequence[Record], *, scale: Scale) -> Dots:
    """Every operating point for the script of a page."""
    orders: dict[str, int] = {}
    sequences: dict[str, int] = {}
    columns: dict[str, list[float]] = {name: [] for name in ("x", "y", "order", "sequence", "seed", "lost")}
    for one in candidates(records, scale=scale):
        row = (
            round(float(np.log10(max(one.loss, LEAST_LOSS))), 3),
            round(one.log2_reduction, 2),
            orders.setdefault(one.record.order, len(orders)),
            sequences.setdefault(one.record.sequence, len(sequences)),
            one.record.seed,
            round(one.reported_loss, 4),
        )
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return Dots(columns, tuple(orders), tuple(sequences))


def _reached(points: Sequence[Candidate]) -> FloatArray:
    heights = np.array([one.log2_reduction for one in points])
    halves = [np.array([one.loss for one in points]), np.array([one.reported_loss for one in points])]
    curves = [
        np.max(np.where(losses[None] <= LOSS_GRID[:, None], heights[None], 0.0), axis=1, initial=0.0)
        for losses in halves
    ]
    mean: FloatArray = np.mean(curves, axis=0)
    return mean
