"""Small-sample statistics, and the decision rules: where uncertain differences become decisions.

Statistics are t intervals with moderated variances, sign flips, Holm's adjustment and a hierarchical
bootstrap. Everything works on plain arrays; rows are independent (seeds), columns are not (contexts of one
seed). Margin, error level, least number of seeds and the adjustment for the number of claims live here alone:
a claim comes with its hypothesis, the estimate, the number of seeds and the claims that are decided with it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special  # scipy.stats gives the same numbers, and takes half a second to import

from ordercomp.codec import UNWRITTEN, named

FloatArray = npt.NDArray[np.float64]
EXACT_FLIPS = 16  # up to 2^16 sign patterns are listed, more are sampled


@dataclass(frozen=True, slots=True)
class Prior:
    """What the variances of many comparisons have in common: a typical value, and how alike they are."""

    variance: float
    dof: float  # 0: nothing in common; large: all the same

    def moderate(self, variance: float, dof: int) -> tuple[float, float]:
        """Return the variance raised towards the prior and the degrees of freedom it then has.

        Unlike in Smyth (2004) a variance above the prior stays as it is, and so do its degrees of freedom:
        pairs may differ a lot in how much seeds disagree on them, and calm ones must not vouch for a wild
        one.
        """
        total = dof + self.dof
        moderated = (dof * variance + self.dof * self.variance) / total
        return (moderated, total) if moderated >= variance else (variance, float(dof))


@dataclass(frozen=True, slots=True)
class Effect:
    """A mean difference with its uncertainty."""

    mean: float = field(metadata=named("effect"))
    interval: tuple[float, float]
    probability: float  # that the true mean is positive; 0.5 if the error is unknown
    error: float = field(default=math.nan, metadata=UNWRITTEN)  # NaN if a single score leaves it unknown
    dof: float = field(default=math.nan, metadata=UNWRITTEN)
    p_value: float = field(default=math.nan, metadata=UNWRITTEN)  # two-sided, against 0; 1 without an error

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.interval[1]

    @property
    def negated(self) -> "Effect":
        """The same effect with the sides exchanged."""
        return replace(
            self, mean=-self.mean, interval=(-self.high, -self.low), probability=1 - self.probability
        )


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
    varied = [sample for sample in samples if len(sample) > 1 and sample.var(ddof=1) > 0]
    if len(varied) < 3:
        return Prior(0.0, 0.0)
    variance = np.array([float(sample.var(ddof=1)) for sample in varied])
    half = np.array([len(sample) - 1 for sample in varied]) / 2
    logs = np.log(variance) - special.digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    dof = cap if excess <= 0 else min(cap, 2 * _inverse_trigamma(excess))
    if dof <= 0:
        return Prior(0.0, 0.0)
    typical = float(np.exp(logs.mean() + special.digamma(dof / 2) - np.log(dof / 2)))
    return Prior(typical, dof)


def estimate(scores: FloatArray, *, prior: Prior, level: float, bound: float) -> Effect:
    """Turn independent scores, shape (n,), into their mean with a t interval at `level`, e.g. 0.95.

    `bound` is the largest difference that is possible at all: the interval never leaves [-bound, bound],
    and it is that whole range where a single score leaves the error unknown. No score: mean 0, all unknown.
    """
    if len(scores) < 2:
        mean = float(scores[0]) if len(scores) else 0.0
        return Effect(mean, (-bound, bound), 0.5, error=math.nan, dof=0.0, p_value=1.0)
    mean = float(scores.mean())
    variance, dof = prior.moderate(float(scores.var(ddof=1)), len(scores) - 1)
    error = math.sqrt(variance / len(scores))
    half = float(special.stdtrit(dof, 0.5 + level / 2)) * error
    low, high = max(mean - half, -bound), min(mean + half, bound)
    if error == 0:
        probability = 0.5 if mean == 0 else float(mean > 0)
    else:
        probability = float(special.stdtr(dof, mean / error))
    p_value = min(1.0, 2 * min(probability, 1 - probability))
    return Effect(mean, (low, high), probability, error=error, dof=dof, p_value=p_value)


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
    rise = np.argsort(p_values, kind="stable")
    scaled = np.minimum(1.0, np.arange(len(rise), 0, -1) * np.asarray(p_values, dtype=np.float64)[rise])
    adjusted = np.empty(len(rise))
    adjusted[rise] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def kendall_tau(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Kendall's tau-b of two rankings, shape (n,); NaN where one of them does not differ. O(n²)."""
    signs = [np.sign(np.subtract.outer(ranking, ranking)) for ranking in map(np.asarray, (first, second))]
    pairs = math.sqrt(int(np.count_nonzero(signs[0])) * int(np.count_nonzero(signs[1])))
    return float((signs[0] * signs[1]).sum() / pairs) if pairs else math.nan


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


