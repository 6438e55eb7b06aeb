"""Small-sample statistics: t intervals with moderated variances, sign flips, Holm, hierarchical bootstrap.

Everything here works on plain arrays. Rows are independent (seeds), columns are not (contexts of one seed).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ordercomp.codec import UNWRITTEN, named

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

EXACT_FLIPS = 16  # up to 2^16 sign patterns are listed, more are sampled


@dataclass(frozen=True, slots=True)
class Prior:
    """What the variances of many comparisons have in common: a typical value, and how alike they are."""

    variance: float
    freedom: float  # 0: nothing in common; large: all the same

    def moderate(self, variance: float, freedom: int) -> tuple[float, float]:
        """Return the variance raised towards the prior and the degrees of freedom it then has.

        Unlike in Smyth (2004) a variance above the prior stays as it is, and so do its degrees of freedom:
        pairs may differ a lot in how much seeds disagree on them, and calm ones must not vouch for a wild
        one.
        """
        total = freedom + self.freedom
        moderated = (freedom * variance + self.freedom * self.variance) / total
        return (moderated, total) if moderated >= variance else (variance, float(freedom))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean difference with its uncertainty."""

    mean: float = field(metadata=named("effect"))
    interval: tuple[float, float]
    probability: float  # that the true mean is positive; 0.5 if the error is unknown
    error: float = field(default=math.nan, metadata=UNWRITTEN)  # NaN if a single row leaves it unknown
    freedom: float = field(default=math.nan, metadata=UNWRITTEN)
    p_value: float = field(default=math.nan, metadata=UNWRITTEN)  # two-sided, against a true mean of zero; 1
    # if the error is unknown

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.interval[1]


def row_scores(table: FloatArray) -> FloatArray:
    """Average each row of `table`, shape (rows, columns), over its numbers; rows of NaN alone are left out.

    Which columns a row lacks may differ: what differs between columns then adds to the spread of the scores.
    Returns shape (rows with data,).
    """
    seen = np.isfinite(table)
    rows = seen.any(axis=1)
    means: FloatArray = np.where(seen, table, 0.0)[rows].sum(axis=1) / seen[rows].sum(axis=1)
    return means


def variance_prior(samples: Sequence[FloatArray], *, cap: float) -> Prior:
    """Learn what the variances of many samples share (Smyth 2004), worth at most `cap` degrees of freedom.

    Samples of fewer than two numbers or without variance are passed over; fewer than three that are left
    give Prior(0, 0), that is no moderation.
    """
    pairs = [(float(sample.var(ddof=1)), len(sample) - 1) for sample in samples if len(sample) > 1]
    pairs = [(variance, freedom) for variance, freedom in pairs if variance > 0]
    if len(pairs) < 3:
        return Prior(0.0, 0.0)
    variance, half = np.array([v for v, _ in pairs]), np.array([d for _, d in pairs]) / 2
    logs = np.log(variance) - special.digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    freedom = cap if excess <= 0 else min(cap, 2 * _inverse_trigamma(excess))
    if freedom <= 0:
        return Prior(0.0, 0.0)
    typical = float(np.exp(logs.mean() + special.digamma(freedom / 2) - np.log(freedom / 2)))
    return Prior(typical, freedom)


def estimate(scores: FloatArray, *, prior: Prior, level: float, bound: float) -> Estimate:
    """Turn independent scores, shape (n,), into their mean with a t interval at `level`, e.g. 0.95.

    `bound` is the largest difference that is possible at all: the interval never leaves [-bound, bound],
    and it is that whole range where a single score leaves the error unknown. No score: mean 0, all unknown.
    """
    if len(scores) < 2:
        mean = float(scores[0]) if len(scores) else 0.0
        return Estimate(mean, (-bound, bound), 0.5, error=math.nan, freedom=0.0, p_value=1.0)
    mean = float(scores.mean())
    variance, freedom = prior.moderate(float(scores.var(ddof=1)), len(scores) - 1)
    error = math.sqrt(variance / len(scores))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    low, high = max(mean - half, -bound), min(mean + half, bound)
    if error == 0:
        probability = 0.5 if mean == 0 else float(mean > 0)
    else:
        probability = float(stats.t.cdf(mean / error, freedom))
    p_value = min(1.0, 2 * min(probability, 1 - probability))
    return Estimate(mean, (low, high), probability, error=error, freedom=freedom, p_value=p_value)


