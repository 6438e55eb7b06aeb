"""Slow, obvious versions of what the analysis computes fast. Every cost is minimized."""

import itertools
from collections.abc import Sequence

import numpy as np

from ordercomp.analysis.fronts import FloatArray

__all__ = [
    "slow_attainment",
    "slow_dominates",
    "slow_front",
    "slow_hypervolume",
]

Costs = Sequence[float]


def slow_dominates(one: Costs, other: Costs) -> bool:
    """Nowhere worse and somewhere better, in words."""
    nowhere_worse = all(a <= b for a, b in zip(one, other, strict=True))
    somewhere_better = any(a < b for a, b in zip(one, other, strict=True))
    return nowhere_worse and somewhere_better


def slow_front(costs: Sequence[Costs]) -> list[bool]:
    """Compare every row with every other."""
    return [not any(slow_dominates(other, row) for other in costs) for row in costs]


def slow_hypervolume(costs: Sequence[Costs], reference: Costs) -> float:
    """Cut space into the grid that all coordinates span and add up the cells that some row dominates."""
    axes = []
    for place, limit in enumerate(reference):
        axes.append(sorted({row[place] for row in costs if row[place] < limit} | {limit}))
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        low = [axis[index] for axis, index in zip(axes, cell, strict=True)]
        if any(all(a <= b for a, b in zip(row, low, strict=True)) for row in costs):
            total += float(np.prod([axis[i + 1] - axis[i] for axis, i in zip(axes, cell, strict=True)]))
    return total


def slow_attainment(point: Costs, runs: Sequence[FloatArray]) -> float:
    """Share of the runs with a row that weakly dominates the point."""
    return sum(any(row[0] <= point[0] and row[1] <= point[1] for row in run) for run in runs) / len(runs)
