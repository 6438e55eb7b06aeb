"""Hypervolume: how much of the space up to a reference point a set of cost vectors dominates.

Exact for two objectives, both minimized. Zitzler and Thiele (1998).
"""

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts.pareto import FloatArray, check_costs, is_nondominated


def hypervolume(costs: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Area that the rows of `costs`, shape (n, 2), dominate up to `reference`, shape (2,).

    Both objectives are minimized; larger areas are better. Rows that are not below the reference in every
    objective add nothing, nor do dominated or repeated rows; n = 0 gives 0. O(n log n). Raises ValueError on
    NaN, on an infinite reference, on a cost of minus infinity, and for another number of objectives.
    """
    corner = np.asarray(reference, dtype=np.float64)
    rows = check_costs(costs)
    if corner.shape != (2,) or not np.isfinite(corner).all():
        raise ValueError(f"reference must be 2 finite costs, got {reference!r}")
    if not len(rows):
        return 0.0
    if rows.shape[1] != 2:
        raise ValueError(f"costs must have 2 objectives like reference, got {rows.shape[1]}")
    rows = rows[(rows < corner).all(axis=1)]
    if np.isneginf(rows).any():
        raise ValueError("costs must be above minus infinity, got -inf: its hypervolume is infinite")
    if not len(rows):
        return 0.0
    return _area(rows, corner)


def _area(rows: FloatArray, corner: FloatArray) -> float:
    front = rows[is_nondominated(rows)]
    front = front[np.argsort(front[:, 0])]  # the second cost now falls, so equal rows add no height
    heights = np.concatenate((corner[1:], front[:-1, 1])) - front[:, 1]
    return float((heights * (corner[0] - front[:, 0])).sum())
