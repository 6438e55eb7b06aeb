"""Judging claims of the form "these networks are better than those", seed by seed, with uncertainty.

The value of a side at a seed is that of the front of its networks, chosen on validation data and valued on
test data. Claims that are judged together share the error level (Holm 1979).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.checks import Exhaustive
from ordercomp.analysis.fronts import DEFAULT_SCALE, candidates, front_value
from ordercomp.analysis.pairs import Control
from ordercomp.analysis.pairs import controls as find_controls
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.analysis.run_table import CONTROL, RunTable
from ordercomp.analysis.statistics import RULES, Decision, Estimate, Hypothesis, decide_together, estimate_all
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence
from ordercomp.studies.experiment import Finding, Verdict
from ordercomp.studies.facts import LAW

FloatArray = npt.NDArray[np.float64]


Kind = Hypothesis | Literal["worse"]  # that the second is better than the first


GUARD_MARGIN = 0.01  # accuracy that F may add, a fraction, before a prefix counts as under-trained


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


def latest(records: Iterable[Record]) -> list[Record]:
    """One record of each task, accounting, sequence and seed: the last; in an order of their own.

    So nothing that is told of the records depends on which training ended first.
    """
    found: dict[tuple[str, str, str, int], Record] = {}
    for record in records:
        accounting = record.accounting
        found[record.task, accounting, record.sequence, record.seed] = record
    return [found[key] for key in sorted(found, key=_place)]


def _place(key: tuple[str, str, str, int]) -> tuple[str, str, str, str, int]:
    task, accounting, sequence, seed = key
    return task, accounting, sequence.rpartition(" ")[2], sequence, seed


def has_fresh_student(records: Iterable[Record]) -> bool:
    """Whether D starts from scratch somewhere, so that its place is decided by construction."""
    return any("student=fresh" in record.sequence for record in records)


def is_by_construction(first: str, second: str, records: Iterable[Record]) -> bool:
    """Whether "`first` before `second`" follows from how D trains in these records, not from results."""
    return first == "D" and second in _VANISHING and has_fresh_student(records)


def by_order(records: Iterable[Record]) -> dict[Order, list[Record]]:
    """The records of each order."""
    found: dict[Order, list[Record]] = defaultdict(list)
    for record in records:
        found[record.order].append(record)
    return dict(found)


def even_out(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Cut both sides, seed by seed, to the number of networks of the smaller one.

    What stays of the larger side is spread evenly over its reductions, so that no end is favored.
    """
    one, other = _by_seed(first), _by_seed(second)
    kept: tuple[list[Record], list[Record]] = ([], [])
    for seed in sorted(one.keys() & other.keys()):
        count = min(len(one[seed]), len(other[seed]))
        for side, some in zip(kept, (one[seed], other[seed]), strict=True):
            side += _spread(sorted(some, key=lambda one: (_end_reduction(one), one.sequence)), count)
    return kept


