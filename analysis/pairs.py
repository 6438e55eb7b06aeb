"""Verdicts on pairs of stages: which comes first, how sure is that, and does it depend on the context?

The independent unit is the seed: all contexts and knob settings of one seed share the baseline network, the
split of the data and trained prefixes. A pair's score at a seed is its mean difference over the cells. The
scores of the seeds give a t interval, with a variance that the other pairs may raise but not lower (after
Smyth 2004), and p-values that Holm's method adjusts for the number of pairs. Where further seeds were
added after a look at the results, each look has a share of the error of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ordercomp.analysis.evidence.convergence import Guard
from ordercomp.analysis.evidence.judge import Direction, Rules, estimate_all, judge_directions, signs_differ
from ordercomp.analysis.evidence.units import Cell, PairTable
from ordercomp.analysis.statistics import Estimate, row_scores, sign_flip_p
from ordercomp.codec import FLAT, OMITTED, named

Pair = tuple[str, str]
Verdict = Literal["before", "after", "tied", "undecided", "conditional"]


@dataclass(frozen=True, slots=True)
class Counted:
    """The cells of a pair that count."""

    table: PairTable
    left_out: int  # cells that lean on under-trained prefixes
    doubtful: bool  # too many of them: the table holds them all, and nothing is decided


@dataclass(frozen=True, slots=True)
class Group:
    """The cells of a pair that have something in common, judged alone."""

    name: str  # e.g. "D earlier", "P(ratio=0.4) Q(weights=2)"
    cells: int = field(metadata=named("contexts"))
    effect: Estimate = field(metadata=FLAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What records say about one pair of stages. What is None, nobody has worked out."""

    KEYS: ClassVar = (
        *("first", "second", "verdict", "probability", "effect", "interval", "contexts", "seeds"),
        *("under_trained", "p_value", "adjusted_p", "sign_flip_p", "log2_reduction_at_equal_accuracy"),
        *("accuracy_at_equal_reduction", "contexts_left_out", "groups"),
    )

    first: str
    second: str
    verdict: Verdict
    effect: Estimate = field(metadata=FLAT)  # log2 units of value; positive: `first` should come first
    contexts: int  # cells that count; of networks that a sampler chose, those on either side
    seeds: int  # seeds that count
    under_trained: bool = False  # half of the cells or more lean on under-trained prefixes
    p_value: float | None = field(default=None, metadata=OMITTED)  # against no effect
    adjusted_p: float | None = field(default=None, metadata=OMITTED)  # after Holm over the pairs
    sign_flip_p: float | None = field(default=None, metadata=OMITTED)  # exact check that assumes no normal
    # distribution; at least 2^(1-seeds)
    reduction: float | None = field(  # log2 reduction gained at equal accuracy, mean over seeds
        default=None, metadata={**OMITTED, **named("log2_reduction_at_equal_accuracy")}
    )
    accuracy: float | None = field(  # accuracy gained at equal reduction, a fraction, mean over seeds
        default=None, metadata={**OMITTED, **named("accuracy_at_equal_reduction")}
    )
    left_out: int | None = field(  # cells that lean on under-trained prefixes, so that they do not count
        default=None, metadata={**OMITTED, **named("contexts_left_out")}
    )
    groups: tuple[Group, ...] | None = field(default=None, metadata=OMITTED)

    @property
    def decided(self) -> bool:
        """Whether one of the two comes first."""
        return self.verdict in ("before", "after")


