"""Fronts of records: accuracy against log2 reduction of bit operations, and what a front is worth.

Operating points are *selected* on validation accuracy and *reported* by test accuracy. Losses are measured
against the baseline of the record's own seed, so a gain is a negative loss.

The value of a front is its hypervolume in doublings: the log2 reduction still to be had at each tolerated
loss, averaged over the losses with a weight fixed beforehand. With the soft weight exp(-loss / tolerance),
one network of log2 reduction r is worth r · exp(-loss / tolerance): r if lossless, about a tenth less for
each point of accuracy at the default tolerance of 10 points. It orders networks of equal reduction however
much they lose, where a hard box would call all of them worthless. A gain g is worth 1 + g / tolerance, the
straight continuation, so that no baseline, however badly trained, lets values explode. Weighted as in Zitzler
et al. (2007).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from ordercomp.objectives import bitops_reduction, storage_reduction
from ordercomp.records import Convention, OperatingPoint, Record
from ordercomp.sequence import Order

# Pareto dominance between cost vectors: which are beaten by no other.


FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Item = TypeVar("Item")
Key = TypeVar("Key")
_AT_ONCE = 1024  # records, or pairs of them, whose points are looked at together


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
    mask = np.zeros(len(unique), dtype=np.bool_)
    left = np.arange(len(unique))
    while left.size:
        mask[left[0]] = True  # no row before it is left, and none after it can dominate it
        left = left[1:][(unique[left[1:]] < unique[left[0]]).any(axis=1)]
    return mask[inverse.reshape(-1)]


# Hypervolume: how much of the space up to a reference point is dominated (Zitzler and Thiele 1998).


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


Split = Literal["validation", "test"]
Shape = Literal["soft", "hard"]
TOLERANCES = (0.002, 0.006, 0.01, 0.02)  # losses of the paper's Table 1, as fractions


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How fronts are looked at, fixed before looking: one convention, one split, one price of accuracy.

    A "soft" shape weighs a loss by exp(-loss / tolerance); a "hard" one by 1 - loss / tolerance, and nothing
    beyond: the plain hypervolume of the box, for sensitivity checks. A gain weighs 1 + gain / tolerance in
    both.
    """

    tolerance: float = 0.1  # loss, a fraction of accuracy
    shape: Shape = "soft"
    split: Split = "test"  # whose accuracy is reported; selection is on validation always
    convention: Convention = "paper"  # of the cost

    def __post_init__(self) -> None:
        if not (0 < self.tolerance <= 1):
            raise ValueError(f"tolerance must lie in (0, 1], got {self.tolerance}")
        for name, kind in (("shape", Shape), ("split", Split), ("convention", Convention)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")

    def weigh(self, losses: FloatArray) -> FloatArray:
        """Share of a reduction that counts at each loss: 1 at none, falling; above 1 for a gain."""
        straight = 1 - losses / self.tolerance
        if self.shape == "hard":
            return np.maximum(0.0, straight)
        return np.where(losses < 0, straight, np.exp(-np.maximum(losses, 0.0) / self.tolerance))


DEFAULT_SCALE = Scale()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One operating point of one record, with its cost in one convention."""

    record: Record
    point: OperatingPoint
    bitops_cr: float
    cr: float
    accuracy: float  # on validation data: what selection looks at
    reported_accuracy: float  # on the split of the scale
    loss: float  # on validation data, against the record's baseline
    reported_loss: float  # on the split of the scale

    @property
    def log2_reduction(self) -> float:
        """Doublings of the reduction of bit operations."""
        return math.log2(self.bitops_cr)


def group(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items of each key, keys and items in the order in which they come."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def group_by_seed(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of each seed, in their order."""
    return group(records, attrgetter("seed"))


def group_by_order(records: Iterable[Record]) -> dict[Order, dict[int, list[Record]]]:
    """The records of each order, by seed."""
    by_order: dict[Order, list[Record]] = group(records, attrgetter("order"))
    return {order: group_by_seed(own) for order, own in by_order.items()}


def candidates(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> list[Candidate]:
    """List all operating points of `records`, in their order; failed records have none.

    Raises ValueError if a point lacks the convention of `scale`: conventions are never mixed.
    """
    return [_candidate(record, point, scale) for record in records for point in record.points]


def front(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> list[Candidate]:
    """List the operating points that no other beats in both validation loss and reduction.

    Sorted by rising reduction; equal points are all kept; no points give an empty list.
    """
    every = candidates(records, scale=scale)
    if not every:
        return []
    mask = is_nondominated([(point.loss, -point.bitops_cr) for point in every])
    return sorted(
        (point for point, keep in zip(every, mask, strict=True) if keep), key=lambda point: point.bitops_cr
    )


def front_value(records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE) -> float:
    """Value of the front of `records` in doublings, larger is better; see the top of this file.

    Points are selected on validation and valued by the split of `scale`. Points with a reduction below 1
    add nothing. Without any point the value is 0, that of leaving the network alone. More networks can
    only raise a value: compare equal numbers.
    """
    return value_of(front(records, scale=scale), scale=scale)


def value_of(points: Sequence[Candidate], *, scale: Scale) -> float:
    """Value of a front that `front` made with this scale; see `front_value`."""
    if not points:
        return 0.0
    weights = scale.weigh(np.array([point.reported_loss for point in points]))
    reductions = np.array([point.log2_reduction for point in points])
    return hypervolume(np.column_stack([-weights, -reductions]), (0.0, 0.0))


def best_reductions(
    records: Iterable[Record], *, tolerances: Sequence[float] = TOLERANCES, scale: Scale = DEFAULT_SCALE
) -> dict[float, Candidate | None]:
    """Map each tolerated validation loss (a fraction) to the point of largest reduction within it.

    None where no point is within. Ties go to the smaller loss, then to the shorter order. What the point
    loses on test data stands in its `reported_loss`, which may exceed the tolerance: report it as it is.
    """
    every = candidates(records, scale=scale)
    best: dict[float, Candidate | None] = {}
    for tolerance in tolerances:
        within = [point for point in every if point.loss <= tolerance + 1e-12]
        best[tolerance] = min(
            within,
            key=lambda point: (-point.bitops_cr, point.loss, len(point.record.order), point.record.sequence),
            default=None,
        )
    return best


def _candidate(record: Record, point: OperatingPoint, scale: Scale) -> Candidate:
    cost = _cost(record, point, scale.convention)
    loss = record.baseline.accuracy - point.accuracy
    on_test = scale.split == "test"
    return Candidate(
        record=record,
        point=point,
        bitops_cr=cost["bitops_cr"],
        cr=cost["cr"],
        accuracy=point.accuracy,
        reported_accuracy=point.test_accuracy if on_test else point.accuracy,
        loss=loss,
        reported_loss=record.baseline.test_accuracy - point.test_accuracy if on_test else loss,
    )


def _cost(record: Record, point: OperatingPoint, convention: Convention) -> dict[str, float]:
    where = f"record {record.order!r} (seed {record.seed})"
    try:
        cost = {"bitops_cr": bitops_reduction(point, convention), "cr": storage_reduction(point, convention)}
    except ValueError:
        raise ValueError(
            f"convention {convention!r} must be in every point, but {where} has one without"
        ) from None
    if not 0 < cost["bitops_cr"] < math.inf:
        raise ValueError(f"bitops_cr must be positive and finite, got {cost['bitops_cr']} in {where}")
    return cost


def padded(rows: Sequence[FloatArray], filler: float) -> FloatArray:
    """Rows of unequal lengths as one array, shape (rows, longest), filled up at their ends."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    table = np.full((len(rows), int(lengths.max(initial=0))), filler)
    if len(rows):
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return table


def split(values: FloatArray, lengths: Iterable[int]) -> list[FloatArray]:
    """Cut `values`, shape (n,), into parts of these lengths, which add up to n."""
    return [values[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def measure_all(records: Sequence[Record], *, scale: Scale) -> list[float | None]:
    """The value of each record by itself, in doublings; None for a failed one.

    Raises ValueError if a point lacks the cost convention of `scale`, or its cost is no positive number.
    """
    held = [place for place, record in enumerate(records) if record.error is None and record.points]
    result: list[float | None] = [None] * len(records)
    for start in range(0, len(held), _AT_ONCE):
        places = held[start : start + _AT_ONCE]
        for place, value in zip(places, _values([records[place] for place in places], scale), strict=True):
            result[place] = value
    return result


def _values(records: Sequence[Record], scale: Scale) -> list[float]:
    """Value records that have points, all at once; the rows of all arrays are theirs."""
    reductions, seen, unseen = point_arrays(records, scale.convention)
    order = np.lexsort((seen, -reductions), axis=1)  # largest reduction first, of equal ones the least loss
    reductions, seen, unseen = (np.take_along_axis(array, order, 1) for array in (reductions, seen, unseen))
    on_front = _front_mask(reductions, seen)
    heights = -np.diff(np.maximum(reductions, 0.0), append=0.0)
    losses = unseen if scale.split == "test" else seen
    weights = np.where(on_front, scale.weigh(np.where(on_front, losses, 0.0)), 0.0)
    values: list[float] = (np.maximum.accumulate(weights, axis=1) * heights).sum(axis=1).tolist()
    return values


def point_arrays(
    records: Sequence[Record], convention: Convention
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log2 reductions and losses, on validation and on test images, of all points, shape (records, points).

    Rows are filled up with points that reach nothing at an infinite loss. Raises ValueError as `candidates`.
    """
    losses, lengths = point_losses(records)
    if convention == "paper":  # which was checked when the records were made
        costs = [point.bitops_cr for record in records for point in record.points]
    else:
        costs = [
            _cost(record, point, convention)["bitops_cr"] for record in records for point in record.points
        ]
    reductions = np.log2(np.array(costs, dtype=np.float64))
    there = np.arange(int(lengths.max(initial=0))) < lengths[:, None]

    def table(values: FloatArray, filler: float) -> FloatArray:
        filled = np.full(there.shape, filler)
        filled[there] = values
        return filled

    return table(reductions, -np.inf), table(losses[:, 0], np.inf), table(losses[:, 1], np.inf)


def point_losses(records: Sequence[Record]) -> tuple[FloatArray, IntArray]:
    """Losses on validation and on test images of all points in turn, shape (points, 2); how many each has."""
    lengths = np.array([len(record.points) for record in records], dtype=np.int64)
    points = [point for record in records for point in record.points]
    losses = np.empty((len(points), 2))
    for half, name in enumerate(("accuracy", "test_accuracy")):
        reached = attrgetter(name)
        base = np.array([reached(record.baseline) for record in records], dtype=np.float64)
        losses[:, half] = np.repeat(base, lengths) - np.array(list(map(reached, points)), dtype=np.float64)
    return losses, lengths


def _front_mask(reductions: FloatArray, losses: FloatArray) -> BoolArray:
    """Mark the points that no other of their row beats; rows fall in reduction, then rise in loss."""
    first = np.ones(losses.shape, dtype=np.bool_)  # of the points alike in both, all of which are kept
    first[:, 1:] = (reductions[:, 1:] != reductions[:, :-1]) | (losses[:, 1:] != losses[:, :-1])
    least = np.minimum.accumulate(losses, axis=1)
    stays = losses < np.column_stack([np.full(len(losses), np.inf), least[:, :-1]])
    alike = np.maximum.accumulate(np.where(first, np.arange(losses.shape[1]), 0), axis=1)
    return np.take_along_axis(stays, alike, 1) & np.isfinite(losses)


# Empirical attainment: how often, over runs, costs were reached or bettered (Grunert da Fonseca et al. 2001).


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
    fronts = [check_costs(run, name="each run") for run in runs]
    for costs in fronts:
        if costs.shape[1] != 2:
            raise ValueError(f"each run must have 2 objectives, got {costs.shape[1]}")
    return fronts
