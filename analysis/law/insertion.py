"""Insertion: does the order of two stages survive a third one before, between or after them?"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ordercomp.analysis.evidence.judge import Outcome, Rules, estimate_all, judge_directions
from ordercomp.analysis.evidence.units import PairTable
from ordercomp.analysis.law.opinion import Opinion
from ordercomp.analysis.statistics import Estimate, row_scores
from ordercomp.codec import FLAT

Pair = tuple[str, str]
Where = Literal["before", "between", "after"]
PLACES: tuple[Where, ...] = ("before", "between", "after")


@dataclass(frozen=True, slots=True)
class Place:
    """A decided pair with another stage in one place."""

    where: Where
    contexts: int
    seeds: tuple[int, ...]  # that had no part in deciding
    outcome: Outcome
    effect: Estimate = field(metadata=FLAT)  # gain of the decided direction, in doublings


@dataclass(frozen=True, slots=True)
class Insertion:
    """A decided pair and what another stage before, between and after does to it."""

    first: str  # comes first by the law
    second: str
    stage: str
    outcome: Outcome
    sentence: str
    places: tuple[Place, ...]


def check_insertions(
    own: Opinion,
    unseen: Mapping[int, Opinion],
    neighbors: Mapping[Pair, PairTable],
    apart: Mapping[Pair, PairTable],
    *,
    rules: Rules,
    bound: float,
) -> list[Insertion]:
    """Test each decided pair with every other stage before both, between them and after both.

    Args:
        own: the opinion whose decided pairs are tested.
        unseen: for each seed to test at, an opinion that it had no part in. The seed tests the direction that
            this opinion decides, on the prefixes that it calls trained enough; undecided, it tests nothing.
        neighbors: tables of adjacent pairs.
        apart: tables of distant pairs.
        rules: error level, interval level, fewest seeds.
        bound: largest difference of value that is possible, log2 units.

    Whether a place holds, says `judge_places`. An insertion fails if any of its places does and holds if all
    do.
    """
    decided = [pair for pair in neighbors if own.direction(pair)]
    signed = {pair: (_signed(neighbors[pair], unseen), _signed(apart[pair], unseen)) for pair in decided}
    cases = [
        (pair, stage, where)
        for pair in decided
        for stage in sorted(set(own.stages) - set(pair))
        for where in PLACES
    ]
    tables = [_placed(*signed[pair], stage, where) for pair, stage, where in cases]
    places = judge_places([where for _, _, where in cases], tables, rules=rules, bound=bound)
    found: dict[tuple[Pair, str], list[Place]] = defaultdict(list)
    for (pair, stage, _), place in zip(cases, places, strict=True):
        found[pair if own.direction(pair) > 0 else pair[::-1], stage].append(place)
    return [_insertion(*names, stage, tuple(three)) for (names, stage), three in found.items()]


def judge_places(
    wheres: Sequence[Where], tables: Sequence[PairTable], *, rules: Rules, bound: float
) -> list[Place]:
    """Judge all places together, on tables whose positive effects speak for the direction under test.

    A place holds if the direction gains, fails if it loses, each by Holm's p-value over all places, and is
    undecided otherwise, also without records or with few seeds.
    """
    gains = estimate_all([row_scores(table.effects) for table in tables], rules=rules, bound=bound)
    seen = [np.isfinite(table.effects) for table in tables]
    seeds = [
        tuple(table.seeds[row] for row in np.flatnonzero(some.any(axis=1)))
        for table, some in zip(tables, seen, strict=True)
    ]
    judged = judge_directions(gains, list(map(len, seeds)), rules=replace(rules, margin=0.0))
    outcomes: dict[str, Outcome] = {"before": "holds", "after": "fails"}
    return [
        Place(where, int(some.any(axis=0).sum()), own, outcomes.get(one.verdict, "undecided"), gain)
        for where, some, own, gain, one in zip(wheres, seen, seeds, gains, judged, strict=True)
    ]


def _signed(table: PairTable, unseen: Mapping[int, Opinion]) -> PairTable:
    """Turn each seed's row so that positive speaks for what others decided; NaN where that is not to be."""
    kept = table.at_seeds(unseen)
    pair = (table.first, table.second)
    sound: dict[tuple[int, ...], list[bool]] = {}
    signs = np.full(kept.effects.shape, np.nan)
    for row, seed in enumerate(kept.seeds):
        other = unseen[seed]
        if other.seeds not in sound:
            sound[other.seeds] = other.guard.sound(table)
        if other.direction(pair):
            signs[row, sound[other.seeds]] = other.direction(pair)
    return replace(kept, effects=kept.effects * signs)


def _placed(near: PairTable, apart: PairTable, stage: str, where: Where) -> PairTable:
    if where == "between":
        return apart.choose(stage in cell.between for cell in apart.cells)
    if where == "before":
        return near.choose(stage in cell.prefix for cell in near.cells)
    return near.choose(stage in cell.suffix for cell in near.cells)


def _insertion(first: str, second: str, stage: str, places: tuple[Place, ...]) -> Insertion:
    outcomes = [place.outcome for place in places]
    outcome: Outcome = "undecided"
    if "fails" in outcomes:
        outcome = "fails"
    elif all(one == "holds" for one in outcomes):
        outcome = "holds"
    numbers = "; ".join(
        f"{place.where} {place.effect.mean:+.2f} [{place.effect.low:+.2f}, {place.effect.high:+.2f}]"
        if place.contexts
        else f"{place.where} no records"
        for place in places
    )
    seeds = sorted({seed for place in places for seed in place.seeds})
    tested = f"seeds {', '.join(map(str, seeds))}" if seeds else "no seed that had no part in deciding it"
    sentence = f"{first} before {second} with {stage} inserted {outcome}: {numbers} doublings ({tested})."
    return Insertion(first, second, stage, outcome, sentence, places)
