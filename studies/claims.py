"""Deciding claims of the form "these networks are better than those", seed by seed, with uncertainty.

The value of a side at a seed is that of the front of its networks, chosen on validation data and valued on
test data. Claims that are decided together share the error level (Holm 1979).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.checks import Exhaustive, exhaustive
from ordercomp.analysis.convergence import MARGIN, Control, controls
from ordercomp.analysis.fronts import Candidate, candidates, front_value, group_by_seed
from ordercomp.analysis.posterior import posterior_of
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.run_table import CONTROL, RunTable
from ordercomp.analysis.statistics import RULES, Decision, Effect, Hypothesis, decide_together, estimate_all
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence
from ordercomp.studies.experiment import ClaimVerdict, Finding, effect_text, interval_of, restrict
from ordercomp.studies.facts import LAW
from ordercomp.studies.preset import evenly

FloatArray = npt.NDArray[np.float64]
Kind = Hypothesis | Literal["worse"]  # that the second is better than the first

LOSSES = (0.002, 0.006, 0.01, 0.02, 0.05, 0.1)  # tolerated, fractions: the paper's, and what small nets lose
TOLERATED = 0.01  # validation accuracy, a fraction, that early leaving may cost
CONSTRUCTION = (
    "D trains a fresh student, so that what P and Q did before it vanishes from the cost: "
    "D before them is true by construction here, not a finding."
)
_VANISHING = frozenset("PQ")  # stages of which a fresh student keeps nothing; exits and dropped blocks stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That the networks of `first` are better than, worse than or like those of `second`."""

    text: str
    first: Sequence[Record]
    second: Sequence[Record]
    kind: Kind = "better"


def stages_of(records: Iterable[Record]) -> Order:
    """The stages that occur, without the control F: those of the paper's law first, in its order."""
    letters = {letter for record in records for letter in record.order} - {CONTROL}
    return restrict(LAW, letters) + "".join(sorted(letters - set(LAW)))


def law_of(records: Iterable[Record]) -> Order:
    """The law on those of its stages that occur."""
    return restrict(LAW, stages_of(records))


def has_fresh_student(records: Iterable[Record]) -> bool:
    """Whether D starts from scratch somewhere, so that its place is decided by construction."""
    return any("student=fresh" in record.sequence for record in records)


def is_by_construction(pair: Order, records: Iterable[Record]) -> bool:
    """Whether the order of two stages follows from how D trains in these records, not from results."""
    return pair[0] == "D" and pair[1] in _VANISHING and has_fresh_student(records)