# Decision rules

Hypothesis = Literal["better", "alike", "not better", "not worse"]
Outcome = Literal["holds", "fails", "undecided"]
ClaimVerdict = Literal["agree", "disagree", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When evidence decides."""

    margin: float = 0.1  # region of practical equivalence, log2 units: 0.1 is 7 % fewer bit operations
    alpha: float = 0.05  # family-wise error over all claims decided together
    level: float = 0.95  # of the intervals
    least_seeds: int = 3  # fewer decide nothing
    prior_cap: float = 2.0  # most degrees of freedom that a claim may borrow from the others
    sure: float = 0.9  # probability of being best from which "it is the best" is agreed to

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")
        for name in ("alpha", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.prior_cap < 0:
            raise ValueError(f"prior_cap must not be negative, got {self.prior_cap}")


RULES = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The side that a claim is decided for, or else comes closer to, and how sure that is."""

    side: Literal["agree", "disagree"]
    alone: float  # p-value of this claim by itself
    shared: float  # adjusted for all claims that are decided together
    alpha: float

    @property
    def verdict(self) -> ClaimVerdict:
        """The side if it is sure enough among all claims, else undecided."""
        return self.side if self.shared <= self.alpha else "undecided"

    @property
    def outcome(self) -> Outcome:
        """The verdict, said of the claim."""
        if self.verdict == "undecided":
            return "undecided"
        return "holds" if self.verdict == "agree" else "fails"

    @property
    def caveat(self) -> str:
        """What to say of a claim that only the number of claims keeps undecided; else nothing."""
        if self.verdict != "undecided" or self.alone > self.alpha:
            return ""
        return (
            f"By itself the verdict would be {self.side} (p = {self.alone:.2g}); "
            f"among all claims judged here p is {self.shared:.2g} (Holm)."
        )


def estimate_all(scores: Sequence[FloatArray], *, rules: Rules = RULES, bound: float) -> list[Effect]:
    """Estimate a family of differences, each from its independent scores, with moderated variances.

    `rules` say the level of the intervals, `bound` the largest difference.
    """
    prior = variance_prior(scores, cap=rules.prior_cap)
    return [estimate(rows, prior=prior, level=rules.level, bound=bound) for rows in scores]


def interval_alone(scores: FloatArray, *, bound: float, rules: Rules = RULES) -> tuple[float, float]:
    """The t interval of the mean of independent scores, within [-bound, bound]; all of that for one score."""
    if len(scores) < 2:
        return -bound, bound
    mean = float(scores.mean())
    error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
    half = float(special.stdtrit(len(scores) - 1, 0.5 + rules.level / 2)) * error
    return max(-bound, mean - half), min(bound, mean + half)


def decide_alone(hypothesis: Hypothesis, effect: Effect, seeds: int, *, rules: Rules = RULES) -> Decision:
    """Decide a claim that stands by itself, see `decide_together`."""
    return decide_together([hypothesis], [effect], [seeds], rules=rules)[0]


def decide_together(
    hypotheses: Sequence[Hypothesis], effects: Sequence[Effect], seeds: Sequence[int], *, rules: Rules = RULES
) -> list[Decision]:
    """Decide a family of claims together, on effects of which positive ones speak for the claim.

    - "better" agrees if the effect is above 0, disagrees if it is below the margin;
    - "alike" agrees within the margin either way, disagrees outside of it;
    - "not better" agrees below the margin, disagrees above 0 if the mean is above the margin;
    - "not worse" agrees above minus the margin, disagrees below 0 if the mean is below minus the margin.

    Two-sided error of alpha over all agreements and over all disagreements (Holm 1979). A claim with fewer
    than the least seeds is undecided.
    """
    pairs = [
        _p_values(hypothesis, effect, rules.margin) if count >= rules.least_seeds else (1.0, 1.0)
        for hypothesis, effect, count in zip(hypotheses, effects, seeds, strict=True)
    ]
    agreeing = holm([agree for agree, _ in pairs])
    disagreeing = holm([disagree for _, disagree in pairs])
    return [
        _firmer(
            Decision(side="agree", alone=agree, shared=shared, alpha=rules.alpha),
            Decision(side="disagree", alone=disagree, shared=shared_against, alpha=rules.alpha),
        )
        for (agree, disagree), shared, shared_against in zip(pairs, agreeing, disagreeing, strict=True)
    ]


def decide_every(
    hypothesis: Hypothesis, effects: Sequence[Effect], seeds: Sequence[int], *, rules: Rules = RULES
) -> ClaimVerdict:
    """Decide the claim that a hypothesis is true of every effect.

    It has to pass every single comparison, so that none of these needs to be stricter; it fails if some
    effect disagrees among all. No effects: undecided.
    """
    together = decide_together([hypothesis] * len(effects), effects, seeds, rules=rules)
    if together and all(
        decide_alone(hypothesis, effect, count, rules=rules).verdict == "agree"
        for effect, count in zip(effects, seeds, strict=True)
    ):
        return "agree"
    return "disagree" if any(decision.verdict == "disagree" for decision in together) else "undecided"


def shifted(effect: Effect, by: float) -> Effect:
    """The effect measured from another zero: `by` is added; only mean, interval and error have a meaning."""
    return replace(effect, mean=effect.mean + by, interval=(effect.low + by, effect.high + by))


def _firmer(agree: Decision, disagree: Decision) -> Decision:
    """The side that is decided, agreement first if both are; if neither is, the more probable one."""
    decided = [decision for decision in (agree, disagree) if decision.verdict != "undecided"]
    return decided[0] if decided else min(agree, disagree, key=lambda decision: decision.alone)


def _p_values(hypothesis: Hypothesis, effect: Effect, margin: float) -> tuple[float, float]:
    """Two-sided p-values against what agreement and what disagreement have to rule out."""
    mean = effect.mean
    within = max(_below(effect, margin), _above(effect, -margin))
    outside = min(_above(effect, margin), _below(effect, -margin))
    return {
        "better": (_above(effect, 0.0), _below(effect, margin)),
        "alike": (within, outside),
        "not better": (_below(effect, margin), _above(effect, 0.0) if mean > margin else 1.0),
        "not worse": (_above(effect, -margin), _below(effect, 0.0) if mean < -margin else 1.0),
    }[hypothesis]


def _above(effect: Effect, bar: float) -> float:
    """P-value for the statement that the true effect lies above the bar; 1 if the error is unknown."""
    return _below(effect.negated, -bar)


def _below(effect: Effect, bar: float) -> float:
    if not math.isfinite(effect.error):
        return 1.0
    if effect.error == 0:
        return 0.0 if effect.mean < bar else 1.0
    return min(1.0, 2 * float(special.stdtr(effect.dof, (effect.mean - bar) / effect.error)))
