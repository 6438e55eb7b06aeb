"""What one record is worth, measured once: its value in doublings on both splits, and what sets it apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.fronts import Candidate, Scale, candidates, front, value_of
from ordercomp.analysis.fronts.curve import Curve
from ordercomp.records import Record


@dataclass(frozen=True, slots=True)
class Measured:
    """A record with its value; see `fronts` for what a value is."""

    record: Record
    scale: Scale
    front: tuple[Candidate, ...]  # its own operating points that no other of them beats
    curve: Curve  # of the front
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
            return self.curve.gains_over(other.curve, tolerance=self.scale.tolerance)
        (mine,), (theirs,) = self.front, other.front
        return mine.log2_reduction - theirs.log2_reduction, theirs.reported_loss - mine.reported_loss


def measure(record: Record, *, scale: Scale) -> Measured | None:
    """Value a record; None for a failed one.

    Raises ValueError if a point lacks the cost convention of `scale`, or its cost is no positive number.
    """
    if record.error is not None or not record.points:
        return None
    chosen = _front(record, scale)
    value = test_value = _value(chosen, scale)
    if scale.split != "test":
        seen = replace(record, points=tuple(one.point for one in chosen))  # what is selected stays the same
        on_test = replace(scale, split="test")
        test_value = _value(candidates([seen], scale=on_test), on_test)
    return Measured(record, scale, chosen, Curve.of(chosen), value, test_value)


def _front(record: Record, scale: Scale) -> tuple[Candidate, ...]:
    single = len(record.points) == 1
    return tuple(candidates([record], scale=scale) if single else front([record], scale=scale))


def _value(chosen: Sequence[Candidate], scale: Scale) -> float:
    """The value of the front, by a shortcut where there is a single point."""
    if len(chosen) > 1:
        return value_of(chosen, scale=scale)
    (point,) = chosen
    return float(scale.weigh(np.array([point.reported_loss]))[0]) * max(0.0, point.log2_reduction)
