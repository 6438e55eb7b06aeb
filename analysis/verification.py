"""Verification of a law: does the order it names come out on top among all permutations, at fresh seeds?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.orders import Order, kendall_distance

__all__ = ["Exhaustive", "Outcome", "Ranked", "exhaustive"]

FloatArray = npt.NDArray[np.float64]
Outcome = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One permutation in the ranking."""

    order: Order
    value: float  # mean over seeds and knob settings, log2 units
    distance: float  # Kendall distance from the law


@dataclass(frozen=True, slots=True)
class Exhaustive:
    """Where the law stands among all permutations."""

    order: Order  # the order put to the test
    best: Order
    rank: int  # 1: nothing is better
    of: int
    regret: float  # value of the best minus value of the law, log2 units, at least 0
    probability_best: float
    kendall_tau: float  # between distance from the law and value; negative speaks for the law
    outcome: Outcome
    method: str  # which seeds chose the law, which ranked it
    seeds: int
    ranking: tuple[Ranked, ...]  # best first
    sentence: str


def exhaustive(
    values: Mapping[Order, FloatArray],
    laws: Sequence[Order],
    *,
    method: str,
    margin: float,
    resamples: int,
    rng: np.random.Generator,
) -> Exhaustive:
    """Rank the law among all permutations.

    Args:
        values: for every permutation its value at each of n seeds, shape (n,), the same seeds for all, no
            gaps.
        laws: the order to test at each seed; they differ if every seed is kept out of its own law.
        method: words that say how seeds were kept apart.
        margin: region of practical equivalence, log2 units.
        resamples: draws for the probability of being best.
        rng: source of randomness.

    The law holds if it lies within the margin of the best; fails if another permutation is better beyond the
    margin and significantly so (paired t test at 5 %, Bonferroni over the permutations); else the outcome is
    undecided. With one seed the probability of being best is told from that seed alone, and nothing can fail.
    """
    orders = list(values)
    table = np.stack([values[order] for order in orders])  # (orders, seeds)
    places = [orders.index(law) for law in laws]
    law_values = table[places, np.arange(table.shape[1])]
    means, law_mean = table.mean(axis=1), float(law_values.mean())
    best = int(means.argmax())
    regret = max(0.0, float(means[best]) - law_mean)
    distances = np.array([[kendall_distance(order, law) for law in laws] for order in orders])
    outcome = _outcome(table - law_values, regret, margin)
    common = max(set(laws), key=lambda law: (laws.count(law), law))
    better = int((means > law_mean + 1e-12).sum())
    chance = _probability_best(table, law_values, resamples, rng)
    ranking = sorted(
        (
            Ranked(o, float(m), float(d))
            for o, m, d in zip(orders, means, distances.mean(axis=1), strict=True)
        ),
        key=lambda ranked: (-ranked.value, ranked.order),
    )
    tau = (
        _kendall_tau(distances, table)
        if len(set(laws)) > 1
        else _kendall_tau(distances[:, :1], means[:, None])
    )
    sentence = (
        f"{common} {outcome}: rank {better + 1} of {len(orders)} over {table.shape[1]} seeds, "
        f"{regret:.2f} log2 units behind the best ({orders[best]}), best with probability {chance:.2f}, "
        f"Kendall tau {tau:+.2f} between distance and value ({method})."
    )
    return Exhaustive(
        common,
        orders[best],
        better + 1,
        len(orders),
        regret,
        chance,
        tau,
        outcome,
        method,
        table.shape[1],
        tuple(ranking),
        sentence,
    )


def _outcome(differences: FloatArray, regret: float, margin: float) -> Outcome:
    """`differences`: every permutation minus the law, shape (orders, seeds)."""
    if regret <= margin:
        return "holds"
    count, seeds = differences.shape
    if seeds < 2:
        return "undecided"
    means, errors = differences.mean(axis=1), differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    limit = stats.t.ppf(1 - 0.05 / max(1, count - 1), seeds - 1)
    return "fails" if bool(((means - margin) > limit * errors).any()) else "undecided"


def _probability_best(
    table: FloatArray, law_values: FloatArray, resamples: int, rng: np.random.Generator
) -> float:
    """Share of draws, seeds reweighted with Student's tails, in which no permutation beats the law."""
    differences = table - law_values
    seeds = table.shape[1]
    means = differences.mean(axis=1)
    if seeds < 2:
        return float(means.max() <= 1e-12)
    deviations = (differences - means[:, None]) / math.sqrt(seeds * (seeds - 1))
    tails = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=(resamples, 1)))
    draws = means + tails * (rng.standard_normal((resamples, seeds)) @ deviations.T)
    return float((draws.max(axis=1) <= 1e-12).mean())


def _kendall_tau(distances: npt.NDArray[np.int64], table: FloatArray) -> float:
    taus = [stats.kendalltau(distances[:, seed], table[:, seed]).statistic for seed in range(table.shape[1])]
    finite = [float(tau) for tau in taus if math.isfinite(tau)]
    return float(np.mean(finite)) if finite else 0.0
