"""Verdicts on pairs of stages: which comes first, how sure is that, and does it depend on the context?

The independent unit is the seed: all contexts and knob settings of one seed share the baseline network, the
split of the data and trained prefixes. A pair's score at a seed is its mean difference over the cells. The
scores of the seeds give a t interval, with a variance that the other pairs may raise but not lower (after
Smyth 2004), and p-values that Holm's method adjusts for the number of pairs. Where further seeds were
added after a look at the results, each look has a share of the error of its own.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts import Measured, gains_over
from ordercomp.analysis.run_table import Run, RunTable, parsed
from ordercomp.analysis.statistics import (
    Direction,
    Estimate,
    Rules,
    decide_directions,
    estimate_all,
    interval_alone,
    row_scores,
    sign_flip_p,
    signs_differ,
)
from ordercomp.codec import FLAT, OMITTED, named
from ordercomp.sequence import Order, StageSequence

FloatArray = npt.NDArray[np.float64]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What both sides of a unit share: everything but the order of the two stages."""

    prefix: Order
    between: Order  # "" for neighbors
    suffix: Order
    knobs: str  # of the two stages, e.g. "P(ratio=0.4) Q(weights=2)"
    texts: tuple[str, str]  # both sequences, the one with the pair's first stage earlier in front
    accounting: str

    @property
    def nodes(self) -> tuple[str, ...]:
        """The prefixes, as sequence texts, in which the two sides differ, the whole sequences included."""
        start = len(self.prefix)
        sides = [parsed(text).prefixes[start:] for text in self.texts]
        return tuple(str(node) for side in sides for node in side)


@dataclass(frozen=True, slots=True)
class PairTable:
    """Paired differences "first before second" minus "second before first"; NaN where a side is missing."""

    first: str
    second: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    effects: FloatArray  # shape (seeds, cells): value, in log2 units
    reductions: FloatArray  # same shape: log2 reduction at equal accuracy
    accuracies: FloatArray  # same shape: accuracy at equal reduction, a fraction

    def choose(self, wanted: Iterable[bool]) -> "PairTable":
        """Keep the cells marked true."""
        mask = np.fromiter(wanted, dtype=bool, count=len(self.cells))
        cells = tuple(cell for cell, keep in zip(self.cells, mask, strict=True) if keep)
        tables = (self.effects[:, mask], self.reductions[:, mask], self.accuracies[:, mask])
        return PairTable(self.first, self.second, self.seeds, cells, *tables)

    def at_seeds(self, wanted: Iterable[int]) -> "PairTable":
        """Keep the rows of the seeds given, in their own order."""
        chosen = set(wanted)
        mask = np.array([seed in chosen for seed in self.seeds], dtype=bool)
        seeds = tuple(seed for seed in self.seeds if seed in chosen)
        tables = (self.effects[mask], self.reductions[mask], self.accuracies[mask])
        return PairTable(self.first, self.second, seeds, self.cells, *tables)


def pair_tables(table: RunTable, stages: Order | None = None, *, neighbors: bool) -> dict[Pair, PairTable]:
    """Pair the measured runs for every unordered pair of `stages`, those of the table by default.

    Pairs are named in the order of `stages`. With `neighbors`, the two stages follow each other (adjacent
    swaps); without, other stages stand between them (insertion pairs). Other letters and repeats are
    passed over. Every table has all measured seeds as rows; a pair without evidence has no cells. Takes time
    linear in the runs.
    """
    stages = table.stages if stages is None else stages
    runs = table.measured
    seeds = tuple(sorted({run.seed for run in runs}))
    rows = {seed: row for row, seed in enumerate(seeds)}
    units: dict[Pair, dict[Cell, dict[int, tuple[Measured, Measured]]]] = {
        pair: {} for pair in itertools.combinations(stages, 2)
    }
    chains = table.chains(stages)
    at_seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for accounting, text, seed in chains:
        at_seeds[accounting, text].append(seed)
    for (accounting, text), held in at_seeds.items():
        for pair, (shape, other) in _swaps(text, stages, neighbors).items():
            sides = {
                rows[seed]: (runs[earlier], runs[later])
                for seed in held
                if (earlier := Run(accounting, text, seed)) in runs
                and (later := Run(accounting, other, seed)) in runs
            }
            if sides:
                units[pair][Cell(*shape, (text, other), accounting)] = sides
    return {pair: _table(pair, seeds, cells) for pair, cells in units.items()}


