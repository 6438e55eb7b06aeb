"""Comparisons of orders by draws of their values: who may be best, what they share, does it matter."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]


def chances_of_best(values: FloatArray) -> FloatArray:
    """Share of the draws, shape (draws, orders), in which each order is the best; ties share."""
    best = values >= values.max(axis=1, keepdims=True) - 1e-9
    chances: FloatArray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return chances


def least_behind(values: FloatArray, risk: float) -> FloatArray:
    """How far each order lies behind some other at least, at error level `risk`; 0 where it may be the best.

    For an order, the differences of all others to it, shape (draws, orders) like `values`, have a band that
    holds all of them at once with probability 1 - `risk`. An order that is the best is thus told to lie
    behind with a probability of at most `risk`, however many others are as good.
    """
    least = np.zeros(values.shape[1])
    for order in range(len(least)):
        ahead = np.delete(values, order, axis=1) - values[:, [order]]
        means, spreads = ahead.mean(axis=0), np.maximum(ahead.std(axis=0), 1e-9)
        width = np.quantile(((means - ahead) / spreads).max(axis=1), 1 - risk)
        least[order] = max(0.0, float((means - width * spreads).max()))
    return least


def precedence_of(best_set: Sequence[Order], stages: Order) -> tuple[tuple[str, str], ...]:
    """The pairs (first, second) that stand this way round in every order of the set."""
    return tuple(
        (first, second)
        for first in stages
        for second in stages
        if first != second and all(order.index(first) < order.index(second) for order in best_set)
    )


def order_matters(values: FloatArray, noise: FloatArray) -> float | None:
    """P-value of "all orders have the same value", from values of shape (orders, seeds), NaN where not run.

    The F test of a two-way table (orders, seeds), with degrees of freedom corrected for the correlation
    between the orders within a seed, `noise` of shape (orders, orders) (Greenhouse and Geisser 1959). None
    where no degrees of freedom are left.
    """
    rows, columns = np.nonzero(np.isfinite(values))
    seen = values[rows, columns]
    orders, seeds = values.shape
    by_seed = np.eye(seeds)[columns]
    both = np.hstack([by_seed, np.eye(orders)[rows]])
    rest_seed, rank_seed = _residual(by_seed, seen)
    rest_both, rank_both = _residual(both, seen)
    between, within = rank_both - rank_seed, len(seen) - rank_both
    if between < 1 or within < 1 or rest_both <= 0:
        return None
    centered = noise - noise.mean(axis=0) - noise.mean(axis=1)[:, None] + noise.mean()
    sphericity = np.trace(centered) ** 2 / max((orders - 1) * (centered**2).sum(), 1e-300)
    share = float(np.clip(sphericity, 1 / between, 1.0))
    statistic = ((rest_seed - rest_both) / between) / (rest_both / within)
    return float(stats.f.sf(statistic, share * between, share * within))


def _residual(design: FloatArray, values: FloatArray) -> tuple[float, int]:
    """Sum of squares that a design leaves, and its rank."""
    weights, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ weights) ** 2).sum()), int(rank)
