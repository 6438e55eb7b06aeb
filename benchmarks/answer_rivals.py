"""Simple ways to choose an order from a table of values, shape (orders, seeds), beside the answer's model.

Each gives the order it takes and the set that may hold the best with 95 %, as a mask.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from ordercomp.analysis.answer import lower_bounds
from ordercomp.analysis.order_model import parts_of
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]
Choice = tuple[int, npt.NDArray[np.bool_]]

RISK = 0.05


def highest_mean(values: FloatArray, orders: tuple[Order, ...], stages: Order) -> Choice:
    """The order of highest mean, with Hsu's multiple comparisons with the best (Hsu 1984)."""
    means, variance, degrees = _two_way(values)
    width = _hsu_quantile(len(orders) - 1, degrees) * np.sqrt(2 * variance / values.shape[1])
    return int(means.argmax()), means >= means.max() - width


def empirical_bayes(values: FloatArray, orders: tuple[Order, ...], stages: Order) -> Choice:
    """Order effects with variances by moments of pairs, triplets and own parts; posterior in closed form."""
    means, variance, degrees = _two_way(values)
    noise, count = variance / values.shape[1], len(orders)
    parts = parts_of(orders, stages)
    columns = [np.hstack([parts["stages"], parts["pairs"], parts["scores"], parts["cycles"]])]
    columns.append(parts["triplets"])
    center = np.eye(count) - 1 / count
    kernels = [center @ (part @ part.T) @ center for part in (*columns, np.eye(count))]
    moments = np.outer(means, means) - noise * center
    gram = np.array([[(kernel * other).sum() for other in kernels] for kernel in kernels])
    pulls = np.array([(moments * kernel).sum() for kernel in kernels])
    sizes, _ = optimize.nnls(gram + 1e-9 * np.eye(3), pulls)
    prior = sum(size * kernel for size, kernel in zip(sizes, kernels, strict=True)) + 1e-9 * np.eye(count)
    gain = prior @ np.linalg.inv(prior + noise * np.eye(count))
    spread = prior - gain @ prior
    root = np.linalg.cholesky((spread + spread.T) / 2 + 1e-8 * np.eye(count))
    rng = np.random.default_rng(0)
    tails = np.sqrt(rng.chisquare(degrees, (1000, 1)) / degrees)
    draws = gain @ means + (rng.standard_normal((1000, count)) @ root.T) / tails
    return int(draws.mean(axis=0).argmax()), lower_bounds(draws, RISK) == 0


def f_race(values: FloatArray, orders: tuple[Order, ...], stages: Order) -> Choice:
    """Friedman's test on ranks and Conover's comparisons with the best (Birattari et al. 2002)."""
    count, seeds = values.shape
    ranks = stats.rankdata(-values, axis=0)
    sums = ranks.sum(axis=1)
    square, level = (ranks**2).sum(), seeds * count * (count + 1) ** 2 / 4
    if square <= level:
        return int(sums.argmin()), np.ones(count, dtype=bool)
    statistic = (count - 1) * ((sums**2).sum() - seeds * level) / (square - level)
    if stats.chi2.sf(statistic, count - 1) > RISK or statistic >= seeds * (count - 1):
        return int(sums.argmin()), np.ones(count, dtype=bool)
    degrees = (seeds - 1) * (count - 1)
    spread = 2 * seeds * (1 - statistic / (seeds * (count - 1))) * (square - level) / degrees
    width = stats.t.ppf(1 - RISK / 2, degrees) * np.sqrt(spread)
    return int(sums.argmin()), sums - sums.min() <= width


def plackett_luce(values: FloatArray, orders: tuple[Order, ...], stages: Order) -> Choice:
    """Rankings by seed, worths drawn by Gibbs sampling (Caron and Doucet 2012).

    The set holds 95 % of the chance to be best.
    """
    rng = np.random.default_rng(0)
    count, seeds = values.shape
    ranking = np.argsort(-values, axis=0)
    worth, best = np.ones(count), np.zeros(count)
    total = np.zeros(count)
    for sweep in range(400):
        left = np.cumsum(worth[ranking][::-1], axis=0)[::-1]  # worth of those not yet ranked
        rates = np.cumsum(rng.exponential(1 / left[:-1]), axis=0)
        rates = np.vstack([rates, rates[-1:]])
        load = np.zeros(count)
        np.add.at(load, ranking, rates)
        worth = rng.gamma(1.0 + seeds, 1 / (1.0 + load))
        if sweep >= 100:
            best[worth.argmax()] += 1
            total += np.log(worth)
    ranked = np.argsort(-best)
    inside = np.zeros(count, dtype=bool)
    inside[ranked[: int(np.searchsorted(np.cumsum(best[ranked]) / best.sum(), 1 - RISK)) + 1]] = True
    return int(total.argmax()), inside


RIVALS: Mapping[str, Callable[[FloatArray, tuple[Order, ...], Order], Choice]] = {
    "highest mean, Hsu": highest_mean,
    "empirical Bayes": empirical_bayes,
    "F-race": f_race,
    "Plackett-Luce": plackett_luce,
}


def _two_way(values: FloatArray) -> tuple[FloatArray, float, int]:
    """Means of the orders without the seeds' levels, the variance around them and its degrees of freedom."""
    centered = values - values.mean(axis=0)
    means = centered.mean(axis=1)
    degrees = (values.shape[0] - 1) * (values.shape[1] - 1)
    return means, float(((centered - means[:, None]) ** 2).sum() / degrees), degrees


@lru_cache
def _hsu_quantile(others: int, degrees: int) -> float:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((4000, others + 1))
    largest = (normal[:, 1:] - normal[:, :1]).max(axis=1) / np.sqrt(2)
    return float(np.quantile(largest / np.sqrt(rng.chisquare(degrees, 4000) / degrees), 1 - RISK))
