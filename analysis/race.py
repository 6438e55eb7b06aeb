"""The race: which chains to run at the next seed, given the values of all seeds so far.

Blocks are seeds. All chains that are still in the race are run at a seed, so that they are compared on equal
terms; a chain that is most probably not the best leaves it and does not come back. Up to four stages every
order starts, with its prefixes, at the first seeds in balanced halves; from five on a balanced fraction
starts, and the model proposes orders that were never run. Everything is a function of the values alone, so
that a run that is resumed, or repeated, takes the same way.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import BAND, LEAST_SEEDS, lower_bounds
from ordercomp.analysis.order_model import Draws, Effort, draw_values, pair_signs, parts_of
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import Order, permutations, subsets

FloatArray = npt.NDArray[np.float64]

MOST_SEEDS = 8  # the risk of dropping the best order is spent over the looks after these many seeds
ALL_UP_TO = 4  # stages
HALVES = 4  # seeds at which only a half starts
LOOK = Effort(burn_in=50, draws=100)
_HALF = ("DPQE", "DEPQ", "DEQP", "PDQE", "PEQD", "PEDQ", "QDPE", "QPDE", "QEPD", "QEDP", "EDQP", "EPQD")
_FRACTION = {5: 12, 6: 24, 7: 30, 8: 36, 9: 42, 10: 48}  # orders that start, by the number of stages
_PROPOSED = 6  # orders that were never run and enter at a seed
_KEPT = 6  # from five stages on: the best of those in the race, beside the proposed ones
MOST_LATER = _KEPT + _PROPOSED  # orders at a seed after the first two, from five stages on
_TRIES = 400  # of the search for a balanced fraction


def next_orders(stages: Order, table: ValueTable | None) -> tuple[Order, ...]:
    """The chains to run at the next seed, their prefixes implied; none where one chain is left.

    `table` holds the values of all chains at the seeds so far, in the order in which they were run; None
    before the first. Raises ValueError for fewer than two or more than ten stages.
    """
    if not 2 <= len(stages) <= max(_FRACTION):
        raise ValueError(f"stages must be 2 to {max(_FRACTION)} letters for a race, got {stages!r}")
    done = 0 if table is None else len(table.seeds)
    if len(stages) <= ALL_UP_TO:
        lost = set() if table is None else set(table.orders) - set(surviving(table))
        every = [chain for subset in subsets(stages) for chain in permutations(subset)]
        left = [chain for chain in every if chain not in lost]  # many never ran as yet
        return () if len(left) < 2 else in_halves(stages, longest(left), done)
    if table is None or done < 2:
        return starting_orders(stages, done)
    survivors = surviving(table)
    draws = _look(table)
    ranked = [draws.orders[k] for k in np.argsort(-draws.pooled.mean(axis=0), kind="stable")]
    best = longest([order for order in ranked if order in survivors][:_KEPT])
    new = _proposals(draws, stages) if done < MOST_SEEDS - LEAST_SEEDS else ()
    return (*best, *new)


def starting_orders(stages: Order, block: int) -> tuple[Order, ...]:
    """The orders of the `block`-th of the first seeds, 0 being the first.

    For five stages or more a balanced fraction: every order stands beside its reverse, so that each stage
    comes before each other equally often, and the pairs are as little confounded as a search finds. Every
    block has another one.
    """
    if len(stages) <= ALL_UP_TO:
        return in_halves(stages, tuple(permutations(stages)), block)
    rng = np.random.default_rng(block)
    letters = np.array(list(stages))

    def draw() -> list[Order]:
        half = ["".join(rng.permutation(letters)) for _ in range(_FRACTION[len(stages)] // 2)]
        return [*half, *(order[::-1] for order in half)]

    tries = (draw() for _ in range(_TRIES))
    distinct = [tuple(orders) for orders in tries if len(set(orders)) == len(orders)]
    return min(distinct, key=lambda orders: _confounding(orders, stages))


def longest(chains: Sequence[Order]) -> tuple[Order, ...]:
    """The chains that are no prefix of another one: running these runs all of them."""
    return tuple(
        chain for chain in chains if not any(other != chain and other.startswith(chain) for other in chains)
    )


def surviving(table: ValueTable) -> tuple[Order, ...]:
    """The chains still in the race after the seeds of the table, as they were dropped seed by seed."""
    left = set(table.orders)
    for seeds in range(LEAST_SEEDS, len(table.seeds) + 1):
        if len(left) > 1:
            left -= losing(_look(table.at(table.seeds[:seeds])))
    return tuple(order for order in table.orders if order in left)


def losing(draws: Draws) -> set[Order]:
    """The chains that leave the race at one look: they lie behind, at an error level that all looks share."""
    least = lower_bounds(draws.pooled, BAND / MOST_SEEDS)
    return {order for order, behind in zip(draws.orders, least, strict=True) if behind > 0}


def _look(table: ValueTable) -> Draws:
    return draw_values(table.values, table.orders, table.stages, floor=table.floor, effort=LOOK)


def in_halves(stages: Order, left: Sequence[Order], block: int) -> tuple[Order, ...]:
    """Those of `left` that belong to this block's half, at the first seeds, while there are many."""
    if len(stages) < ALL_UP_TO or block >= HALVES or len(left) <= len(_HALF):
        return tuple(left)
    letters = dict(zip("DPQE", stages, strict=True))
    half = {"".join(letters[letter] for letter in order) for order in _HALF}
    return tuple(order for order in left if len(order) < len(stages) or (order in half) == (block % 2 == 0))


def _confounding(orders: Sequence[Order], stages: Order) -> float:
    """Sum of squared inner products of different pairs' signs: how much the pairs speak for each other."""
    signs = pair_signs(orders, stages)
    products = signs.T @ signs
    return float((products**2).sum() - (np.diag(products) ** 2).sum())


def _proposals(draws: Draws, stages: Order) -> tuple[Order, ...]:
    """The orders never run that the model expects most of, found by moving single stages, best first."""
    known = draws.orders
    values: dict[Order, float] = {}
    means = draws.pooled.mean(axis=0)
    whole = [k for k in np.argsort(-means, kind="stable") if len(known[k]) == len(stages)]
    starts = [known[k] for k in whole[:4]]
    for start in starts:
        here, best = start, -np.inf
        while True:
            around = [order for order in _moved(here) if order not in values]
            if around:
                values.update(zip(around, map(float, _predict(draws, stages, around)), strict=True))
            found = max(_moved(here), key=lambda order: values[order])
            if values[found] <= best:
                break
            here, best = found, values[found]
    fresh = [order for order in values if order not in known]
    return tuple(sorted(fresh, key=lambda order: (-values[order], order))[:_PROPOSED])


def _moved(order: Order) -> list[Order]:
    """The orders that one stage reaches by standing elsewhere, the order itself among them."""
    found = {order}
    for place, stage in enumerate(order):
        rest = order[:place] + order[place + 1 :]
        found |= {rest[:to] + stage + rest[to:] for to in range(len(order))}
    return sorted(found)


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
