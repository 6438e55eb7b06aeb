"""Units of evidence: two measured sequences that differ only in which of two stages comes first.

A pair of stages gets one table of paired differences, seeds in rows and cells in columns. A cell is what both
sequences share: the stages around the pair, all knobs, the accounting. Each side is one trained network.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts.readouts import Measured
from ordercomp.sequence import Order, StageSequence

FloatArray = npt.NDArray[np.float64]
Run = tuple[str, str, int]  # accounting, sequence text, seed


@lru_cache(maxsize=2**16)
def parsed(text: str) -> StageSequence:
    """Parse a sequence text, remembering what was parsed before: records repeat a few texts at many seeds."""
    return StageSequence.parse(text)


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


def pair_tables(
    runs: Mapping[Run, Measured], stages: Order, *, neighbors: bool
) -> dict[tuple[str, str], PairTable]:
    """Pair the measured runs for every unordered pair of `stages`, named in the order of `stages`.

    With `neighbors`, the two stages follow each other (adjacent swaps); without, other stages stand between
    them (insertion pairs). Sequences with other letters or repeats are passed over. Every table has all seeds
    as rows; a pair without evidence has no cells. Takes time linear in the runs.
    """
    seeds = tuple(sorted({seed for _, _, seed in runs}))
    rows = {seed: row for row, seed in enumerate(seeds)}
    found: dict[tuple[str, str], dict[Cell, dict[int, tuple[Measured, Measured]]]] = {
        (a, b): {} for place, a in enumerate(stages) for b in stages[place + 1 :]
    }
    cells = {text: _cells(text, stages, neighbors) for text in {text for _, text, _ in runs}}
    for (accounting, text, seed), earlier in runs.items():
        for pair, (shape, other) in cells[text].items():
            later = runs.get((accounting, other, seed))
            if later is not None:
                cell = Cell(*shape, (text, other), accounting)
                found[pair].setdefault(cell, {})[rows[seed]] = (earlier, later)
    return {pair: _table(pair, seeds, units) for pair, units in found.items()}


def settings_of(tables: Iterable[PairTable], stages: Order) -> list[list[frozenset[str]]]:
    """List for each table, cell by cell, the knob settings of all `stages` that the cell is part of.

    A cell of few stages is part of every setting that agrees with it. One that no recorded setting of all
    stages agrees with counts as a setting of its own.
    """
    tables = list(tables)
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


def _cells(
    text: str, stages: Order, neighbors: bool
) -> dict[tuple[str, str], tuple[tuple[Order, Order, Order, str], str]]:
    """List the pairs that the sequence holds in the order of `stages`, with cell and swapped sequence."""
    steps = parsed(text).steps
    order = "".join(step.stage for step in steps)
    if len(set(order)) != len(order) or not set(order) <= set(stages):
        return {}
    result = {}
    for i in range(len(steps)):
        for j in range(i + 1, len(steps)):
            if neighbors != (j == i + 1) or stages.index(order[i]) > stages.index(order[j]):
                continue
            swapped = (*steps[:i], steps[j], *steps[i + 1 : j], steps[i], *steps[j + 1 :])
            shape = (order[:i], order[i + 1 : j], order[j + 1 :], f"{steps[i]} {steps[j]}")
            result[order[i], order[j]] = (shape, str(StageSequence(swapped)))
    return result


def _table(
    pair: tuple[str, str],
    seeds: Sequence[int],
    units: Mapping[Cell, Mapping[int, tuple[Measured, Measured]]],
) -> PairTable:
    cells = tuple(sorted(units))
    effects, reductions, accuracies = (np.full((len(seeds), len(cells)), np.nan) for _ in range(3))
    for column, cell in enumerate(cells):
        for row, (earlier, later) in units[cell].items():
            effects[row, column] = earlier.value - later.value
            reductions[row, column], accuracies[row, column] = earlier.over(later)
    return PairTable(*pair, tuple(seeds), cells, effects, reductions, accuracies)
