"""What one record is worth, measured once: its value in doublings on both splits, and what sets it apart."""

from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.fronts import Scale, candidates, compare_fronts, record_value
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
        (mine,), (theirs,) = (candidates([side.record], scale=self.scale) for side in (self, other))
        return mine.log2_reduction - theirs.log2_reduction, theirs.reported_loss - mine.reported_loss


def measure(record: Record, *, scale: Scale) -> Measured | None:
    """Value a record; None for a failed one.

    Raises ValueError if a point lacks the cost convention of `scale`, or its cost is no positive number.
    """
    if record.error is not None or not record.points:
        return None
    value = _value(record, scale)
    test = value if scale.split == "test" else _value(record, replace(scale, split="test"))
    return Measured(record, scale, value, test)


def _value(record: Record, scale: Scale) -> float:
    """The value by `record_value`, by a shortcut where there is a single point."""
    if len(record.points) > 1:
        return record_value(record, scale=scale)
    (point,) = candidates([record], scale=scale)
    return float(scale.weigh(np.array([point.reported_loss]))[0]) * max(0.0, point.log2_reduction)
