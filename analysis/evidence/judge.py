"""The court: the one place where uncertain differences become decisions.

Margin, error level, least number of seeds and the adjustment for the number of claims live here alone. A
claim comes with its hypothesis, the estimate, the number of seeds and the family of claims judged with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.analysis.statistics import Estimate, estimate, holm, variance_prior

FloatArray = npt.NDArray[np.float64]
Hypothesis = Literal["better", "alike", "not better", "not worse"]
Outcome = Literal["holds", "fails", "undecided"]
Verdict = Literal["agree", "disagree", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When evidence decides."""

    margin: float = 0.1  # region of practical equivalence, log2 units: 0.1 is 7 % fewer bit operations
    alpha: float = 0.05  # family-wise error over all claims judged together
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

    def at_look(self, further: int) -> "Rules":
        """The rules once `further` seeds were added, one by one, for the sake of pairs still undecided.

        Half of the error is spent on the seeds that were planned, and 1 / (2 k (k + 1)) on the look at the
        k-th further one. These shares add up to the whole error however long one goes on (alpha spending
        after Lan and DeMets 1983). Intervals widen alike.
        """
        share = 0.5 / (further * (further + 1)) if further > 0 else 0.5
        return replace(self, alpha=self.alpha * share, level=1 - (1 - self.level) * share)


RULES = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The side that a claim is decided for, or else comes closer to, and how sure that is."""

    side: Literal["agree", "disagree"]
    alone: float  # p-value of this claim by itself
    shared: float  # adjusted for all claims that are judged together
    alpha: float

    @property
    def verdict(self) -> Verdict:
        """The side if it is sure enough among all claims, else undecided."""
        return self.side if self.shared <= self.alpha else "undecided"

    @property
    def outcome(self) -> Outcome:
        """The verdict, said of the claim."""
        outcomes: dict[Verdict, Outcome] = {"agree": "holds", "disagree": "fails", "undecided": "undecided"}
        return outcomes[self.verdict]

    @property
    def caveat(self) -> str:
        """What to say of a claim that only the number of claims keeps undecided; else nothing."""
        if self.verdict != "undecided" or self.alone > self.alpha:
            return ""
        return (
            f"By itself the verdict would be {self.side} (p = {self.alone:.2g}); "
            f"among all claims judged here p is {self.shared:.2g} (Holm)."
        )


@dataclass(frozen=True, slots=True)
class Direction:
    """Which of two sides is ahead."""

    verdict: Literal["before", "after", "tied", "undecided"]
    shared: float  # two-sided p-value against no difference, adjusted for all that are judged together


def estimate_all(
    scores: Sequence[FloatArray], *, rules: Rules | Sequence[Rules], bound: float
) -> list[Estimate]:
    """Estimate a family of differences, each from its independent scores, with moderated variances.

    `rules`, one for all or one for each, say the level of the intervals, `bound` the largest difference.
    """
    each = _for_each(rules, len(scores))
    prior = variance_prior(scores, cap=max((one.prior_cap for one in each), default=0.0))
    return [
        estimate(some, prior=prior, level=one.level, bound=bound)
        for some, one in zip(scores, each, strict=True)
    ]


def interval_alone(scores: FloatArray, *, bound: float, rules: Rules = RULES) -> tuple[float, float]:
    """The t interval of the mean of independent scores, within [-bound, bound]; all of that for one score."""
    if len(scores) < 2:
        return -bound, bound
    mean = float(scores.mean())
    half = float(stats.t.ppf(0.5 + rules.level / 2, len(scores) - 1) * stats.sem(scores))
    return max(-bound, mean - half), min(bound, mean + half)


def judge_alone(hypothesis: Hypothesis, effect: Estimate, seeds: int, *, rules: Rules = RULES) -> Decision:
    """Judge a claim that stands by itself, see `judge_together`."""
    return judge_together([hypothesis], [effect], [seeds], rules=rules)[0]


def judge_together(
    hypotheses: Sequence[Hypothesis],
    effects: Sequence[Estimate],
    seeds: Sequence[int],
    *,
    rules: Rules = RULES,
) -> list[Decision]:
    """Judge a family of claims together, on effects of which positive ones speak for the claim.

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


