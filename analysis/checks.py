"""Further trials of a law: does it survive a stage put in between, and is a stage worth applying twice?"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.evidence import Evidence, Rules
from ordercomp.analysis.readouts import Measured
from ordercomp.analysis.resampling import Estimate, estimate, holm, row_scores, variance_prior
from ordercomp.analysis.units import PairTable, Run, parsed
from ordercomp.analysis.verification import Outcome
from ordercomp.orders import Order
from ordercomp.sequence import StageSequence

__all__ = ["Insertion", "Place", "Repetition", "check_insertions", "check_repetitions"]

FloatArray = npt.NDArray[np.float64]
Pair = tuple[str, str]
Where = Literal["before", "between", "after"]
PLACES: tuple[Where, ...] = ("before", "between", "after")


@dataclass(frozen=True, slots=True)
class Place:
    """A decided pair with another stage in one place."""

    where: Where
    contexts: int
    effect: Estimate  # gain of the decided direction, in doublings
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Insertion:
    """A decided pair and what another stage before, between and after does to it."""

    first: str  # comes first by the law
    second: str
    stage: str
    places: tuple[Place, ...]
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Repetition:
    """A stage once more, against doing without: once but harder, or the law alone."""

    stage: str
    twice: str  # order or sequence with the repeat
    once: str  # what it is compared with
    effect: Estimate  # gain of the repeat, in doublings
    seeds: int
    outcome: Outcome  # of the claim that the repeat gains nothing beyond the margin
    sentence: str


def check_insertions(
    evidence: Sequence[Evidence],
    neighbors: Mapping[Pair, PairTable],
    apart: Mapping[Pair, PairTable],
    *,
    rules: Rules,
    bound: float,
) -> list[Insertion]:
    """Test each decided pair with every other stage before both, between them and after both.

    A place holds if the interval of the decided direction lies above 0, fails if Holm's p-value over all
    places is at most alpha the other way, and is undecided otherwise, also without records. An insertion
    fails if any of its places does and holds if all do. `neighbors` and `apart` are tables of adjacent and
    distant pairs.
    """
    decided = [pair for pair in evidence if pair.verdict in ("before", "after")]
    cases = [
        (pair, stage, where)
        for pair in decided
        for stage in sorted({letter for key in neighbors for letter in key} - {pair.first, pair.second})
        for where in PLACES
    ]
    tables = [_placed(neighbors, apart, pair, stage, where) for pair, stage, where in cases]
    scores = [row_scores(table.effects) for table in tables]
    prior = variance_prior(scores, cap=rules.prior_cap)
    effects = [estimate(rows, prior=prior, level=rules.level, bound=bound) for rows in scores]
    adjusted = holm([effect.p_value for effect in effects])
    found: dict[tuple[str, str, str], list[Place]] = defaultdict(list)
    for case, table, effect, p_value in zip(cases, tables, effects, adjusted, strict=True):
        pair, stage, where = case
        gain = effect if pair.verdict == "before" else _negated(effect)
        names = (pair.first, pair.second) if pair.verdict == "before" else (pair.second, pair.first)
        outcome: Outcome = "undecided"
        if math.isfinite(gain.error) and gain.low > 0:
            outcome = "holds"
        elif p_value <= rules.alpha and gain.mean < 0:
            outcome = "fails"
        found[*names, stage].append(Place(where, len(table.cells), gain, outcome))
    return [_insertion(*key, tuple(places)) for key, places in found.items()]


def check_repetitions(
    runs: Mapping[Run, Measured], law: Order, *, rules: Rules, bound: float
) -> list[Repetition]:
    """Test what a repeated stage gains: XX against X once but harder, and `law` followed by X again.

    The harder X is the one of those with other knobs than the first of the two X whose reduction of bit
    operations comes closest to theirs. Compared are the validation values, paired by seed. The claim that
    the repeat gains nothing holds if the interval ends below the margin, fails if it lies above 0 and its
    mean above the margin.
    """
    by_text: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
    for (accounting, text, seed), measured in sorted(runs.items()):
        by_text[accounting, text][seed] = measured
    cases: dict[tuple[str, str, str], list[dict[int, float]]] = defaultdict(list)
    for (accounting, text), twice in by_text.items():
        steps = parsed(text).steps
        order = "".join(step.stage for step in steps)
        if len(order) == 2 and order[0] == order[1]:
            partner = _harder(by_text, accounting, text)
            if partner is not None:
                cases[order[0], text, partner].append(_gains(twice, by_text[accounting, partner]))
        elif order[:-1] == law and order[-1] in law:
            prefix = str(StageSequence(steps[:-1]))
            cases[order[-1], order, law].append(_gains(twice, by_text.get((accounting, prefix), {})))
    tables = {key: _table(columns) for key, columns in cases.items() if any(columns)}
    scores = {key: row_scores(table) for key, table in tables.items()}
    prior = variance_prior(list(scores.values()), cap=rules.prior_cap)
    return [
        _repetition(key, estimate(rows, prior=prior, level=rules.level, bound=bound), len(rows), rules)
        for key, rows in scores.items()
    ]


def _placed(
    neighbors: Mapping[Pair, PairTable],
    apart: Mapping[Pair, PairTable],
    pair: Evidence,
    stage: str,
    where: Where,
) -> PairTable:
    key = (pair.first, pair.second)
    if where == "between":
        return apart[key].choose(stage in cell.between for cell in apart[key].cells)
    if where == "before":
        return neighbors[key].choose(stage in cell.prefix for cell in neighbors[key].cells)
    return neighbors[key].choose(stage in cell.suffix for cell in neighbors[key].cells)


def _negated(effect: Estimate) -> Estimate:
    return Estimate(
        -effect.mean,
        effect.error,
        effect.freedom,
        -effect.high,
        -effect.low,
        1 - effect.probability,
        effect.p_value,
    )


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
    sentence = f"{first} before {second} with {stage} inserted {outcome}: {numbers} doublings."
    return Insertion(first, second, stage, places, outcome, sentence)


def _harder(
    by_text: Mapping[tuple[str, str], Mapping[int, Measured]], accounting: str, text: str
) -> str | None:
    """Find the single stage, with other knobs than the first of the two, of the closest reduction."""
    first = parsed(text).steps[0]
    wanted = _reduction(by_text[accounting, text])
    floor = _reduction(by_text.get((accounting, str(first)), {}))
    rivals = {
        other: abs(_reduction(measured) - wanted)
        for (mode, other), measured in by_text.items()
        if mode == accounting
        and other != str(first)
        and parsed(other).order == first.stage
        and (math.isnan(floor) or _reduction(measured) > floor)
    }
    return min(rivals, key=lambda other: (rivals[other], other), default=None)


def _reduction(measured: Mapping[int, Measured]) -> float:
    """Mean log2 reduction of bit operations, at the end of the network or the best exit."""
    reached = [max(math.log2(point.bitops_cr) for point in one.record.points) for one in measured.values()]
    return float(np.mean(reached)) if reached else float("nan")


def _gains(twice: Mapping[int, Measured], once: Mapping[int, Measured]) -> dict[int, float]:
    return {seed: twice[seed].value - once[seed].value for seed in sorted(twice.keys() & once.keys())}


def _table(columns: Sequence[Mapping[int, float]]) -> FloatArray:
    seeds = sorted({seed for column in columns for seed in column})
    return np.array([[column.get(seed, np.nan) for column in columns] for seed in seeds])


def _repetition(key: tuple[str, str, str], effect: Estimate, seeds: int, rules: Rules) -> Repetition:
    stage, twice, once = key
    outcome: Outcome = "undecided"
    if math.isfinite(effect.error):
        if effect.high <= rules.margin:
            outcome = "holds"
        elif effect.low > 0 and effect.mean > rules.margin:
            outcome = "fails"
    sentence = (
        f"That {twice} gains nothing over {once} {outcome}: {effect.mean:+.2f} "
        f"[{effect.low:+.2f}, {effect.high:+.2f}] doublings over {seeds} seeds."
    )
    return Repetition(stage, twice, once, effect, seeds, outcome, sentence)
