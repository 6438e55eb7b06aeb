"""Ranking of whole orders by the value of their fronts, seed by seed, on equal terms."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ordercomp.analysis.fronts import DEFAULT_SCALE, Scale, record_value
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence, check_order

Cell = tuple[str, frozenset[str], int]  # accounting, steps with their knobs, seed


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedOrder:
    """One order with its value, in doublings, at every seed."""

    order: Order
    values: Mapping[int, float]  # seed: mean over the knob settings
    complete: bool  # valued at the same seeds and knobs as all other orders

    @property
    def value(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(list(self.values.values())))

    @property
    def standard_error(self) -> float:
        """Of the mean over the seeds; NaN with a single seed."""
        if len(self.values) < 2:
            return math.nan
        return float(np.std(list(self.values.values()), ddof=1) / math.sqrt(len(self.values)))


def permutation_records(records: Iterable[Record], stages: Order) -> list[Record]:
    """Keep the records whose order uses each of `stages` once and nothing else, failed ones included."""
    check_order(stages)
    return [record for record in records if sorted(record.order) == sorted(stages)]


def rank_orders(
    records: Iterable[Record], stages: Order, *, scale: Scale = DEFAULT_SCALE
) -> list[RankedOrder]:
    """Rank the permutations of `stages` that occur in `records`, best first; ties alphabetically.

    Orders are compared where all of them were run: at the same knob settings, accounting and seeds. If there
    is no such place, everything counts and the ranking is marked as not complete. A failed run is worth 0,
    as leaving the network alone; of two records of one run the later counts. No records give no ranking.
    """
    runs: dict[Cell, dict[Order, Record]] = defaultdict(dict)
    for record in permutation_records(records, stages):
        runs[_cell(record)][record.order] = record
    orders = {order for cell in runs.values() for order in cell}
    shared = {cell: found for cell, found in runs.items() if len(found) == len(orders)}
    values: dict[Order, dict[int, list[float]]] = {order: defaultdict(list) for order in orders}
    for (_, _, seed), found in (shared or runs).items():
        for order, record in found.items():
            values[order][seed].append(0.0 if record.error else record_value(record, scale=scale))
    ranked = [
        RankedOrder(
            order=order,
            values={seed: float(np.mean(some)) for seed, some in sorted(by_seed.items())},
            complete=bool(shared),
        )
        for order, by_seed in values.items()
    ]
    return sorted(ranked, key=lambda one: (-one.value, one.order))


def _cell(record: Record) -> Cell:
    steps = frozenset(map(str, StageSequence.parse(record.sequence).steps))
    return record.accounting, steps, record.seed


# Does the ranking of orders hang on the price of accuracy? The same records, looked at otherwise.


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one scale makes of the records."""

    scale: Scale
    best: Order
    rank: int  # of the order asked about; 1: nothing is better
    of: int
    behind: float  # value of the best minus that of the order asked about, in doublings of this scale
    agreement: float  # Kendall's tau with the ranking of the first scale; NaN for fewer than two orders


def alternatives(scale: Scale = DEFAULT_SCALE) -> list[Scale]:
    """List scales beside `scale`: half and twice its tolerance, the hard box, the other split."""
    return [
        scale,
        replace(scale, tolerance=scale.tolerance / 2),
        replace(scale, tolerance=min(1.0, scale.tolerance * 2)),
        replace(scale, shape="hard" if scale.shape == "soft" else "soft"),
        replace(scale, split="validation" if scale.split == "test" else "test"),
    ]


def sensitivity(
    records: Sequence[Record], stages: Order, order: Order, *, scales: Sequence[Scale]
) -> list[Reading]:
    """Rank the permutations of `stages` by each of `scales` and say where `order` stands.

    Empty if there is no record of `order`. Agreement is with the ranking of the first scale. Raises
    ValueError without scales, or if a point lacks a convention.
    """
    if not scales:
        raise ValueError("scales must hold at least one scale, got none")
    chosen = permutation_records(records, stages)
    if all(record.order != order for record in chosen):
        return []
    values = [{one.order: one.value for one in rank_orders(chosen, stages, scale=scale)} for scale in scales]
    readings = []
    for scale, value in zip(scales, values, strict=True):
        best = max(sorted(value), key=lambda one: value[one])
        tau = stats.kendalltau([values[0][one] for one in value], list(value.values())).statistic
        readings.append(
            Reading(
                scale=scale,
                best=best,
                rank=1 + sum(other > value[order] + 1e-12 for other in value.values()),
                of=len(value),
                behind=value[best] - value[order],
                agreement=float(tau),
            )
        )
    return readings