def cell_settings(tables: Iterable[PairTable], stages: Order) -> list[list[frozenset[str]]]:
    """List for each table, cell by cell, the knob settings of all `stages` that the cell is part of.

    A cell of few stages is part of every setting that agrees with it. One that no recorded setting of all
    stages agrees with counts as a setting of its own.
    """
    parts = [[_setting(cell) for cell in table.cells] for table in tables]
    wholes = {part for row in parts for part in row if len(part[1]) == len(stages)}

    def names(part: tuple[str, frozenset[str]]) -> frozenset[str]:
        accounting, steps = part
        agreeing = [whole for whole in wholes if whole[0] == accounting and steps <= whole[1]]
        return frozenset(" ".join([mode, *sorted(inside)]) for mode, inside in agreeing or [part])

    known = {part: names(part) for row in parts for part in row}
    return [[known[part] for part in row] for row in parts]


def _setting(cell: Cell) -> tuple[str, frozenset[str]]:
    return cell.accounting, frozenset(map(str, parsed(cell.texts[0]).steps))


def _swaps(
    text: str, stages: Order, neighbors: bool
) -> dict[tuple[str, str], tuple[tuple[Order, Order, Order, str], str]]:
    """List the pairs that the sequence holds in the order of `stages`, with cell and swapped sequence."""
    steps = parsed(text).steps
    order = parsed(text).order
    result = {}
    for i, j in itertools.combinations(range(len(steps)), 2):
        if neighbors != (j == i + 1) or stages.index(order[i]) > stages.index(order[j]):
            continue
        swapped = (*steps[:i], steps[j], *steps[i + 1 : j], steps[i], *steps[j + 1 :])
        shape = (order[:i], order[i + 1 : j], order[j + 1 :], f"{steps[i]} {steps[j]}")
        result[order[i], order[j]] = (shape, str(StageSequence(swapped)))
    return result


def _table(
    pair: tuple[str, str], seeds: Sequence[int], units: Mapping[Cell, Mapping[int, tuple[Measured, Measured]]]
) -> PairTable:
    cells = tuple(sorted(units))
    effects, reductions, accuracies = (np.full((len(seeds), len(cells)), np.nan) for _ in range(3))
    rows = [row for cell in cells for row in units[cell]]
    columns = [column for column, cell in enumerate(cells) for _ in units[cell]]
    sides = [both for cell in cells for both in units[cell].values()]
    effects[rows, columns] = [earlier.value - later.value for earlier, later in sides]
    reductions[rows, columns], accuracies[rows, columns] = gains_over(sides)
    return PairTable(*pair, tuple(seeds), cells, effects, reductions, accuracies)


# Convergence guard: an under-trained stage fakes an order, as the epochs of a later stage serve it, too.


Status = Literal["converged", "under-trained", "unclear"]


@dataclass(frozen=True, slots=True)
class Control:
    """What one more fine-tune adds to the accuracy of a prefix, over seeds."""

    sequence: str  # the prefix, without F
    accounting: str
    gain: float  # mean gain of validation accuracy at the end of the network, a fraction
    interval: tuple[float, float]  # at 95 % over seeds; [-1, 1] with one seed
    seeds: int
    status: Status


