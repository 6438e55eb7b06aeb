"""Fronts of records: accuracy against log2 reduction of bit operations, and what a front is worth.

Operating points are *selected* on validation accuracy and *reported* by test accuracy. Losses are measured
against the baseline of the record's own seed, so a gain is a negative loss.

The value of a front is its hypervolume in doublings: the log2 reduction still to be had at each tolerated
loss, averaged over the losses with a weight fixed beforehand. With the soft weight exp(-loss / tolerance),
one network of log2 reduction r is worth r · exp(-loss / tolerance): r if lossless, about a tenth less for
each point of accuracy at the default tolerance of 10 points. It orders networks of equal reduction however
much they lose, where a hard box would call all of them worthless. A gain g is worth 1 + g / tolerance, the
straight continuation, so that no baseline, however badly trained, lets values explode. Weighted as in Zitzler
et al. (2007).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ordercomp.analysis.fronts.hypervolume import hypervolume
from ordercomp.analysis.fronts.pareto import FloatArray, is_nondominated
from ordercomp.codec import Plain
from ordercomp.records import Convention, OperatingPoint, Record

Split = Literal["validation", "test"]
Shape = Literal["soft", "hard"]

TOLERANCES = (0.002, 0.006, 0.01, 0.02)  # losses of the paper's Table 1, as fractions


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How fronts are looked at, fixed before looking: one convention, one split, one price of accuracy.

    A "soft" shape weighs a loss by exp(-loss / tolerance); a "hard" one by 1 - loss / tolerance, and nothing
    beyond: the plain hypervolume of the box, for sensitivity checks. A gain weighs 1 + gain / tolerance in
    both.
    """

    tolerance: float = 0.1  # loss, a fraction of accuracy
    shape: Shape = "soft"
    split: Split = "test"  # whose accuracy is reported; selection is on validation always
    convention: Convention = "paper"  # of the cost

    def __post_init__(self) -> None:
        if not (0 < self.tolerance <= 1):
            raise ValueError(f"tolerance must lie in (0, 1], got {self.tolerance}")
        for name, kind in (("shape", Shape), ("split", Split), ("convention", Convention)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")

    def weigh(self, losses: FloatArray) -> FloatArray:
        """Share of a reduction that counts at each loss: 1 at none, falling; above 1 for a gain."""
        straight = 1 - losses / self.tolerance
        if self.shape == "hard":
            return np.maximum(0.0, straight)
        return np.where(losses < 0, straight, np.exp(-np.maximum(losses, 0.0) / self.tolerance))


DEFAULT_SCALE = Scale()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One operating point of one record, with its cost in one convention."""

    record: Record
    point: OperatingPoint
    bitops_cr: float
    cr: float
    accuracy: float  # on validation data: what selection looks at
    reported_accuracy: float  # on the split of the scale
    loss: float  # on validation data, against the record's baseline
    reported_loss: float  # on the split of the scale

    @property
    def log2_reduction(self) -> float:
        """Doublings of the reduction of bit operations."""
        return math.log2(self.bitops_cr)


def candidates(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> list[Candidate]:
    """List all operating points of `records`, in their order; failed records have none.

    Raises ValueError if a point lacks the convention of `scale`: conventions are never mixed.
    """
    return [_candidate(record, point, scale) for record in records for point in record.points]


def front(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> list[Candidate]:
    """List the operating points that no other beats in both validation loss and reduction.

    Sorted by rising reduction; equal points are all kept; no points give an empty list.
    """
    every = candidates(records, scale=scale)
    if not every:
        return []
    mask = is_nondominated([(one.loss, -one.bitops_cr) for one in every])
    return sorted((one for one, keep in zip(every, mask, strict=True) if keep), key=lambda one: one.bitops_cr)


def front_value(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> float:
    """Value of the front of `records` in doublings, larger is better; see the top of this file.

    Points are selected on validation and valued by the split of `scale`. Points with a reduction below 1
    add nothing. Without any point the value is 0, that of leaving the network alone. More networks can
    only raise a value: compare equal numbers.
    """
    return value_of(front(records, scale=scale), scale=scale)


def value_of(chosen: Sequence[Candidate], *, scale: Scale) -> float:
    """Value of a front that `front` made with this scale; see `front_value`."""
    if not chosen:
        return 0.0
    weights = scale.weigh(np.array([one.reported_loss for one in chosen]))
    reductions = np.array([one.log2_reduction for one in chosen])
    return hypervolume(np.column_stack([-weights, -reductions]), (0.0, 0.0))


def record_value(record: Record, *, scale: Scale = DEFAULT_SCALE) -> float:
    """Value of one network's own operating points in doublings; a failed record is worth 0."""
    return front_value([record], scale=scale)


def best_reductions(
    records: Iterable[Record],
    *,
    tolerances: Sequence[float] = TOLERANCES,
    scale: Scale = DEFAULT_SCALE,
) -> dict[float, Candidate | None]:
    """Map each tolerated validation loss (a fraction) to the point of largest reduction within it.

    None where no point is within. Ties go to the smaller loss, then to the shorter order. What the point
    loses on test data stands in its `reported_loss`, which may exceed the tolerance: report it as it is.
    """
    every = candidates(records, scale=scale)
    best: dict[float, Candidate | None] = {}
    for tolerance in tolerances:
        within = [one for one in every if one.loss <= tolerance + 1e-12]
        best[tolerance] = min(
            within,
            key=lambda one: (-one.bitops_cr, one.loss, len(one.record.order), one.record.sequence),
            default=None,
        )
    return best


def _candidate(record: Record, point: OperatingPoint, scale: Scale) -> Candidate:
    cost = _cost(record, point, scale.convention)
    loss = record.baseline.accuracy - point.accuracy
    on_test = scale.split == "test"
    return Candidate(
        record=record,
        point=point,
        bitops_cr=cost["bitops_cr"],
        cr=cost["cr"],
        accuracy=point.accuracy,
        reported_accuracy=point.test_accuracy if on_test else point.accuracy,
        loss=loss,
        reported_loss=record.baseline.test_accuracy - point.test_accuracy if on_test else loss,
    )


def _cost(record: Record, point: OperatingPoint, convention: Convention) -> dict[str, float]:
    where = f"record {record.order!r} (seed {record.seed})"
    held: Plain = {"bitops_cr": point.bitops_cr, "cr": point.cr}
    if convention != "paper":
        if convention not in point.extra:
            raise ValueError(f"convention {convention!r} must be in every point, but {where} has one without")
        held = point.extra[convention]
    cost = {name: float(held[name]) for name in ("bitops_cr", "cr")}
    if not 0 < cost["bitops_cr"] < math.inf:
        raise ValueError(f"bitops_cr must be positive and finite, got {cost['bitops_cr']} in {where}")
    return cost
