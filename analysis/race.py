"""The race: which chains to train next, at which seed, given the values of all that were trained.

Few orders start, each beside its reverse, with their prefixes: a quarter of those of four stages at the first
seed, and from five stages on a balanced fraction at each of the first two. From then on trainings go where
the doubt is: to the chains that are often among the two best in draws of the posterior (top-two sampling,
Russo 2016) or may be far ahead, per training that they take, as most of a chain's prefixes are often there.
A chain that was measured at many seeds gains less by another one. Orders that were never run take part as the
model expects them. The choice is a function of the values and of what is in training alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import BAND, BOUND, lower_bounds
from ordercomp.analysis.order_model import Draws, Effort, draws_of, pair_signs, parts_of
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import Order, permutations, prefixes, subsets

FloatArray = npt.NDArray[np.float64]
Cell = tuple[Order, int]  # a chain at a seed

BLOCK = 4  # trainings that are chosen at once, at each knob setting, with up to four stages
ENOUGH = 0.05  # doublings: a race is over if with 95 % confidence no choice is better by more
IDLE, NOTHING = 0.05, 0.05  # a setting is idle if so few values change without it, by so many doublings
BASELINE = 1.0  # trainings that the first chain of a new seed takes beside its own
ALL_UP_TO = 4  # stages
LOOK = Effort(burn_in=50, draws=100)
_RISK = BAND / 8  # of leaving out the best chain, at a single look
_QUARTER = ("DPQE", "EQPD", "QEDP", "PDEQ", "DQEP", "PEQD")
_HALF = ("DPQE", "DEPQ", "DEQP", "PDQE", "PEQD", "PEDQ", "QDPE", "QPDE", "QEPD", "QEDP", "EDQP", "EPQD")
_FRACTION = {5: 12, 6: 24, 7: 30, 8: 36, 9: 42, 10: 48}  # orders that start, by the number of stages
TOGETHER = 3  # seeds of a chain that are trained as one network, where that is faster
_HINTED = 4  # chains that start where a hint tells which are good
_PROPOSED = 6  # orders that were never run and are looked at beside the others
_TRIES = 400  # of the search for a balanced fraction


def first_cells(stages: Order, hints: Mapping[Order, float] | None = None) -> tuple[Cell, ...]:
    """The orders that start, at their seeds: with `hints` the chains that these expect most of, at the first.

    Raises ValueError for fewer than two or more than ten stages.
    """
    if not 2 <= len(stages) <= max(_FRACTION):
        raise ValueError(f"stages must be 2 to {max(_FRACTION)} letters for a race, got {stages!r}")
    if hints:
        return tuple(
            (order, 0) for order in sorted(hints, key=lambda order: (-hints[order], order))[:_HINTED]
        )
    if len(stages) == ALL_UP_TO:
        letters = str.maketrans("DPQE", stages)
        return tuple((order.translate(letters), 0) for order in _QUARTER)
    seeds = 1 if len(stages) < ALL_UP_TO else 2
    return tuple((order, seed) for seed in range(seeds) for order in starting_orders(stages, seed))


def starting_orders(stages: Order, block: int) -> tuple[Order, ...]:
    """A balanced part of all orders: as small as can be, another one for each `block`, which counts from 0.

    Of four stages one half and the other half in turn; of fewer all. From five stages on a fraction with the
    order in which they are named, in which every order stands beside its reverse, so that each stage comes
    before each other equally often, and the pairs are as little confounded as a search finds.
    """
    if len(stages) < ALL_UP_TO:
        return tuple(permutations(stages))
    if len(stages) == ALL_UP_TO:
        half = {"".join(stages["DPQE".index(letter)] for letter in order) for order in _HALF}
        return tuple(order for order in permutations(stages) if (order in half) == (block % 2 == 0))
    rng = np.random.default_rng(block)
    letters = np.array(list(stages))

    def draw() -> list[Order]:
        others = ["".join(rng.permutation(letters)) for _ in range(_FRACTION[len(stages)] // 2 - 1)]
        half = [stages, *others]
        return [*half, *(order[::-1] for order in half)]

    tries = (draw() for _ in range(_TRIES))
    distinct = [tuple(orders) for orders in tries if len(set(orders)) == len(orders)]
    return min(distinct, key=lambda orders: _confounding(orders, stages))


def block_of(stages: Order) -> int:
    """About how many trainings are chosen at once, at each knob setting: more where there are more orders."""
    return _FRACTION.get(len(stages), BLOCK)


def next_cells(
    draws: Draws,
    ran: Collection[Cell],
    *,
    seeds: int,
    settings: int = 1,
    block: int = BLOCK,
    together: int = 1,
) -> tuple[Cell, ...]:
    """The chains to train next, each at a seed, their prefixes implied; none where the race is over.

    Args:
        draws: what `look` tells of the values known so far.
        ran: the chains that were trained or are in training, at seeds 0, 1, …; some may have no value yet.
        seeds: the most that there may be.
        settings: of the knobs, with each of which a chain is trained.
        block: about as many trainings are chosen at each setting, those together counted once.
        together: a chain is trained at so many seeds at once: from a multiple of it up to the next.

    A race is over if hardly anything can be gained by taking another chain than the best guess, or if all
    that may be the best were run at all seeds.
    """
    if len({seed for _, seed in ran}) >= RULES.least_seeds and is_decided(draws):
        return ()
    may_win = lower_bounds(draws.pooled, _RISK) == 0
    doubt = {
        order: float(share)
        for order, share, possible in zip(draws.orders, doubts(draws.pooled), may_win, strict=True)
        if possible and share > 0
    }
    return Trained.of(ran, settings=settings).choose(doubt, seeds=seeds, block=block, together=together)


def look(table: ValueTable, effort: Effort = LOOK) -> Draws:
    """Draws of the posterior for the chains that were run and those that might be."""
    stages = table.stages
    if len(stages) <= ALL_UP_TO:
        every = [chain for subset in subsets(stages) for chain in permutations(subset)]
        return _draw(table, [chain for chain in every if chain not in table.orders], effort)
    return _draw(table, _proposals(_draw(table, (), effort), stages), effort)


def is_decided(draws: Draws) -> bool:
    """Whether the choice of a chain can cost hardly anything any more."""
    pooled = draws.pooled
    behind = pooled.max(axis=1) - pooled[:, int(pooled.mean(axis=0).argmax())]
    return bool(np.quantile(behind, BOUND) < ENOUGH)


def doubts(pooled: FloatArray) -> FloatArray:
    """How much each chain is in doubt, by draws of shape (draws, chains); the sum is 1, shape (chains,).

    One half by how often it is one of the two best, the other by the regret of the best guess that it
    explains: how far it lies ahead where it is the best. The best guess counts as much there as all others.
    """
    two = np.argpartition(-pooled, min(1, pooled.shape[1] - 1), axis=1)[:, :2]
    often = np.bincount(two.ravel(), minlength=pooled.shape[1]) / two.size
    guess, best = int(pooled.mean(axis=0).argmax()), pooled.argmax(axis=1)
    regret = np.bincount(best, weights=pooled.max(axis=1) - pooled[:, guess], minlength=pooled.shape[1])
    regret[guess] = regret.sum()
    shares: FloatArray = 0.5 * (often + regret / regret.sum() if regret.sum() else 2 * often)
    return shares


def idle_setting(values: FloatArray, without: Sequence[FloatArray], weights: FloatArray) -> int | None:
    """The place of a knob setting that decides nothing, of several the one that decides least; else None.

    Args:
        values: of chains at seeds, with all settings, NaN where not run; shape (chains, seeds).
        without: the same with each of the settings left out in turn.
        weights: how much each chain matters, shape (chains,).
    """
    weighed = np.where(np.isfinite(values), weights[:, None], 0.0)
    if len(without) < 2 or not weighed.sum():
        return None
    shares = [
        float((weighed * (np.nan_to_num(values - fewer) > NOTHING)).sum() / weighed.sum())
        for fewer in without
    ]
    least = int(np.argmin(shares))
    return least if shares[least] <= IDLE else None


@dataclass(slots=True)
class Trained:
    """The chains that were run at each seed, and what another one would take."""

    seeds: list[set[Order]]
    settings: int  # trainings that a node takes

    @classmethod
    def of(cls, ran: Collection[Cell], *, settings: int = 1) -> "Trained":
        """Fill from cells, prefixes too."""
        seeds: list[set[Order]] = [set() for _ in range(1 + max((seed for _, seed in ran), default=-1))]
        for chain, seed in ran:
            seeds[seed].update(prefixes(chain))
        return cls(seeds, settings)

    def choose(
        self, doubt: dict[Order, float], *, seeds: int, block: int, together: int = 1
    ) -> tuple[Cell, ...]:
        """Add chains, those first that settle most doubt per training; return them."""
        times = {chain: sum(chain in there for there in self.seeds) for chain in doubt}
        cells: list[Cell] = []
        spent = 0
        while spent < block:
            rates = {
                (chain, seed): self._rate(chain, seed, doubt, times)
                for seed in range(min(len(self.seeds) + 1, seeds))
                for chain in doubt
                if seed == len(self.seeds) or chain not in self.seeds[seed]
            }
            if not rates:
                break
            chain, seed = max(rates, key=lambda cell: rates[cell])
            first = seed - seed % together
            most = 0
            for mate in range(first, min(first + together, seeds)):
                if mate < len(self.seeds) and chain in self.seeds[mate]:
                    continue
                new = self.add(chain, mate)
                for prefix in new:
                    times[prefix] = times.get(prefix, 0) + 1
                cells.append((chain, mate))
                most = max(most, len(new))
            spent += most
        return tuple(cells)

    def add(self, chain: Order, seed: int) -> list[Order]:
        """Note a chain as run, and return what of it is new."""
        if seed == len(self.seeds):
            self.seeds.append(set())
        new = [prefix for prefix in prefixes(chain) if prefix not in self.seeds[seed]]
        self.seeds[seed].update(new)
        return new

    def _rate(self, chain: Order, seed: int, doubt: dict[Order, float], times: dict[Order, int]) -> float:
        """Doubt settled per training: each run of a chain settles less of it than the one before."""
        there = self.seeds[seed] if seed < len(self.seeds) else ()
        new = [prefix for prefix in prefixes(chain) if prefix not in there]
        cost = self.settings * len(new) + (0 if there else BASELINE)
        return sum(doubt.get(prefix, 0.0) / (1 + times.get(prefix, 0)) for prefix in new) / cost


def _draw(table: ValueTable, unseen: Sequence[Order], effort: Effort) -> Draws:
    """Draws for the chains of a table and for others, which the model predicts."""
    orders = (*table.orders, *unseen)
    values = np.full((len(orders), len(table.seeds)), np.nan)
    values[: len(table.orders)] = table.values
    hint = None if table.hint is None else np.append(table.hint, np.full(len(unseen), np.nan))
    (draws,) = draws_of([replace(table, orders=orders, values=values, hint=hint)], effort)
    return draws


def _confounding(orders: Sequence[Order], stages: Order) -> float:
    """Sum of squared inner products of different pairs' signs: how much the pairs speak for each other."""
    signs = pair_signs(orders, stages)
    products = signs.T @ signs
    return float((products**2).sum() - (np.diag(products) ** 2).sum())


