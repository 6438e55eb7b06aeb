"""Does the ranking of orders hang on the price of accuracy? The same records, looked at otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats

from ordercomp.analysis.fronts import DEFAULT_SCALE, Scale
from ordercomp.analysis.ranking import permutation_records, rank_orders
from ordercomp.records import Record
from ordercomp.sequence import Order


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
