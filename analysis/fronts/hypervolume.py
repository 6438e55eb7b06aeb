"""Hypervolume: how much of the space up to a reference point a set of cost vectors dominates.

Exact for two and three objectives, all minimized. Zitzler and Thiele (1998); the sweep over the third
objective follows Fonseca et al. (2006).
"""

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts.pareto import FloatArray, check_costs, is_nondominated

__all__ = ["hypervolume"]


def hypervolume(costs: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that the rows of `costs`, shape (n, m) with m 2 or 3, dominate up to `reference`, shape (m,).

    All objectives are minimized; larger volumes are better. Rows that are not below the reference in every
    objective add nothing, nor do dominated or repeated rows; n = 0 gives 0. O(n log n). Raises ValueError on
    NaN, on an infinite reference, on a cost of minus infinity, and for other m.
    """
    corner = np.asarray(reference, dtype=np.float64)
    rows = check_costs(costs)
    if corner.shape not in ((2,), (3,)) or not np.isfinite(corner).all():
        raise ValueError(f"reference must be 2 or 3 finite costs, got {reference!r}")
    if not len(rows):
        return 0.0
    if rows.shape[1] != corner.size:
        raise ValueError(f"costs must have {corner.size} objectives like reference, got {rows.shape[1]}")
    rows = rows[(rows < corner).all(axis=1)]
    if np.isneginf(rows).any():
        raise ValueError("costs must be above minus infinity, got -inf: its hypervolume is infinite")
    if not len(rows):
        return 0.0
    return _area(rows, corner) if corner.size == 2 else _volume(rows, corner)


def _area(rows: FloatArray, corner: FloatArray) -> float:
    front = rows[is_nondominated(rows)]
    front = front[np.argsort(front[:, 0])]  # the second cost now falls, so equal rows add no height
    heights = np.diff(front[:, 1], prepend=corner[1])
    return float(-(heights * (corner[0] - front[:, 0])).sum())


def _volume(rows: FloatArray, corner: FloatArray) -> float:
    """Sweep up the third cost and hold the staircase of the first two, whose area grows row by row."""
    ordered = rows[np.lexsort((rows[:, 1], rows[:, 0], rows[:, 2]))].tolist()
    right, top, ceiling = corner.tolist()
    firsts: list[float] = []  # the staircase: first costs rise …
    seconds: list[float] = []  # … while second costs fall
    area = volume = 0.0
    level = ceiling
    for first, second, third in ordered:
        start = bisect_left(firsts, first)
        height = seconds[start - 1] if start else top
        if height <= second or (start < len(firsts) and firsts[start] == first and seconds[start] <= second):
            continue
        volume += area * (third - level)
        level = third
        stop, left = start, first
        while stop < len(firsts) and seconds[stop] >= second:
            area += (firsts[stop] - left) * (height - second)
            left, height = firsts[stop], seconds[stop]
            stop += 1
        area += ((firsts[stop] if stop < len(firsts) else right) - left) * (height - second)
        firsts[start:stop], seconds[start:stop] = [first], [second]
    return float(volume + area * (ceiling - level))