def _proposals(draws: Draws, stages: Order) -> tuple[Order, ...]:
    """The orders never run that the model expects most of, found by moving single stages, best first."""
    drawn = draws.orders
    values: dict[Order, float] = {}
    means = draws.pooled.mean(axis=0)
    full = [k for k in np.argsort(-means, kind="stable") if len(drawn[k]) == len(stages)]
    starts = [drawn[k] for k in full[:4]]
    for start in starts:
        here, best = start, -np.inf
        while True:
            around = [order for order in _moved(here) if order not in values]
            if around:
                values.update(zip(around, map(float, _predict(draws, stages, around)), strict=True))
            top = max(_moved(here), key=lambda order: values[order])
            if values[top] <= best:
                break
            here, best = top, values[top]
    fresh = [order for order in values if order not in drawn]
    return tuple(sorted(fresh, key=lambda order: (-values[order], order))[:_PROPOSED])


def _moved(order: Order) -> list[Order]:
    """The orders that one stage reaches by standing elsewhere, the order itself among them."""
    orders = {order}
    for place, stage in enumerate(order):
        others = order[:place] + order[place + 1 :]
        orders |= {others[:to] + stage + others[to:] for to in range(len(order))}
    return sorted(orders)


def _predict(draws: Draws, stages: Order, orders: Sequence[Order]) -> FloatArray:
    """Expected values of orders by the parts of those that were run (kriging), shape (orders,)."""
    parts = parts_of([*draws.orders, *orders], stages)
    count = len(draws.orders)
    shared = np.zeros((count + len(orders), count + len(orders)))
    for name, part in parts.items():
        shared += draws.variances.get(name, 0.0) * (part @ part.T)
    means = draws.pooled.mean(axis=0)
    own = np.eye(count) * (draws.variances["own"] + 1e-6)
    weights = np.linalg.solve(shared[:count, :count] + own, means - means.mean())
    predicted: FloatArray = shared[count:, :count] @ weights + means.mean()
    return predicted
