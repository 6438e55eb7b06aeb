"""From an uncertain difference to agree, disagree or undecided, with the error level shared by all claims."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from ordercomp.analysis.evidence.pairs import Rules
from ordercomp.analysis.evidence.resampling import Estimate, holm
from ordercomp.analysis.law.exhaustive import Exhaustive
from ordercomp.studies.paper.experiment import Verdict

__all__ = [
    "FEWEST_SEEDS",
    "RULES",
    "Decision",
    "Kind",
    "best_verdict",
    "chance_of_best",
    "decide",
    "negated",
]

Kind = Literal["better", "worse", "alike", "no better", "no worse"]

RULES = Rules()
FEWEST_SEEDS = 3  # with fewer nothing is decided
SURE = 0.9  # probability of being best from which "it is the best" is agreed to


@dataclass(frozen=True, slots=True)
class Decision:
    """The side that a claim is decided for, or else comes closer to, and how sure that is."""

    side: Literal["agree", "disagree"]
    alone: float  # p-value of this claim by itself
    shared: float  # adjusted for all claims that are judged together

    @property
    def verdict(self) -> Verdict:
        """The side if it is sure enough among all claims, else undecided."""
        return self.side if self.shared <= RULES.alpha else "undecided"

    @property
    def caveat(self) -> str:
        """What to say of a claim that only the number of claims keeps undecided; else nothing."""
        if self.verdict != "undecided" or self.alone > RULES.alpha:
            return ""
        return (
            f"By itself the verdict would be {self.side} (p = {self.alone:.2g}); "
            f"among all claims judged here p is {self.shared:.2g} (Holm)."
        )


def decide(kinds: Sequence[Kind], effects: Sequence[Estimate], seeds: Sequence[int]) -> list[Decision]:
    """Judge claims on effects, of which positive ones speak for the claim, all together.

    - "better" and "worse" agree if the effect is above 0, disagree if below the margin of 0.1 doublings;
    - "alike" agrees within the margin either way, disagrees outside of it;
    - "no better" agrees below the margin, disagrees above 0 if the mean is above the margin;
    - "no worse" agrees above minus the margin, disagrees below 0 if the mean is below minus the margin.

    Two-sided error of 5 % over all agreements and over all disagreements (Holm 1979). A claim with
    fewer than three seeds is undecided.
    """
    pairs = [
        _p_values(kind, effect) if count >= FEWEST_SEEDS else (1.0, 1.0)
        for kind, effect, count in zip(kinds, effects, seeds, strict=True)
    ]
    agreeing = holm([agree for agree, _ in pairs])
    disagreeing = holm([disagree for _, disagree in pairs])
    return [
        _firmer(Decision("agree", agree, shared), Decision("disagree", disagree, shared_against))
        for (agree, disagree), shared, shared_against in zip(pairs, agreeing, disagreeing, strict=True)
    ]


def _firmer(agree: Decision, disagree: Decision) -> Decision:
    """The side that is decided, agreement first if both are; if neither is, the more probable one."""
    decided = [one for one in (agree, disagree) if one.verdict != "undecided"]
    return decided[0] if decided else min(agree, disagree, key=lambda one: one.alone)


def best_verdict(found: Exhaustive) -> Verdict:
    """The verdict on "this order is the best": agreed to from 90 % on, never on two seeds or one."""
    if found.seeds < FEWEST_SEEDS:
        return "undecided"
    if found.outcome == "fails":
        return "disagree"
    return "agree" if found.outcome == "holds" and found.probability_best >= SURE else "undecided"


def chance_of_best(found: Exhaustive) -> str:
    """How probable it is that the order is the best, in words; nothing with one seed, which cannot tell."""
    chance = found.probability_best
    return f", best with probability {chance:.2f}" if math.isfinite(chance) else ""


def _p_values(kind: Kind, effect: Estimate) -> tuple[float, float]:
    """Two-sided p-values against what agreement and what disagreement have to rule out."""
    margin, mean = RULES.margin, effect.mean
    within = max(_below(effect, margin), _above(effect, -margin))
    outside = min(_above(effect, margin), _below(effect, -margin))
    return {
        "better": (_above(effect, 0.0), _below(effect, margin)),
        "worse": (_above(effect, 0.0), _below(effect, margin)),
        "alike": (within, outside),
        "no better": (_below(effect, margin), _above(effect, 0.0) if mean > margin else 1.0),
        "no worse": (_above(effect, -margin), _below(effect, 0.0) if mean < -margin else 1.0),
    }[kind]


def _above(effect: Estimate, bar: float) -> float:
    """P-value for the statement that the true effect lies above the bar; 1 if the error is unknown."""
    return _below(negated(effect), -bar)


def _below(effect: Estimate, bar: float) -> float:
    if not math.isfinite(effect.error):
        return 1.0
    if effect.error == 0:
        return 0.0 if effect.mean < bar else 1.0
    return min(1.0, 2 * float(stats.t.cdf((effect.mean - bar) / effect.error, effect.freedom)))


def negated(effect: Estimate) -> Estimate:
    """The same effect with the sides exchanged."""
    return Estimate(
        -effect.mean,
        effect.error,
        effect.freedom,
        -effect.high,
        -effect.low,
        1 - effect.probability,
        effect.p_value,
    )
