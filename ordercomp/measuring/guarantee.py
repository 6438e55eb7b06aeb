"""Risk control: the boldest exit threshold whose loss of accuracy stays within a bound, with confidence.

*Learn then test* (Angelopoulos et al. 2021): a fixed sequence of thresholds, from "every image goes to the
end" to bolder ones, is tested one after the other, each at the whole error level, until one cannot be
certified; the last certified one is taken, and the chance that its loss exceeds the bound is at most the
level. As in early exit with risk control (Jazbec et al. 2024).

What is bounded is the share of images that the uncompressed network gets right and the compressed one wrong.
The loss of accuracy is at most that. The bound is about images like those that it was tested on.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ordercomp.measuring.accuracy import ExitOutcome, sweep_thresholds

THRESHOLDS = (np.inf, *np.linspace(1.0, 0.0, 201))  # fixed before looking at any image


def certified_threshold(
    outcome: ExitOutcome, right_before: NDArray[np.bool_], *, loss: float, error: float = 0.05
) -> float | None:
    """Return the boldest certified threshold; infinity: no image may leave early; None: not even that holds.

    Args:
        outcome: what each exit says about each of n images that chose nothing.
        right_before: whether the uncompressed network gets each of them right, shape (n,).
        loss: the bound, a fraction in (0, 1).
        error: the chance that the loss exceeds the bound nevertheless.

    Raises ValueError for a loss or an error outside of (0, 1), and for another number of images.
    """
    for name, value in (("loss", loss), ("error", error)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {value}")
    chosen = None
    for threshold, p_value in zip(THRESHOLDS, threshold_p_values(outcome, right_before, loss), strict=True):
        if p_value > error:
            break
        chosen = float(threshold)
        if outcome.correct.shape[0] == 1:
            break  # without exits all thresholds are the same
    return chosen


def threshold_p_values(
    outcome: ExitOutcome, right_before: NDArray[np.bool_], loss: float
) -> NDArray[np.float64]:
    """P-values of "the share of images broken exceeds `loss`" at each of `THRESHOLDS`: binomial tails."""
    images = outcome.correct.shape[1]
    if right_before.shape != (images,):
        raise ValueError(f"right_before must have shape ({images},), got {right_before.shape}")
    unharmed = ExitOutcome(outcome.confidence, outcome.correct | ~right_before)
    kept = sweep_thresholds(unharmed, THRESHOLDS).accuracy
    broken = np.round((1 - kept) * images)
    found: NDArray[np.float64] = stats.binom.cdf(broken, images, loss)
    return found
