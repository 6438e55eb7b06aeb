"""Ranking of whole orders by the value of their fronts, seed by seed, on equal terms."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.fronts import DEFAULT_SCALE, FloatArray, Scale
from ordercomp.analysis.run_table import Run, RunTable, Setting
from ordercomp.analysis.statistics import kendall_tau
from ordercomp.records import Record
from ordercomp.sequence import Order, check_order, permutations


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
            values[order][seed].append(table.measured[run].value if run in table.measured else 0.0)
    ranked = [
        RankedOrder(
            order=order,
            values={seed: float(np.mean(at_seed)) for seed, at_seed in sorted(by_seed.items())},
            complete=bool(shared),
        )
        for order, by_seed in values.items()
    ]
    return sorted(ranked, key=lambda one: (-one.value, one.order))


def permutation_values(
    table: RunTable, stages: Order | None = None
) -> tuple[dict[Order, FloatArray], tuple[int, ...]]:
    """Return the value on test data of every permutation of `stages`, shape (seeds,), and the seeds.

    `stages` are those of the table by default. Averaged over the knob settings that are complete at all these
    seeds; a failed run is worth 0, since the baseline remains. Both are empty if no setting has all
    permutations at any seed.
    """
    stages = table.stages if stages is None else stages
    complete: dict[Setting, dict[int, dict[Order, Run]]] = defaultdict(dict)
    for (setting, seed), runs in table.permutations(stages).items():
        done = any(run in table.measured for run in runs.values())
        if done and len(runs) == math.factorial(len(stages)):
            complete[setting][seed] = runs
    if not complete:
        return {}, ()
    shared = set.intersection(*map(set, complete.values()))
    if not shared:
        most = max(complete, key=lambda setting: (len(complete[setting]), sorted(setting.steps)))
        complete, shared = {most: complete[most]}, set(complete[most])
    seeds = tuple(sorted(shared))

    def value(run: Run) -> float:
        return table.measured[run].test_value if run in table.measured else 0.0

    return {
        order: np.array([np.mean([value(runs[seed][order]) for runs in complete.values()]) for seed in seeds])
        for order in permutations(stages)
    }, seeds


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
    values = [
        {ranked.order: ranked.value for ranked in rank_orders(chosen, stages, scale=scale)}
        for scale in scales
    ]
    readings = []
    for scale, value in zip(scales, values, strict=True):
        best = max(sorted(value), key=value.__getitem__)
        tau = kendall_tau([values[0][other] for other in value], list(value.values()))
        readings.append(
            Reading(
                scale=scale,
                best=best,
                rank=1 + sum(other > value[order] + 1e-12 for other in value.values()),
                of=len(value),
                behind=value[best] - value[order],
                agreement=tau,
            )
        )
    return readings
