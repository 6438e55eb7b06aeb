"""Pareto dominance between cost vectors: which are beaten by no other.

Every objective is a cost and is minimized; negate what should be large. NaN is refused everywhere, infinity
is an ordinary (worst or best) cost. Dominance and indicators as in Zitzler et al. (2003).
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def is_nondominated(costs: npt.ArrayLike) -> BoolArray:
    """Mark the rows of `costs`, shape (n, m), that no other row dominates.

    All m objectives are minimized; equal rows are all kept. Returns shape (n,), in input order; n = 0
    gives an empty mask. O(n log n) for m ≤ 2, O(m n f) with f rows kept otherwise. Raises ValueError on NaN.
    """
    rows = check_costs(costs)
    if rows.shape[1] == 1:
        return np.asarray(rows[:, 0] == rows[:, 0].min(initial=np.inf))
    if rows.shape[1] == 2:
        return _nondominated_of_two(rows)
    return _nondominated_of_many(rows)


def check_costs(costs: npt.ArrayLike, *, name: str = "costs") -> FloatArray:
    """Return `costs` as an array of shape (n, m) with m ≥ 1; an empty list becomes shape (0, 2).

    Raises ValueError on another shape or on NaN.
    """
    rows = np.asarray(costs, dtype=np.float64)
    if rows.size == 0 and rows.ndim < 2:
        rows = rows.reshape(0, 2)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n, m) with m >= 1 objectives, got shape {rows.shape}")
    if np.isnan(rows).any():
        raise ValueError(
            f"{name} must hold no NaN, got {int(np.isnan(rows).any(axis=1).sum())} row(s) with NaN"
        )
    return rows


def _nondominated_of_two(rows: FloatArray) -> BoolArray:
    """Walk up the first cost: a row stays if it is lowest among its equals and below all before them."""
    if not len(rows):
        return np.zeros(0, dtype=np.bool_)
    order = np.argsort(rows[:, 0])
    first, second = rows[order, 0], rows[order, 1]
    starts = np.flatnonzero(np.concatenate(([True], first[1:] != first[:-1])))  # runs of equal first costs
    lowest = np.minimum.reduceat(second, starts)
    stays = np.concatenate(([True], lowest[1:] < np.minimum.accumulate(lowest)[:-1]))
    lengths = np.concatenate((starts[1:], [len(first)])) - starts
    mask = np.empty(len(rows), dtype=np.bool_)
    mask[order] = np.repeat(stays, lengths) & (second == np.repeat(lowest, lengths))
    return mask


def _nondominated_of_many(rows: FloatArray) -> BoolArray:
    """Take the lexicographically first row left, drop what it dominates, repeat: one pass per row kept."""
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    kept = np.zeros(len(unique), dtype=np.bool_)
    left = np.arange(len(unique))
    while left.size:
        kept[left[0]] = True  # no row before it is left, and none after it can dominate it
        left = left[1:][(unique[left[1:]] < unique[left[0]]).any(axis=1)]
    return kept[inverse.reshape(-1)]
