"""What one record is worth, measured once: its value in doublings on both splits, and what sets it apart."""

import math
from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.fronts import Scale, compare_fronts, record_value
from ordercomp.records import Record

__all__ = ["Measured", "measure"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A record with its value; see `fronts` for what a value is."""

    record: Record
    scale: Scale
    value: float  # in doublings, on the split of the scale
    test_value: float  # in doublings, on test data

    @property
    def end_accuracy(self) -> float:
        """Validation accuracy with every sample going to the end, a fraction."""
        ends = [point.accuracy for point in self.record.points if point.threshold is None]
        return ends[0] if ends else max(point.accuracy for point in self.record.points)

    def over(self, other: "Measured") -> tuple[float, float]:
        """Return log2 reduction gained over `other` at equal loss, and accuracy gained at equal reduction.

        Two single operating points are compared outright: the one with its reduction, the other with its
        accuracy.
        """
        if len(self.record.points) > 1 or len(other.record.points) > 1:
            compared = compare_fronts([self.record], [other.record], scale=self.scale)
            return compared.log2_reduction, compared.accuracy
        mine, theirs = self.record.points[0], other.record.points[0]
        gained = mine.accuracy - theirs.accuracy
        if self.scale.split == "test":
            gained = mine.test_accuracy - theirs.test_accuracy
        return math.log2(mine.bitops_cr / theirs.bitops_cr), gained


def measure(record: Record, *, scale: Scale) -> Measured | None:
    """Value a record; None for a failed one.

    Raises ValueError if a point lacks the cost convention of `scale`.
    """
    if record.error is not None or not record.points:
        return None
    value = _value(record, scale)
    test = value if scale.split == "test" else _value(record, replace(scale, split="test"))
    return Measured(record, scale, value, test)


def _value(record: Record, scale: Scale) -> float:
    """The value by `record_value`, by a shortcut where there is a single point in the plain convention."""
    if len(record.points) > 1 or scale.convention != "paper":
        return record_value(record, scale=scale)
    (point,), baseline = record.points, record.baseline
    loss = baseline.accuracy - point.accuracy
    if scale.split == "test":
        loss = baseline.test_accuracy - point.test_accuracy
    return float(scale.weigh(np.array([loss]))[0]) * max(0.0, math.log2(point.bitops_cr))
