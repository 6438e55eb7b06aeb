"""A front as a curve of reported loss over log2 reduction, and what one curve gains over another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.fronts.pareto import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The points of a front: arrays of shape (points,), in its order."""

    reductions: FloatArray  # log2, of bit operations
    losses: FloatArray  # reported, fractions

    @classmethod
    def of(cls, chosen: Sequence[Candidate]) -> "Curve":
        """The curve of a front, which may be empty."""
        return cls(
            np.array([one.log2_reduction for one in chosen], dtype=np.float64),
            np.array([one.reported_loss for one in chosen], dtype=np.float64),
        )

    def loss_at_reduction(self, log2_reductions: FloatArray) -> FloatArray:
        """Smallest loss among the points of at least each log2 reduction; infinity where none is."""
        reached = self.reductions >= np.asarray(log2_reductions)[:, None] - 1e-12
        least: FloatArray = np.where(reached, self.losses, np.inf).min(axis=1, initial=np.inf)
        return least

    def reduction_at_loss(self, losses: FloatArray) -> FloatArray:
        """Largest log2 reduction among the points of at most each loss; 0 (baseline) where none is."""
        reached = self.losses <= np.asarray(losses)[:, None] + 1e-12
        largest: FloatArray = np.where(reached, self.reductions, 0.0).max(axis=1, initial=0.0)
        return largest

    def gains_over(self, other: "Curve", *, tolerance: float) -> tuple[float, float]:
        """Mean log2 reduction and mean accuracy gained over another curve; both need a point.

        Accuracy is compared at all reductions above 1 that both reach, as far as the better of the two loses
        no more than the tolerance (at their smallest reduction if nothing is left of this). Reductions are
        compared at all losses up to the tolerance, from none or the largest gain; where a side has no point,
        the network is left alone. If both always lose more than the tolerance, they are compared at the
        smallest loss at which both have a point.
        """
        return _reduction_gained(self, other, tolerance), _accuracy_gained(self, other, tolerance)


def _accuracy_gained(one: Curve, other: Curve, tolerance: float) -> float:
    reach = min(one.reductions.max(), other.reductions.max())
    steps = np.unique(np.concatenate((one.reductions, other.reductions)))
    steps = np.append(steps[steps < reach], reach)
    mine, theirs = one.loss_at_reduction(steps), other.loss_at_reduction(steps)
    widths = np.diff(np.maximum(steps, 0.0), prepend=0.0)  # a loss holds from the step before up to its own
    widths[np.minimum(mine, theirs) > tolerance] = 0.0
    return _mean(theirs - mine, widths)


def _reduction_gained(one: Curve, other: Curve, tolerance: float) -> float:
    smallest = one.losses.min(), other.losses.min()
    start = min(0.0, *smallest) if min(smallest) < tolerance else max(smallest)
    steps = np.unique(np.concatenate(([start], one.losses, other.losses)))
    steps = steps[(steps >= start) & ((steps < tolerance) | (steps == start))]
    widths = np.diff(steps, append=max(tolerance, start))  # a reduction holds from its own step to the next
    return _mean(one.reduction_at_loss(steps) - other.reduction_at_loss(steps), widths)


def _mean(differences: FloatArray, widths: FloatArray) -> float:
    total = widths.sum()
    return float(differences @ widths / total) if total > 0 else float(differences[0])
