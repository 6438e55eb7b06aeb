"""The value of a chain at a seed: the log2 reduction that its networks reach at the loss a user tolerates.

A chain is a sequence of distinct stages of any length: an order of all stages, or a prefix or subset of one.
Its networks at one seed are one per setting of the knobs, equally many for each chain of the same stages.
Their operating points form a front; its value is the largest log2 reduction within a loss u, averaged over u
from half to one and a half times the tolerated loss, so that no single point decides. It is read on
validation and on test images separately and averaged: a value selects no network, so all held-out images
count. Where no point is within the loss the network is left alone: value 0, the floor.

Control arms and repeated stages are no chains and take no part.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts import padded, point_losses, split
from ordercomp.analysis.run_table import Run, RunTable, Setting, parsed
from ordercomp.objectives import bitops_reduction, latency_reduction, storage_reduction
from ordercomp.records import Convention, CostName, OperatingPoint, Record, check_cost
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]

FLOOR = 0.0  # value of leaving the network alone
LOSSES = (0.002, 0.006, 0.01, 0.02, 0.03, 0.05, 0.08)  # the law is told for all of these, as fractions
WINDOW = (0.5, 1.5)  # times the tolerated loss: where the front is averaged
MOST_IMAGES = 200_000  # that a share may be of
MOST_REDUCTION = 1e12  # times smaller: no network is
LEAST_SHARE = 0.5  # a setting is of the design if it was run so often, as a share of the most frequent one


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainNetwork:
    """What one trained network of a chain reaches: arrays of shape (points,), empty for a failed one."""

    setting: Setting
    order: Order
    seed: int
    reductions: FloatArray  # log2, of bit operations
    losses: tuple[FloatArray, FloatArray]  # on validation and on test images, fractions


@dataclass(frozen=True, slots=True)
class Hint:
    """What is expected of chains before any is trained, in doublings up to a shift."""

    chains: Mapping[Order, float] = field(default_factory=dict)
    slope: float = 0.0  # doublings here for one there: a guess, corrected by what is trained


@dataclass(frozen=True, slots=True)
class ValueTable:
    """Values of chains at seeds, in doublings, larger is better; NaN where a chain was not run at a seed."""

    stages: Order
    orders: tuple[Order, ...]  # chains of these stages; those that were run at some seed
    seeds: tuple[int, ...]
    values: FloatArray  # shape (orders, seeds)
    floor: float | None = FLOOR  # a value here says "this or less"; None: the scale has no floor
    loss: float | None = None  # tolerated, a fraction; None for values that came from elsewhere
    settings: tuple[Setting, ...] = ()  # of the knobs; each value is that of all of them together
    hint: FloatArray | None = None  # shape (orders,): what is expected of each, NaN where nothing is
    slope: float = 0.0  # of the hint, see `Hint`

    def __post_init__(self) -> None:
        shape = (len(self.orders), len(self.seeds))
        if self.values.shape != shape:
            raise ValueError(f"values must have shape (orders, seeds) = {shape}, got {self.values.shape}")
        if len(set(self.orders)) != len(self.orders):
            raise ValueError(f"orders must be distinct, got {self.orders}")
        for order in self.orders:
            if not order or len(set(order)) < len(order) or set(order) - set(self.stages):
                raise ValueError(
                    f"orders must be of the stages {self.stages!r}, each at most once, got {order!r}"
                )
        if np.isinf(self.values).any():
            raise ValueError("values must be finite, or NaN where an order was not run, got infinity")

    @property
    def seeds_of(self) -> dict[Order, int]:
        """Number of seeds at which each order was run."""
        counts = np.isfinite(self.values).sum(axis=1)
        return {order: int(count) for order, count in zip(self.orders, counts, strict=True)}

    @property
    def whole(self) -> tuple[int, ...]:
        """Places of the orders that hold all stages."""
        return tuple(k for k, order in enumerate(self.orders) if len(order) == len(self.stages))

    @property
    def complete(self) -> bool:
        """Whether every order was run at every seed."""
        return bool(np.isfinite(self.values).all())

    def hinted(self, told: Hint) -> "ValueTable":
        """The same table with what is told of its chains, and of others, which join it."""
        if not told.chains:
            return self
        more = tuple(order for order in told.chains if order not in self.orders)
        unseen = np.full((len(more), len(self.seeds)), np.nan)
        orders = (*self.orders, *more)
        hint = np.array([told.chains.get(order, np.nan) for order in orders])
        values = np.vstack([self.values, unseen])
        return replace(self, orders=orders, values=values, hint=hint, slope=told.slope)

    def at(self, seeds: Iterable[int]) -> "ValueTable":
        """The same table at some of its seeds, in its own order."""
        wanted = set(seeds)
        keep = [place for place, seed in enumerate(self.seeds) if seed in wanted]
        values = self.values[:, keep]
        rows = np.flatnonzero(np.isfinite(values).any(axis=1))
        return ValueTable(
            stages=self.stages,
            orders=tuple(self.orders[row] for row in rows),
            seeds=tuple(self.seeds[place] for place in keep),
            values=values[rows],
            floor=self.floor,
            loss=self.loss,
            settings=self.settings,
            hint=None if self.hint is None else self.hint[rows],
            slope=self.slope,
        )


def check_loss(loss: float) -> float:
    """Return the tolerated loss, a fraction of accuracy, if it lies in (0, 1]; raise ValueError otherwise."""
    if not 0 < loss <= 1:
        raise ValueError(f"loss must lie in (0, 100 %], got {loss:.4g} ({100 * loss:.4g} %)")
    return loss


def images_in(fractions: Sequence[float]) -> int | None:
    """The least number of images of which all these shares are whole counts.

    None if there is none up to 200,000, or if fewer than two different shares are given.
    """
    shares = np.unique(np.asarray(fractions, dtype=np.float64))
    if len(shares) < 2 or not np.isfinite(shares).all():
        return None
    images = np.arange(math.floor(1 / float(np.diff(shares).max())), MOST_IMAGES + 1, dtype=np.float64)
    for share in shares:
        counts = share * images
        images = images[np.abs(counts - np.round(counts)) < 1e-6]
    return next((int(number) for number in images if number > 1), None)


def networks_of(
    records: Iterable[Record] | RunTable,
    stages: Order,
    *,
    cost: CostName = "bitops",
    convention: Convention = "paper",
) -> list[ChainNetwork]:
    """The networks among `records`, or their runs, that chains of `stages` made, to be valued at any loss.

    `cost` is what a reduction is of, `convention` how bit operations are counted. Raises ValueError for
    stages that are not distinct letters, a cost or convention that a record lacks, and a reduction that
    cannot be.
    """
    check_cost(cost)
    runs = records if isinstance(records, RunTable) else RunTable.of(records, stages=stages)
    chains = runs.chains(stages)
    reductions, (seen, unseen) = _points(chains, cost, convention)
    return [
        ChainNetwork(
            setting=run.setting(stages),
            order=run.order,
            seed=run.seed,
            reductions=reduction,
            losses=(validation, test),
        )
        for run, reduction, validation, test in zip(chains, reductions, seen, unseen, strict=True)
    ]


def recounted(
    networks: Sequence[ChainNetwork], runs: RunTable, *, cost: CostName, convention: Convention = "paper"
) -> list[ChainNetwork]:
    """The networks of `networks_of`, of the same runs, by another cost."""
    chains = runs.chains("".join(sorted({stage for network in networks for stage in network.order})))
    reductions = _reductions_of(chains, [len(network.reductions) for network in networks], cost, convention)
    return [replace(network, reductions=own) for network, own in zip(networks, reductions, strict=True)]


def _points(
    runs: Mapping[Run, Record], cost: CostName, convention: Convention
) -> tuple[list[FloatArray], tuple[list[FloatArray], list[FloatArray]]]:
    """Log2 reductions of the operating points of each run, and losses on validation and on test images."""
    losses, counted = point_losses(list(runs.values()))
    lengths = counted.tolist()
    seen, unseen = (split(column, lengths) for column in losses.T)
    return _reductions_of(runs, lengths, cost, convention), (seen, unseen)


def _reductions_of(
    runs: Mapping[Run, Record], lengths: Sequence[int], cost: CostName, convention: Convention
) -> list[FloatArray]:
    """Log2 reductions of the operating points of each run, of which there are `lengths`."""
    points = [point for record in runs.values() for point in record.points]
    if convention == "paper" and (plain := _PLAIN.get(cost)):
        reductions = np.array(list(map(plain, points)))
    else:
        reductions = np.array([_READERS[cost](point, convention) for point in points])
    bad = reductions[~((reductions > 0) & (reductions <= MOST_REDUCTION))]
    if bad.size:
        raise ValueError(f"a reduction must lie in (0, {MOST_REDUCTION:g}], got {bad[0]:g} in a record")
    if cost == "macs":
        reductions *= np.repeat([multiplication_bits(run.text) for run in runs], lengths)
    return split(np.log2(reductions), lengths)


_PLAIN: Mapping[CostName, Callable[[OperatingPoint], float]] = {  # in the convention "paper"
    "bitops": attrgetter("bitops_cr"),
    "macs": attrgetter("bitops_cr"),
    "storage": attrgetter("cr"),
}
_READERS: Mapping[CostName, Callable[[OperatingPoint, Convention], float]] = {
    "bitops": bitops_reduction,
    "macs": lambda point, _: bitops_reduction(point),
    "storage": lambda point, _: storage_reduction(point),
    "latency": lambda point, _: latency_reduction(point),
}


def settings_of(networks: Iterable[ChainNetwork]) -> tuple[Setting, ...]:
    """The settings of all knobs that the networks were trained with as a design, in order of text.

    A setting counts if it was run at least half as often as the most frequent one, and with two orders or
    more: single trials of a sampler are no design. The longest chains tell, since all knobs are set there.
    """
    networks = list(networks)
    longest = max((len(network.order) for network in networks), default=0)
    orders: dict[Setting, list[Order]] = defaultdict(list)
    for network in networks:
        if len(network.order) < longest:
            continue
        orders[network.setting].append(network.order)
    most = max(map(len, orders.values()), default=0)
    return tuple(
        sorted(
            setting
            for setting, runs in orders.items()
            if len(runs) >= LEAST_SHARE * most and len(set(runs)) > 1
        )
    )


def chain_values(
    networks: Iterable[ChainNetwork],
    stages: Order,
    *,
    loss: float,
    settings: Sequence[Setting] | None = None,
) -> ValueTable:
    """Value every chain of `stages` at every seed at which it was run with all `settings` of its knobs.

    Args:
        networks: those of `networks_of`, of one task.
        stages: distinct letters.
        loss: tolerated, a fraction of accuracy in (0, 1].
        settings: of all knobs, those to take part; all that `settings_of` finds by default.

    A failed network adds no point. Rows are sorted by length, then by the place of their stages. Raises
    ValueError for a loss outside of (0, 1].
    """
    return chain_tables(networks, stages, losses=[loss], settings=settings)[0]


def chain_tables(
    networks: Iterable[ChainNetwork],
    stages: Order,
    *,
    losses: Sequence[float],
    settings: Sequence[Setting] | None = None,
) -> list[ValueTable]:
    """The tables of `chain_values` at several losses: the fronts that they are read from are made once."""
    for loss in losses:
        check_loss(loss)
    networks = list(networks)
    settings = settings_of(networks) if settings is None else tuple(settings)
    wanted: dict[frozenset[str], set[Setting]] = defaultdict(set)  # by the stages of a chain
    groups: dict[tuple[Order, int], list[ChainNetwork]] = defaultdict(list)
    for network in networks:
        letters = frozenset(network.order)
        if letters not in wanted:
            wanted[letters] = {
                own for setting in settings if len((own := setting.of(letters)).steps) == len(letters)
            }
        if network.setting in wanted[letters]:
            groups[network.order, network.seed].append(network)
    complete = {key: runs for key, runs in groups.items() if len(runs) == len(wanted[frozenset(key[0])])}
    orders = _sorted({order for order, _ in complete}, stages)
    seeds = tuple(sorted({seed for _, seed in complete}))
    values = np.full((len(losses), len(orders), len(seeds)), np.nan)
    rows, columns = ({name: k for k, name in enumerate(names)} for names in (orders, seeds))
    places = [rows[order] for order, _ in complete], [columns[seed] for _, seed in complete]
    fronts = [_fronts(list(complete.values()), half) for half in (0, 1)]
    for values_at, loss in zip(values, losses, strict=True):
        values_at[places] = np.mean([_reductions(*front, loss) for front in fronts], axis=0)
    return [
        ValueTable(stages, orders, seeds, values_at, FLOOR, loss, settings)
        for values_at, loss in zip(values, losses, strict=True)
    ]


def order_values(
    networks: Iterable[ChainNetwork],
    stages: Order,
    *,
    loss: float,
    settings: Sequence[Setting] | None = None,
) -> ValueTable:
    """The rows of `chain_values` that hold all stages: what their order alone decides."""
    complete = [network for network in networks if len(network.order) == len(stages)]
    return chain_values(complete, stages, loss=loss, settings=settings)


def run_values(
    runs: RunTable, *, loss: float, cost: CostName = "bitops", convention: Convention = "paper"
) -> dict[Run, float]:
    """The value of each run that did not fail by itself, repeats of a stage among them."""
    check_loss(loss)
    measured = {run: record for run, record in runs.records.items() if record.points}
    reductions, losses = _points(measured, cost, convention)
    fronts = [_rising(padded(part, np.inf), padded(reductions, FLOOR)) for part in losses]
    values = np.mean([_reductions(*front, loss) for front in fronts], axis=0) if measured else ()
    return dict(zip(measured, map(float, values), strict=True))


def sampled_values(networks: Sequence[ChainNetwork], stages: Order, *, loss: float) -> ValueTable:
    """The table of networks that a sampler chose: each is valued alone, and a chain is their mean at a seed.

    So no chain gains by having been tried more often; that it was tried with better knobs, it does.
    """
    check_loss(loss)
    ran = [network for network in networks if len(network.reductions)]
    fronts = [_fronts([[network] for network in ran], half) for half in (0, 1)]
    alone = np.mean([_reductions(*front, loss) for front in fronts], axis=0) if ran else np.zeros(0)
    groups: dict[tuple[Order, int], list[float]] = defaultdict(list)
    for network, value in zip(ran, alone, strict=True):
        groups[network.order, network.seed].append(float(value))
    orders, seeds = (
        _sorted({order for order, _ in groups}, stages),
        tuple(sorted({seed for _, seed in groups})),
    )
    values = np.full((len(orders), len(seeds)), np.nan)
    for (order, seed), at_seed in groups.items():
        values[orders.index(order), seeds.index(seed)] = np.mean(at_seed)
    return ValueTable(stages, orders, seeds, values, FLOOR, loss)


def _sorted(orders: Iterable[Order], stages: Order) -> tuple[Order, ...]:
    return tuple(sorted(orders, key=lambda order: (len(order), [stages.index(stage) for stage in order])))


def front_reduction(losses: FloatArray, log2_reductions: FloatArray, *, loss: float) -> float:
    """Largest log2 reduction within a loss u, averaged over u from loss / 2 to 3 loss / 2; at least 0.

    `losses` and `log2_reductions` are those of operating points, shape (n,); n = 0 gives the floor 0.
    """
    return float(_reductions(*_rising(losses[None], log2_reductions[None]), loss)[0])


def _fronts(groups: Sequence[Sequence[ChainNetwork]], half: int) -> tuple[FloatArray, FloatArray]:
    """The fronts of groups of networks on a half of the held-out images, as `_rising` gives them."""
    losses = [np.concatenate([network.losses[half] for network in group]) for group in groups]
    reductions = [np.concatenate([network.reductions for network in group]) for group in groups]
    return _rising(padded(losses, np.inf), padded(reductions, FLOOR))


def _rising(losses: FloatArray, log2_reductions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Losses, sorted, and the largest reduction up to each; rows are fronts, all shape (fronts, points)."""
    rise = np.argsort(losses, axis=1, kind="stable")
    heights = np.maximum(np.take_along_axis(log2_reductions, rise, 1), FLOOR)
    return np.take_along_axis(losses, rise, 1), np.maximum.accumulate(heights, axis=1)