def sign_flip_p(scores: FloatArray, *, rng: np.random.Generator) -> float:
    """Two-sided p-value of the sign-flip test that independent `scores`, shape (n,), center on zero.

    Exact for n <= 16 (all 2^n sign patterns), else from 20,000 drawn patterns and the observed one.
    It cannot fall below 2^(1-n): 0.25 for three scores. n = 0 gives 1.
    """
    count = len(scores)
    if count == 0:
        return 1.0
    observed = abs(scores.sum())
    tolerance = 1e-12 * np.abs(scores).sum()
    if count <= EXACT_FLIPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
        return float((np.abs(signs @ scores) >= observed - tolerance).mean())
    signs = rng.choice((1.0, -1.0), size=(20_000, count))
    hits = (np.abs(signs @ scores) >= observed - tolerance).sum()
    return float((hits + 1) / (len(signs) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number as in Holm (1979): reject those at most alpha. In input order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def hierarchical_bootstrap(
    tables: Sequence[FloatArray],
    settings: Sequence[Sequence[frozenset[str]]],
    *,
    resamples: int,
    freedom: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Resample seeds, knob settings, and contexts within them, and average each table.

    Args:
        tables: one (seeds, cells) table per comparison, NaN for gaps, with the same seeds in the same rows.
        settings: for each table, cell by cell, the knob settings that the cell is part of.
        resamples: number of draws.
        freedom: degrees of freedom behind the spread over seeds, at least 1; few of them make heavy tails.
        rng: source of randomness.

    Returns shape (resamples, tables). All tables share the draws of seeds and of settings, so that what one
    of them does to several comparisons stays together; a cell counts as often as its settings are drawn on
    average. The plain bootstrap of n seeds is too narrow by sqrt((n-1)/n) and
    has no tails: each draw's deviation over seeds is widened by that factor and by that of Student's t.
    With one seed only cells and settings vary. NaN where a draw met no data.
    """
    seeds = len(tables[0]) if tables else 0
    names = sorted({name for cells in settings for cell in cells for name in cell})
    if not seeds or not names:
        return np.full((resamples, len(tables)), np.nan)
    counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).astype(float)
    if seeds > 1:
        tails = np.sqrt(freedom / rng.chisquare(freedom, size=(resamples, 1)))
        counts = 1 + (counts - 1) * np.sqrt(seeds / (seeds - 1)) * tails
    result = np.full((resamples, len(tables)), np.nan)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    shared = {name: drawn[:, place] for place, name in enumerate(names)}
    for place, (table, labels) in enumerate(zip(tables, settings, strict=True)):
        if table.size:
            weights = _cell_weights(labels, shared, rng)
            result[:, place] = _weighted_means(table, counts, weights)
    return result


def _weighted_means(table: FloatArray, counts: FloatArray, weights: FloatArray) -> FloatArray:
    """Average deviations over drawn seeds and cells; `counts` (r, seeds), `weights` (r, cells)."""
    seen = np.isfinite(table)
    columns = np.where(seen.any(axis=0), np.nansum(table, axis=0) / np.maximum(seen.sum(axis=0), 1), 0.0)
    weights = weights * seen.any(axis=0)
    deviations = np.where(seen, table - columns, 0.0) / np.maximum(seen.sum(axis=0), 1)
    total = weights.sum(axis=1)
    drawn = weights @ columns + np.einsum("rs,sc,rc->r", counts, deviations, weights, optimize=True)
    means: FloatArray = np.divide(drawn, total, out=np.full(len(total), np.nan), where=total > 0)
    return means


def _cell_weights(
    labels: Sequence[frozenset[str]], drawn: Mapping[str, IntArray], rng: np.random.Generator
) -> FloatArray:
    """How often each cell counts: as its settings were `drawn`, times a draw among cells of the same ones."""
    kinds = list(dict.fromkeys(labels))
    resamples = len(next(iter(drawn.values())))
    weights = np.zeros((resamples, len(labels)))
    for kind in kinds:
        cells = np.flatnonzero([label == kind for label in labels])
        inside = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=resamples)
        weights[:, cells] = inside * np.mean([drawn[name] for name in sorted(kind)], axis=0)[:, None]
    return weights


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value for x > 0 by Newton's method (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    guess = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, guess))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, guess))
        guess += step
        if -step / guess < 1e-8:
            break
    return guess
