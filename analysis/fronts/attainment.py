"""Empirical attainment: how often, over repeated runs, a pair of costs was reached or bettered.

One run is one seed's front. Both objectives are minimized. Grunert da Fonseca et al. (2001).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts.pareto import FloatArray, check_costs, is_nondominated


def attainment_surface(runs: Sequence[npt.ArrayLike], share: float) -> FloatArray:
    """Corners, shape (k, 2), of the staircase that at least `share` of `runs` attain, by rising first cost.

    0.5 is the median front, 1 the worst case; any share up to 1 / number of runs is the best case. No rows
    where too few runs have any. Raises ValueError on NaN, on other widths than 2, without runs, and unless
    `share` lies in (0, 1].
    """
    fronts = _checked(runs)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    level = int(np.ceil(share * len(fronts) - 1e-9))
    firsts = np.unique(np.concatenate([run[:, 0] for run in fronts]))
    seconds = np.sort([_best_second(run, firsts) for run in fronts], axis=0)[level - 1]
    corners: FloatArray = np.column_stack([firsts, seconds])[np.isfinite(seconds)]
    surface: FloatArray = corners[is_nondominated(corners)]
    return surface


def _best_second(run: FloatArray, firsts: FloatArray) -> FloatArray:
    """Smallest second cost in `run` among the rows of at most each first cost; infinity where none is."""
    ordered = run[np.argsort(run[:, 0])]
    lowest = np.concatenate(([np.inf], np.minimum.accumulate(ordered[:, 1])))
    best: FloatArray = lowest[np.searchsorted(ordered[:, 0], firsts, side="right")]
    return best


def _checked(runs: Sequence[npt.ArrayLike]) -> list[FloatArray]:
    if not len(runs):
        raise ValueError("runs must hold at least one run, got none")
    return [_two(run, name="each run") for run in runs]


def _two(rows: npt.ArrayLike, *, name: str) -> FloatArray:
    costs = check_costs(rows, name=name)
    if costs.shape[1] != 2:
        raise ValueError(f"{name} must have 2 objectives, got {costs.shape[1]}")
    return costs
