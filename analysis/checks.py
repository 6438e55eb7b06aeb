"""Verification of a law: does the order it names come out on top among all permutations, at fresh seeds?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.analysis.evidence.judge import RULES, Outcome, Rules, judge_best
from ordercomp.sequence import Order, kendall_distance

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One permutation in the ranking."""

    order: Order
    value: float  # mean over seeds and knob settings, log2 units
    distance: float  # Kendall distance from the law


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Where the law stands among all permutations."""

    best: Order
    rank: int  # 1: nothing is better; the mean of the seeds' ranks if their orders differ
    of: int
    regret: float  # value of the best minus value of the law, log2 units, at least 0
    probability_best: float | None  # None with one seed, which cannot tell
    kendall_tau: float  # between distance from the law and value; negative speaks for the law
    order: Order = ""  # the order put to the test, or the one most often so
    orders: tuple[Order, ...] = ()  # all that were put to the test, at one seed or another
    outcome: Outcome = "undecided"
    method: str = ""  # which seeds chose the law, which ranked it
    seeds: int = 0
    sentence: str = ""
    ranking: tuple[Ranked, ...] = ()  # best first


def exhaustive(
    values: Mapping[Order, FloatArray],
    laws: Sequence[Order],
    *,
    method: str,
    rules: Rules = RULES,
    resamples: int,
    rng: np.random.Generator,
) -> Exhaustive:
    """Rank the law among all permutations.

    Args:
        values: for every permutation its value at each of n seeds, shape (n,), the same seeds for all, no
            gaps.
        laws: the order to test at each seed; they differ if every seed is kept out of its own law.
        method: words that say how seeds were kept apart.
        rules: margin, error level, least seeds.
        resamples: draws for the probability of being best.
        rng: source of randomness.

    Whether the law holds, says `judge_best`.
    """
    orders = list(values)
    table = np.stack([values[order] for order in orders])  # (orders, seeds)
    places = [orders.index(law) for law in laws]
    law_values = table[places, np.arange(table.shape[1])]
    means, law_mean = table.mean(axis=1), float(law_values.mean())
    best = int(means.argmax())
    regret = max(0.0, float(means[best]) - law_mean)
    distances = np.array([[kendall_distance(order, law) for law in laws] for order in orders])
    better = (table > law_values + 1e-12).sum(axis=0)  # at each seed, of which each may have a law of its own
    ranked = [
        Ranked(order, float(mean), float(distance))
        for order, mean, distance in zip(orders, means, distances.mean(axis=1), strict=True)
    ]
    one_law = len(set(laws)) == 1
    ahead = int((means > law_mean + 1e-12).sum()) if one_law else round(float(better.mean()))
    found = Exhaustive(
        order=max(set(laws), key=lambda law: (laws.count(law), law)),
        orders=tuple(sorted(set(laws), key=lambda law: (-laws.count(law), law))),
        best=orders[best],
        rank=ahead + 1,
        of=len(orders),
        regret=regret,
        probability_best=_probability_best(table, law_values, resamples, rng),
        kendall_tau=_kendall_tau(distances, means[:, None] if one_law else table),
        outcome=judge_best(table - law_values, rules=rules),
        method=method,
        seeds=table.shape[1],
        ranking=tuple(sorted(ranked, key=lambda one: (-one.value, one.order))),
    )
    return replace(found, sentence=_sentence(found))


def _sentence(found: Exhaustive) -> str:
    opening = f"{found.order} {found.outcome}: rank {found.rank} of {found.of}"
    if len(found.orders) > 1:
        verb = {"holds": "hold", "fails": "fail", "undecided": "are undecided"}[found.outcome]
        opening = (
            f"The orders suggested ({', '.join(found.orders)}) differ by seed. Together they {verb}: "
            f"on average rank {found.rank} of {found.of}"
        )
    sure = found.probability_best
    chance = "" if sure is None else f"best with probability {sure:.2f}, "
    return (
        f"{opening} over {found.seeds} seeds, {found.regret:.2f} log2 units behind the best ({found.best}), "
        f"{chance}Kendall tau {found.kendall_tau:+.2f} between distance and value ({found.method})."
    )


def _probability_best(
    table: FloatArray, law_values: FloatArray, resamples: int, rng: np.random.Generator
) -> float | None:
    """Share of draws, seeds reweighted with Student's tails, in which no permutation beats the law.

    None with one seed, which cannot tell.
    """
    differences = table - law_values
    seeds = table.shape[1]
    means = differences.mean(axis=1)
    if seeds < 2:
        return None
    deviations = (differences - means[:, None]) / math.sqrt(seeds * (seeds - 1))
    tails = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=(resamples, 1)))
    draws = means + tails * (rng.standard_normal((resamples, seeds)) @ deviations.T)
    return float((draws.max(axis=1) <= 1e-12).mean())


def _kendall_tau(distances: npt.NDArray[np.int64], table: FloatArray) -> float:
    """Mean over the columns of `table`, each with its own column of distances."""
    taus = [
        stats.kendalltau(distances[:, place], table[:, place]).statistic for place in range(table.shape[1])
    ]
    finite = [float(tau) for tau in taus if math.isfinite(tau)]
    return float(np.mean(finite)) if finite else 0.0