def _reductions(losses: FloatArray, best: FloatArray, loss: float) -> FloatArray:
    """`front_reduction` of each row of what `_rising` gave."""
    low, high = WINDOW[0] * loss, WINDOW[1] * loss
    widths = np.diff(np.clip(losses, low, high), append=high)  # from its loss on a point is within
    averages: FloatArray = (best * widths).sum(axis=1) / (high - low)
    return averages


def reduction_of(
    point: OperatingPoint, sequence: str, *, cost: CostName = "bitops", convention: Convention = "paper"
) -> float:
    """How many times smaller than the baseline a network of a sequence is at one of its operating points.

    Raises ValueError for a convention that the point lacks, and a reduction that cannot be.
    """
    reduction = _READERS[cost](point, convention)
    if not 0 < reduction <= MOST_REDUCTION:
        raise ValueError(f"a reduction must lie in (0, {MOST_REDUCTION:g}], got {reduction:g} in a record")
    return reduction * multiplication_bits(sequence) if cost == "macs" else reduction


def holds_latency(records: Iterable[Record]) -> bool:
    """Whether all operating points tell the latency of the exported network."""
    return all("latency_cr" in point.extra for record in records for point in record.points)


@lru_cache(maxsize=2**16)
def multiplication_bits(text: str) -> float:
    """Bits of a multiplication after a sequence, as a share of a float one: what turns BitOps into MACs.

    In the convention of the paper one width of weights and activations holds for the whole network.
    """
    widths = (32.0, 32.0)
    for step in parsed(text).steps:
        if {"weights", "activations"} <= step.settings.keys():
            widths = float(step.settings["weights"]), float(step.settings["activations"])
    return widths[0] * widths[1] / 32.0**2