def even_out(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Cut both sides, seed by seed, to the number of networks of the smaller one.

    What stays of the larger side is spread evenly over its reductions, so that no end is favored.
    """

    def place(record: Record) -> tuple[float, str]:
        return record.points[0].bitops_cr if record.points else 0.0, record.sequence

    sides = group_by_seed(first), group_by_seed(second)
    evened: tuple[list[Record], list[Record]] = ([], [])
    for seed in sorted(sides[0].keys() & sides[1].keys()):
        count = min(len(side[seed]) for side in sides)
        for part, side in zip(evened, sides, strict=True):
            rising = sorted(side[seed], key=place)
            part += [rising[(len(rising) - 1) // 2]] if count == 1 else evenly(rising, count)
    return evened


def longest(records: Sequence[Record]) -> list[Record]:
    """Those with the most epochs: prefixes of others train shorter."""
    most = max((record.epochs for record in records), default=0.0)
    return [record for record in records if record.epochs == most]


def convergence(records: Sequence[Record]) -> tuple[Control, ...]:
    """What F adds to each prefix that has a control arm."""
    if not any(record.order.strip(CONTROL) for record in records):
        return ()
    return controls(RunTable.of(records))


def under_trained_prefixes(
    first: Sequence[Record], second: Sequence[Record], guard: Iterable[Control]
) -> list[str]:
    """The under-trained prefixes that at least half of the networks of a side pass through, alone.

    Prefixes that both sides share are passed over: what they lack, both lack.
    """
    short = {control.sequence for control in guard if control.gain > MARGIN}
    sides = [[_prefix_texts(record) for record in side] for side in (first, second)]
    shared = set.intersection(*(set().union(*side) for side in sides)) if all(sides) else set()
    return [
        text
        for text in sorted(short - shared)
        if any(2 * sum(text in prefixes for prefixes in side) >= len(side) for side in sides if side)
    ]


def _prefix_texts(record: Record) -> set[str]:
    return set(map(str, StageSequence.parse(record.sequence).prefixes))


def decide_claims(claims: Sequence[Claim], guard: Iterable[Control] = ()) -> list[Finding]:
    """Decide all claims together, one finding each, in their order.

    What leans on under-trained prefixes is undecided. A claim that puts D first is true by construction where
    D trains a fresh student. For the rest see `decide_together`.
    """
    controls_run = list(guard)
    scores = [_scores(claim) for claim in claims]
    bound = max((abs(float(score)) for gains in scores for score in gains), default=0.0)
    effects = estimate_all(scores, bound=max(10.0, 2 * bound))
    hypotheses: list[Hypothesis] = ["better" if claim.kind == "worse" else claim.kind for claim in claims]
    seeds = [len(gains) for gains in scores]
    decisions = decide_together(hypotheses, effects, seeds)
    return [
        _finding(claim, effect, count, decision, controls_run)
        for claim, effect, count, decision in zip(claims, effects, seeds, decisions, strict=True)
    ]


def _scores(claim: Claim) -> FloatArray:
    """What the claim says is larger, at every seed that both sides have with equally many networks."""
    first, second = group_by_seed(claim.first), group_by_seed(claim.second)
    seeds = sorted(first.keys() & second.keys())
    fair = [seed for seed in seeds if len(first[seed]) == len(second[seed])]
    gains = np.array([front_value(first[seed]) - front_value(second[seed]) for seed in fair])
    return -gains if claim.kind == "worse" else gains


def _finding(
    claim: Claim, effect: Effect, seeds: int, decision: Decision, guard: Sequence[Control]
) -> Finding:
    verdict: ClaimVerdict = decision.verdict
    caveat = decision.caveat
    if short := under_trained_prefixes(claim.first, claim.second, guard):
        verdict, caveat = "undecided", f"This leans on under-trained prefixes: {'; '.join(short[:3])}."
    if has_fresh_student(claim.first) and _hides(claim.second) and not _hides(claim.first):
        verdict, caveat = "true by construction", CONSTRUCTION
    return Finding(
        claim=claim.text,
        measured=_in_words(claim, effect) if seeds else "nothing, as no seed has both sides",
        verdict=verdict,
        seeds=seeds,
        effect=effect.mean if seeds else None,
        interval=interval_of(effect),
        caveat=caveat,
    )


def _hides(records: Iterable[Record]) -> bool:
    """Whether some order has P or Q before its last D, where a fresh student hides them from the cost."""
    return any(_VANISHING & set(record.order[: max(0, record.order.rfind("D"))]) for record in records)


def _in_words(claim: Claim, effect: Effect) -> str:
    text = f"{'loss' if claim.kind == 'worse' else 'gain'} {effect_text(effect)} doublings of value"
    first, second = _end(claim.first), _end(claim.second)
    if first is not None and second is not None:
        accuracy, factor = first[0] - second[0], 2 ** (first[1] - second[1])
        text += f"; without early leaving {100 * accuracy:+.1f} points at {factor:.3g} times the reduction"
    return text


def _end(records: Sequence[Record]) -> tuple[float, float] | None:
    """Mean test accuracy and mean log2 reduction with no early leaving; None if nothing was measured."""
    points = [record.points[0] for record in records if record.points]
    if not points:
        return None
    return (
        float(np.mean([point.test_accuracy for point in points])),
        float(np.mean([math.log2(point.bitops_cr) for point in points])),
    )


def rank_of(records: Sequence[Record], order: Order, stages: Order) -> Exhaustive | None:
    """Where an order stands among all of `stages` at a loss of 2 %, if the records did not choose it.

    None unless it and another one were run.
    """
    posterior = posterior_of(records, stages=stages)
    return exhaustive(posterior.table, posterior.values, order)


def best_verdict(rank: Exhaustive) -> ClaimVerdict:
    """The verdict on "this order is the best": agreed to where it holds and is sure enough to be the best."""
    if rank.outcome == "holds":
        return "agree" if (rank.probability_best or 0.0) >= RULES.sure else "undecided"
    return "disagree" if rank.outcome == "fails" else "undecided"


def chance_of_best(rank: Exhaustive) -> str:
    """How probable it is that the order is the best, in words; nothing with one seed, which cannot tell."""
    chance = rank.probability_best
    return "" if chance is None else f", best with probability {chance:.2f}"


def cheapest(record: Record) -> Candidate:
    """The operating point of the largest reduction that costs at most a point of validation accuracy.

    Against the end of the network, without early leaving. Raises IndexError for a failed record.
    """
    points = candidates([record])
    end = next((point for point in points if point.point.threshold is None), points[0])
    within = [point for point in points if point.accuracy >= end.accuracy - TOLERATED - 1e-12]
    return max(within, key=lambda point: point.bitops_cr)


def short_name(text: str) -> str:
    """The order of a sequence, with the bits of its Q: `DPQE at 2w4a`."""
    steps = StageSequence.parse(text).steps
    settings_of_q = [step.settings for step in steps if step.stage == "Q" and step.settings]
    bits = [f"{settings['weights']}w{settings['activations']}a" for settings in settings_of_q]
    return "".join(step.stage for step in steps) + (f" at {' and '.join(bits)}" if bits else "")


def measured_table(title: str, groups: Iterable[Sequence[Record]]) -> Table:
    """One row per group of records of the same sequence, over its seeds: accuracy, reductions, epochs.

    Failed records are passed over, groups without any point left out, equal rows shown once.
    """
    measured = [[record for record in records if record.points] for records in groups]
    return Table.of(
        title,
        ("sequence", "test accuracy", "change", "BitOpsCR", "CR", "with exits", "epochs", "seeds"),
        dict.fromkeys(measured_row(records) for records in measured if records),
        left=("sequence",),
        note="At the end of the network, no early leaving: means over seeds, of reductions geometric ones. "
        "With exits: BitOpsCR at the cheapest threshold that costs at most a point of validation accuracy.",
    )


def measured_row(records: Sequence[Record]) -> tuple[str, ...]:
    """Of measured records of a sequence: it, test accuracy, change, reductions, with exits, epochs, seeds."""
    ends = [next((p for p in record.points if p.threshold is None), record.points[0]) for record in records]
    accuracy = float(np.mean([end.test_accuracy for end in ends]))
    change = accuracy - float(np.mean([record.baseline.test_accuracy for record in records]))
    leaving = all(len(record.points) > 1 for record in records)
    return (
        records[0].sequence,
        f"{100 * accuracy:.2f} %",
        f"{100 * change:+.2f}",
        _times([end.bitops_cr for end in ends]),
        _times([end.cr for end in ends]),
        _times([cheapest(record).bitops_cr for record in records]) if leaving else "",
        f"{records[0].epochs:g}",
        str(len({record.seed for record in records})),
    )


def _times(reductions: Sequence[float]) -> str:
    return f"{2.0 ** float(np.mean(np.log2(reductions))):.3g}×"
