"""Ranking of whole orders by the value of their fronts, seed by seed, on equal terms."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ordercomp.analysis.fronts import DEFAULT_SCALE, Scale
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record
from ordercomp.sequence import Order, check_order


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


def chain_records(records: Iterable[Record], stages: Order) -> list[Record]:
    """Keep the records of chains: distinct stages among `stages`, in any number; failed ones included."""
    letters = set(check_order(stages))
    return [
        record
        for record in records
        if record.order and letters.issuperset(record.order) and len(set(record.order)) == len(record.order)
    ]


def rank_orders(
    records: Iterable[Record], stages: Order, *, scale: Scale = DEFAULT_SCALE
) -> list[RankedOrder]:
    """Rank the permutations of `stages` that occur in `records`, best first; ties alphabetically.

    Orders are compared where all of them were run: at the same knob settings, accounting and seeds. If there
    is no such place, everything counts and the ranking is marked as not complete. A failed run is worth 0,
    as leaving the network alone; of two records of one run the later counts. No records give no ranking.
    """
    table = RunTable.of(permutation_records(records, stages), stages=stages, scale=scale)
    groups = table.permutations()
    orders = {order for runs in groups.values() for order in runs}
    shared = {key: runs for key, runs in groups.items() if len(runs) == len(orders)}
    values: dict[Order, dict[int, list[float]]] = {order: defaultdict(list) for order in orders}
    for (_, seed), runs in (shared or groups).items():
        for order, run in runs.items():
            values[order][seed].append(table.measured.get(run, 0.0))
    ranked = [
        RankedOrder(
            order=order,
            values={seed: float(np.mean(at_seed)) for seed, at_seed in sorted(by_seed.items())},
            complete=bool(shared),
        )
        for order, by_seed in values.items()
    ]
    return sorted(ranked, key=lambda entry: (-entry.value, entry.order))


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftReading:
    """Where an order stands by another value than the answer's."""

    order: Order
    best: Order
    rank: int  # 1: nothing is better
    of: int
    behind: float  # value of the best minus that of the order, in doublings of this scale


def read_softly(
    records: Iterable[Record], order: Order, *, scale: Scale = DEFAULT_SCALE
) -> SoftReading | None:
    """Rank the permutations of the stages of `order` by a value that is soft over the tolerance of `scale`.

    So it is told whether a recommendation hangs on the one loss that is tolerated. None if there are no
    records of `order`, or of no other. Raises ValueError if a point lacks a convention.
    """
    values = {ranked.order: ranked.value for ranked in rank_orders(records, order, scale=scale)}
    if order not in values or len(values) < 2:
        return None
    best = max(sorted(values), key=values.__getitem__)
    return SoftReading(
        order=order,
        best=best,
        rank=1 + sum(other > values[order] + 1e-12 for other in values.values()),
        of=len(values),
        behind=values[best] - values[order],
    )