def _spread(some: Sequence[Record], count: int) -> list[Record]:
    if count == 1:
        return [some[(len(some) - 1) // 2]]
    return [some[round(place * (len(some) - 1) / (count - 1))] for place in range(count)]


def _end_reduction(record: Record) -> float:
    return record.points[0].bitops_cr if record.points else 0.0


def stages_of(records: Iterable[Record]) -> Order:
    """The stages that occur, without the control F: those of the paper's law first, in its order."""
    letters = {letter for record in records for letter in record.order} - {CONTROL}
    known = "".join(letter for letter in LAW if letter in letters)
    return known + "".join(sorted(letters - set(known)))


def convergence(records: Sequence[Record]) -> tuple[Control, ...]:
    """What F adds to each prefix that has a control arm."""
    if not any(record.order.strip(CONTROL) for record in records):
        return ()
    return find_controls(RunTable.of(records).measured, margin=GUARD_MARGIN).controls


def leans_on(first: Sequence[Record], second: Sequence[Record], guard: Iterable[Control]) -> list[str]:
    """The under-trained prefixes that at least half of the networks of a side pass through, alone.

    Prefixes that both sides share are passed over: what they lack, both lack.
    """
    short = {control.sequence for control in guard if control.gain > GUARD_MARGIN}
    chains = [[_chain(record) for record in side] for side in (first, second)]
    shared = set.intersection(*(set().union(*side) for side in chains)) if all(chains) else set()
    found = []
    for node in sorted(short - shared):
        if any(2 * sum(node in chain for chain in side) >= len(side) for side in chains if side):
            found.append(node)
    return found


def judge_claims(claims: Sequence[Claim], guard: Iterable[Control] = ()) -> list[Finding]:
    """Judge all claims together, one finding each, in their order.

    What leans on under-trained prefixes is undecided. A claim that puts D first is true by construction where
    D trains a fresh student. For the rest see `decide_together`.
    """
    controls = list(guard)
    signs = [-1.0 if claim.kind == "worse" else 1.0 for claim in claims]
    scores = [sign * _scores(claim) for sign, claim in zip(signs, claims, strict=True)]
    bound = max((abs(float(score)) for some in scores for score in some), default=0.0)
    effects = estimate_all(scores, rules=RULES, bound=max(10.0, 2 * bound))
    hypotheses: list[Hypothesis] = ["better" if one.kind == "worse" else one.kind for one in claims]
    decisions = decide_together(hypotheses, effects, [len(some) for some in scores])
    return [
        _finding(claim, some, effect, decision, controls)
        for claim, some, effect, decision in zip(claims, scores, effects, decisions, strict=True)
    ]


def best_verdict(found: Exhaustive) -> Verdict:
    """The verdict on "this order is the best": agreed to where it holds and is sure enough to be the best."""
    if found.outcome == "holds":
        return "agree" if (found.probability_best or 0.0) >= RULES.sure else "undecided"
    return "disagree" if found.outcome == "fails" else "undecided"


def chance_of_best(found: Exhaustive) -> str:
    """How probable it is that the order is the best, in words; nothing with one seed, which cannot tell."""
    chance = found.probability_best
    return "" if chance is None else f", best with probability {chance:.2f}"


def _scores(claim: Claim) -> FloatArray:
    """Difference of values at every seed that both sides have with equally many networks."""
    first, second = _by_seed(claim.first), _by_seed(claim.second)
    seeds = sorted(first.keys() & second.keys())
    fair = [seed for seed in seeds if len(first[seed]) == len(second[seed])]
    return np.array([front_value(first[seed]) - front_value(second[seed]) for seed in fair])


def _by_seed(records: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        found[record.seed].append(record)
    return dict(found)


def _finding(
    claim: Claim, scores: FloatArray, effect: Estimate, decision: Decision, guard: Sequence[Control]
) -> Finding:
    verdict: Verdict = decision.verdict
    caveat = decision.caveat
    if short := leans_on(claim.first, claim.second, guard):
        verdict, caveat = "undecided", f"This leans on under-trained prefixes: {'; '.join(short[:3])}."
    if _by_construction(claim):
        verdict, caveat = "true by construction", CONSTRUCTION
    return Finding(
        claim=claim.text,
        measured=_in_words(claim, effect, len(scores)),
        verdict=verdict,
        seeds=len(scores),
        effect=effect.mean if len(scores) else None,
        interval=(effect.low, effect.high) if math.isfinite(effect.error) else None,
        caveat=caveat,
    )


def _in_words(claim: Claim, effect: Estimate, seeds: int) -> str:
    if not seeds:
        return "nothing, as no seed has both sides"
    name = "loss" if claim.kind == "worse" else "gain"
    text = f"{name} {effect.mean:+.2f}"
    if math.isfinite(effect.error):
        text += f" [{effect.low:+.2f}, {effect.high:+.2f}]"
    text += " doublings of value"
    ends = [_end(side) for side in (claim.first, claim.second)]
    if ends[0] is not None and ends[1] is not None:
        accuracy, factor = ends[0][0] - ends[1][0], 2 ** (ends[0][1] - ends[1][1])
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


def _by_construction(claim: Claim) -> bool:
    """Whether a fresh student hides P or Q of the second side from its cost, and nothing of the first."""
    return has_fresh_student(claim.first) and _hides(claim.second) and not _hides(claim.first)


def _hides(records: Iterable[Record]) -> bool:
    """Whether some order has P or Q before its last D."""
    return any(_VANISHING & set(record.order[: max(0, record.order.rfind("D"))]) for record in records)


def _chain(record: Record) -> set[str]:
    return {str(prefix) for prefix in StageSequence.parse(record.sequence).prefixes}


# The table of measured networks that several experiments end with.


NAMES = ("sequence", "test accuracy", "change", "BitOpsCR", "CR", "with exits", "epochs", "seeds")


TOLERATED = 0.01  # validation accuracy, a fraction, that early leaving may cost


def measured_table(title: str, groups: Sequence[Sequence[Record]]) -> Table:
    """One row per group of records of the same sequence, over its seeds: accuracy, reductions, epochs.

    Failed records are passed over, groups without any point left out, equal rows shown once.
    """
    rows = [row for some in groups if (row := _row([one for one in some if one.points])) is not None]
    return Table(
        title=title,
        columns=tuple(Column(name, "left" if name == "sequence" else "right") for name in NAMES),
        rows=tuple(dict.fromkeys(rows)),
        note="At the end of the network, no early leaving: means over seeds, of reductions geometric ones. "
        "With exits: BitOpsCR at the cheapest threshold that costs at most a point of validation accuracy.",
    )


def short_name(text: str) -> str:
    """The order of a sequence, with the bits of its Q: `DPQE at 2w4a`."""
    steps = StageSequence.parse(text).steps
    bits = [f"{s.settings['weights']}w{s.settings['activations']}a" for s in steps if s.stage == "Q"]
    return "".join(step.stage for step in steps) + (f" at {' and '.join(bits)}" if bits else "")


def _row(some: Sequence[Record]) -> tuple[str, ...] | None:
    if not some:
        return None
    ends = [next((p for p in one.points if p.threshold is None), one.points[0]) for one in some]
    accuracy = float(np.mean([end.test_accuracy for end in ends]))
    change = accuracy - float(np.mean([one.baseline.test_accuracy for one in some]))
    leaving = ""
    if all(len(one.points) > 1 for one in some):
        leaving = _times([_cheapest(one, end.accuracy) for one, end in zip(some, ends, strict=True)])
    return (
        some[0].sequence,
        f"{100 * accuracy:.2f} %",
        f"{100 * change:+.2f}",
        _times([end.bitops_cr for end in ends]),
        _times([end.cr for end in ends]),
        leaving,
        f"{some[0].epochs:g}",
        str(len({one.seed for one in some})),
    )


def _cheapest(record: Record, end_accuracy: float) -> float:
    allowed = end_accuracy - TOLERATED - 1e-12
    found = candidates([record], scale=DEFAULT_SCALE)
    return max(one.bitops_cr for one in found if one.accuracy >= allowed)


def _times(reductions: Sequence[float]) -> str:
    return f"{2.0 ** float(np.mean(np.log2(reductions))):.3g}×"