@dataclass(frozen=True, slots=True)
class Guard:
    """Tells which evidence leans on under-trained prefixes."""

    controls: tuple[Control, ...]
    margin: float  # gain of accuracy, a fraction, above which a prefix counts as under-trained

    def sound(self, table: PairTable) -> list[bool]:
        """Mark the cells of `table` in which neither side passes through an under-trained prefix.

        Looked at are the prefixes in which both sides differ and the two whole sequences. One without a
        control of its own is judged by the mean gain of the controlled prefixes that end in the same stage,
        or counts as sound if there are none.
        """
        own = {(control.accounting, control.sequence): control.gain for control in self.controls}
        kin = _mean_gains(self.controls)

        def under_trained(accounting: str, node: str) -> bool:
            last = parsed(node).steps[-1].stage
            return own.get((accounting, node), kin.get((accounting, last), 0.0)) > self.margin

        return [not any(under_trained(cell.accounting, node) for node in cell.nodes) for cell in table.cells]


def controls(runs: Mapping[Run, Measured], *, margin: float) -> Guard:
    """Compare every sequence that ends in F with the one without it, paired by seed.

    A prefix is "under-trained" if F gains more than `margin` (a fraction of accuracy) on average over the
    seeds, "converged" if the upper end of the 95 % interval stays below the margin, else "unclear".
    """
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in sorted(runs):
        prefix = run.controlled
        if prefix is not None and prefix in runs:
            gains[run.accounting, prefix.text].append(runs[run].end_accuracy - runs[prefix].end_accuracy)
    return Guard(tuple(_control(*key, values, margin) for key, values in sorted(gains.items())), margin)


def _control(accounting: str, sequence: str, gains: list[float], margin: float) -> Control:
    mean = float(np.mean(gains))
    low, high = interval_alone(np.array(gains), bound=1.0)
    status: Status = "under-trained" if mean > margin else "converged" if high < margin else "unclear"
    return Control(sequence, accounting, mean, (low, high), len(gains), status)


def _mean_gains(arms: Iterable[Control]) -> dict[tuple[str, str], float]:
    """Average the gains of the controls that share accounting and last stage."""
    pooled: dict[tuple[str, str], list[float]] = defaultdict(list)
    for control in arms:
        last = parsed(control.sequence).steps[-1].stage
        pooled[control.accounting, last].append(control.gain)
    return {key: float(np.mean(gains)) for key, gains in pooled.items()}


PairVerdict = Literal["before", "after", "tied", "undecided", "conditional"]


@dataclass(frozen=True, slots=True)
class Counted:
    """The cells of a pair that count."""

    table: PairTable
    left_out: int  # cells that lean on under-trained prefixes
    doubtful: bool  # too many of them: the table holds them all, and nothing is decided


@dataclass(frozen=True, slots=True)
class Group:
    """The cells of a pair that have something in common, valued alone."""

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
    verdict: PairVerdict
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
    """Decide on every pair of stages.

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
    scores = [row_scores(cells.table.effects) for cells in counted.values()]
    looks = [_rules_for(len(rows), planned, rules) for rows in scores]
    effects = estimate_all(scores, rules=looks, bound=bound)
    directions = decide_directions(effects, [len(rows) for rows in scores], rules=looks)
    groups = _grouped([cells.table for cells in counted.values()], rules, bound)
    return [
        Evidence(
            first=pair[0],
            second=pair[1],
            verdict=_verdict(cells, direction, parts, look, seeds=len(rows), pairs=len(tables)),
            effect=effect,
            p_value=effect.p_value,
            adjusted_p=direction.shared,
            sign_flip_p=sign_flip_p(rows, rng=rng),
            reduction=_mean(cells.table.reductions),
            accuracy=_mean(cells.table.accuracies),
            contexts=len(cells.table.cells),
            seeds=len(rows),
            left_out=cells.left_out,
            under_trained=cells.doubtful,
            groups=parts,
        )
        for (pair, cells), rows, look, effect, direction, parts in zip(
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
    counted: Counted, direction: Direction, groups: Sequence[Group], rules: Rules, *, seeds: int, pairs: int
) -> PairVerdict:
    if counted.doubtful or seeds < rules.least_seeds:
        return "undecided"
    if signs_differ([group.effect for group in groups], rules=rules, families=pairs):
        return "conditional"
    return direction.verdict


def _grouped(tables: Sequence[PairTable], rules: Rules, bound: float) -> list[tuple[Group, ...]]:
    """Estimate the groups of every pair, with variances moderated over all groups of all pairs."""
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
