"""The verdict of a law in plain sentences: what is known, how surely, and what is not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ordercomp.analysis.evidence.convergence import Control
from ordercomp.analysis.law.findings import Law
from ordercomp.analysis.precedence import MOST_EXTENSIONS
from ordercomp.analysis.report.tables import probability_text
from ordercomp.analysis.sampled import AdaptiveEvidence
from ordercomp.sequence import Order

# What stands between the answer at one loss and the verdict on the pairs.
ANOTHER_QUESTION = "Another question, pair by pair, averaged over losses up to some ten points:"

STAGE_NAMES: Mapping[str, str] = {
    "D": "distill",
    "P": "prune",
    "Q": "quantize",
    "E": "add early exits",
    "F": "fine-tune",
    "K": "recover by distillation",
    "L": "low-rank",
    "S": "sparsify",
    "W": "share weights",
    "H": "entropy-code",
}
MOST_NAMED = 6  # orders listed by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a law says, as sentences."""

    headline: str
    detail: str
    order: Order  # the law, or the likeliest order
    role: str  # "law" or "best guess"
    probability: float | None  # of that order; None if the law does not say


def read_verdict(law: Law | AdaptiveEvidence) -> Verdict:
    """Read the verdict off a law, which may hold no more than the contract asks for.

    Anything short of a single order that satisfies the precedence is "undecided" or, on a cycle, "no law".
    """
    order = law.law or law.kemeny or (law.orders or (law.stages,))[0]
    probability = _probability(law, order)
    if law.law:
        headline = f"Law: {_arrows(order)}{_chance(probability, ',')}."
        detail = f"That is: {_spoken(order)}. No other order agrees with every decided pair."
    elif law.cycle:
        headline = f"No law: the decided pairs contradict each other, {_arrows(law.cycle)}."
        detail = (
            f"The order with the least contradiction is {order}{_chance(probability, ', which comes out')}."
        )
    else:
        headline = f"Undecided: {_possible(law)}."
        detail = _open_pairs(law)
    detail += _torn(law) + _weak_pairs(law)
    role = "law" if law.law else "best guess"
    return Verdict(headline=headline, detail=detail, order=order, role=role, probability=probability)


def named_stages(stages: Order) -> str:
    """The letters of the stages with their names; those of plug-ins have none."""
    return ", ".join(f"{stage}: {STAGE_NAMES[stage]}" for stage in stages if stage in STAGE_NAMES)


def training_caveat(controls: Sequence[Control]) -> str:
    """Say how many sequences were trained too briefly; empty where none was."""
    short = sum(control.status == "under-trained" for control in controls)
    if not short:
        return ""
    return (
        f"After {short} of {len(controls)} sequences, more epochs alone (F) gain more than a point: stages "
        "that are trained too briefly can fake an order."
    )


def _probability(law: Law | AdaptiveEvidence, order: Order) -> float | None:
    if not law.laws:
        return None
    return float(sum(one.probability for one in law.laws if one.order == order))


def _arrows(order: Sequence[str]) -> str:
    return " → ".join(order)


def _spoken(order: Order) -> str:
    return _listed([STAGE_NAMES.get(stage, f"stage {stage}") for stage in order], "then")


def _listed(names: Sequence[str], word: str) -> str:
    """Join names as in "a, b or c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _chance(probability: float | None, lead: str) -> str:
    return "" if probability is None else f"{lead} with probability {probability_text(probability)}"


def _possible(law: Law | AdaptiveEvidence) -> str:
    orders, every = law.orders, math.factorial(len(law.stages))
    if len(orders) == every:
        return f"the records leave all {every} orders possible"
    if len(orders) <= MOST_NAMED:
        return f"{_listed(orders, 'or')}, of {every} orders"
    least = "at least " if len(orders) == MOST_EXTENSIONS else ""  # no more are listed
    return f"{least}{len(orders)} of {every} orders remain possible"


def _open_pairs(law: Law | AdaptiveEvidence) -> str:
    groups = {"tied": "equivalent", "conditional": "dependent on the context", "undecided": "unsettled"}
    parts = []
    for verdict, word in groups.items():
        pairs = [f"{pair.first} and {pair.second}" for pair in law.pairs if pair.verdict == verdict]
        if pairs:
            parts.append(f"{'; '.join(pairs)} {'is' if len(pairs) == 1 else 'are'} {word}")
    return f"The order of {', that of '.join(parts)}." if parts else "No pair is missing a verdict."


def _torn(law: Law | AdaptiveEvidence) -> str:
    """How often the pairs of a resample make no order at all: what the probabilities of orders lack to 1."""
    share = sum(one.probability for one in law.laws if one.order is None)
    return f" In {100 * share:.0f} % of the resamples the pairs contradict each other." if share else ""


def _weak_pairs(law: Law | AdaptiveEvidence) -> str:
    pairs = [f"{pair.first} and {pair.second}" for pair in law.pairs if pair.under_trained]
    if not pairs:
        return ""
    return f" Training was too short to judge {_listed(pairs, 'or')}: more epochs alone still help there."