def judge_every(
    hypothesis: Hypothesis, effects: Sequence[Estimate], seeds: Sequence[int], *, rules: Rules = RULES
) -> Verdict:
    """Judge the claim that a hypothesis is true of every effect.

    It has to pass every single comparison, so that none of these needs to be stricter; it fails if some
    effect disagrees among all. No effects: undecided.
    """
    alone = [
        judge_alone(hypothesis, one, count, rules=rules) for one, count in zip(effects, seeds, strict=True)
    ]
    if alone and all(one.verdict == "agree" for one in alone):
        return "agree"
    together = judge_together([hypothesis] * len(effects), effects, seeds, rules=rules)
    return "disagree" if any(one.verdict == "disagree" for one in together) else "undecided"


def judge_directions(
    effects: Sequence[Estimate], seeds: Sequence[int], *, rules: Rules | Sequence[Rules] = RULES
) -> list[Direction]:
    """Say of each effect which side is ahead, all together.

    "before" (positive) or "after" if Holm's adjusted p-value is at most alpha and the mean lies outside the
    margin; "tied" if the interval lies inside the margin; otherwise, and with few seeds, "undecided".
    """
    adjusted = holm([effect.p_value for effect in effects])
    each = _for_each(rules, len(effects))
    return [
        Direction(_direction(effect, p_value, one) if count >= one.least_seeds else "undecided", p_value)
        for effect, p_value, count, one in zip(effects, adjusted, seeds, each, strict=True)
    ]


def signs_differ(effects: Sequence[Estimate], *, rules: Rules, families: int) -> bool:
    """Both signs occur beyond the margin, each significant after Bonferroni over effects and families."""
    limit = rules.alpha / max(1, len(effects) * families)

    def occurs(sign: int) -> bool:
        return any(sign * one.mean > rules.margin and one.p_value / 2 <= limit for one in effects)

    return occurs(1) and occurs(-1)


def judge_best(differences: FloatArray, *, rules: Rules = RULES) -> Outcome:
    """Judge the claim that one of many is the best, on `differences`, shape (all, seeds): all minus that one.

    It holds if each of them is better by no more than the margin, by the upper bounds of paired t intervals.
    It fails if some is better beyond the margin and significantly so (paired t test, Bonferroni). Else, and
    always with few seeds, it is undecided.
    """
    count, seeds = differences.shape
    if seeds < rules.least_seeds:
        return "undecided"
    means, errors = differences.mean(axis=1), differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    # To hold, it has to pass every one of the comparisons, so that none of them needs to be stricter.
    if bool((means + stats.t.ppf(1 - rules.alpha / 2, seeds - 1) * errors <= rules.margin).all()):
        return "holds"
    limit = stats.t.ppf(1 - rules.alpha / max(1, count - 1), seeds - 1)
    return "fails" if bool(((means - rules.margin) > limit * errors).any()) else "undecided"


def negated(effect: Estimate) -> Estimate:
    """The same effect with the sides exchanged."""
    return replace(
        effect,
        mean=-effect.mean,
        interval=(-effect.high, -effect.low),
        probability=1 - effect.probability,
    )


def shifted(effect: Estimate, by: float) -> Estimate:
    """The effect measured from another zero: `by` is added; only mean, interval and error have a meaning."""
    return replace(effect, mean=effect.mean + by, interval=(effect.low + by, effect.high + by))


def _for_each(rules: Rules | Sequence[Rules], count: int) -> Sequence[Rules]:
    return [rules] * count if isinstance(rules, Rules) else rules


def _firmer(agree: Decision, disagree: Decision) -> Decision:
    """The side that is decided, agreement first if both are; if neither is, the more probable one."""
    decided = [one for one in (agree, disagree) if one.verdict != "undecided"]
    return decided[0] if decided else min(agree, disagree, key=lambda one: one.alone)


def _direction(
    effect: Estimate, adjusted_p: float, rules: Rules
) -> Literal["before", "after", "tied", "undecided"]:
    if -rules.margin <= effect.low and effect.high <= rules.margin:
        return "tied"
    if adjusted_p <= rules.alpha and abs(effect.mean) > rules.margin:
        return "before" if effect.mean > 0 else "after"
    return "undecided"


def _p_values(hypothesis: Hypothesis, effect: Estimate, margin: float) -> tuple[float, float]:
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


def _above(effect: Estimate, bar: float) -> float:
    """P-value for the statement that the true effect lies above the bar; 1 if the error is unknown."""
    return _below(negated(effect), -bar)


def _below(effect: Estimate, bar: float) -> float:
    if not math.isfinite(effect.error):
        return 1.0
    if effect.error == 0:
        return 0.0 if effect.mean < bar else 1.0
    return min(1.0, 2 * float(stats.t.cdf((effect.mean - bar) / effect.error, effect.freedom)))