def gather(
    tables: Mapping[Pair, PairTable],
    guard: Guard,
    *,
    rules: Rules,
    bound: float,
    rng: np.random.Generator,
    planned: int | None = None,
) -> list[Evidence]:
    """Judge every pair of stages.

    Args:
        tables: paired differences by pair.
        guard: says which cells lean on under-trained prefixes. Cells that do are left out; a pair that has
            no more than half of its cells left keeps them for show, is marked, and stays undecided.
        rules: margin, error level, interval level.
        bound: largest difference of value that is possible, log2 units.
        rng: draws sign patterns where there are too many seeds to list them.
        planned: number of seeds that were fixed before any look at results; None: all of them.

    Returns the evidence in the order of `tables`. A verdict is "before" or "after" if Holm's adjusted
    p-value is at most alpha and the mean lies outside the margin; "tied" if the interval lies inside the
    margin; "conditional" if the effect has opposite signs in two groups of cells, each beyond doubt;
    otherwise "undecided". Fewer seeds than `rules.least_seeds` decide nothing.
    """
    counted = count_cells(tables, guard)
    scores = [row_scores(one.table.effects) for one in counted.values()]
    looks = [_rules_for(len(rows), planned, rules) for rows in scores]
    effects = estimate_all(scores, rules=looks, bound=bound)
    directions = judge_directions(effects, [len(rows) for rows in scores], rules=looks)
    groups = _grouped([one.table for one in counted.values()], rules, bound)
    return [
        Evidence(
            first=pair[0],
            second=pair[1],
            verdict=_verdict(one, direction, parts, look, pairs=len(tables)),
            effect=effect,
            p_value=effect.p_value,
            adjusted_p=direction.shared,
            sign_flip_p=sign_flip_p(rows, rng=rng),
            reduction=_mean(one.table.reductions),
            accuracy=_mean(one.table.accuracies),
            contexts=len(one.table.cells),
            seeds=len(rows),
            left_out=one.left_out,
            under_trained=one.doubtful,
            groups=parts,
        )
        for (pair, one), rows, look, effect, direction, parts in zip(
            counted.items(), scores, looks, effects, directions, groups, strict=True
        )
    ]


def _rules_for(seeds: int, planned: int | None, rules: Rules) -> Rules:
    return rules if planned is None else rules.at_look(seeds - max(planned, rules.least_seeds))


def count_cells(tables: Mapping[Pair, PairTable], guard: Guard) -> dict[Pair, Counted]:
    """Leave out the cells that lean on under-trained prefixes.

    A pair with no more than half of its cells left is marked doubtful and keeps all of them, for show.
    """
    result = {}
    for pair, table in tables.items():
        sound = guard.sound(table)
        left_out = len(sound) - sum(sound)
        doubtful = left_out > 0 and 2 * left_out >= len(sound)
        result[pair] = Counted(table if doubtful else table.choose(sound), left_out, doubtful)
    return result


def _verdict(
    counted: Counted, direction: Direction, groups: Sequence[Group], rules: Rules, *, pairs: int
) -> Verdict:
    seeds = int(np.isfinite(counted.table.effects).any(axis=1).sum())
    if counted.doubtful or seeds < rules.least_seeds:
        return "undecided"
    if signs_differ([group.effect for group in groups], rules=rules, families=pairs):
        return "conditional"
    return direction.verdict


def _grouped(tables: Sequence[PairTable], rules: Rules, bound: float) -> list[tuple[Group, ...]]:
    """Judge the groups of every pair, with variances moderated over all groups of all pairs."""
    parts = [
        (place, name, table.choose(name in labels for labels in map(_labels, table.cells)))
        for place, table in enumerate(tables)
        for name in _varying(table.cells)
    ]
    scores = [row_scores(part.effects) for _, _, part in parts]
    effects = estimate_all(scores, rules=rules, bound=bound)
    result: list[list[Group]] = [[] for _ in tables]
    for (place, name, part), effect in zip(parts, effects, strict=True):
        result[place].append(Group(name, len(part.cells), effect))
    return [tuple(groups) for groups in result]


def _varying(cells: Sequence[Cell]) -> list[str]:
    """Labels that some cells carry and others lack."""
    names = sorted({label for cell in cells for label in _labels(cell)})
    return [name for name in names if not all(name in _labels(cell) for cell in cells)]


def _labels(cell: Cell) -> frozenset[str]:
    """What a cell can be grouped by: stages that come earlier, knobs of the pair, accounting."""
    earlier = {f"{stage} earlier" for stage in cell.prefix}
    later = {f"{stage} later" for stage in cell.suffix}
    alone = {"nothing earlier"} if not cell.prefix else set()
    return frozenset({*earlier, *later, *alone, cell.knobs, f"{cell.accounting} epochs"})


def _mean(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """The mean over seeds, as the effect is: seeds with many contexts count no more than others."""
    scores = row_scores(table)
    return float(scores.mean()) if len(scores) else 0.0
