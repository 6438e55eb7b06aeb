"""The race: who starts, who leaves, and that it takes the same way again."""

import itertools
from collections import Counter

import numpy as np
import pytest

from ordercomp.analysis.race import MOST_SEEDS, next_orders, starting_orders, surviving
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import permutations, prefixes

ORDERS = tuple(permutations("DPQE"))


def run(stages: str, truth: dict[str, float], seeds: int, noise: float = 0.2) -> list[tuple[str, ...]]:
    """The blocks of a race in a world with these values; shorter chains lie far behind, unless told."""
    rng = np.random.default_rng(0)
    blocks: list[tuple[str, ...]] = []
    values: dict[str, list[float]] = {}
    table = None
    for seed in range(seeds):
        block = next_orders(stages, table)
        if not block:
            break
        blocks.append(block)
        ran = {prefix for order in block for prefix in prefixes(order)}
        for chain in sorted(ran):
            values.setdefault(chain, [np.nan] * seed)
        for chain, row in values.items():
            value = truth.get(chain, -10.0 + len(chain)) + noise * rng.standard_normal()
            row.append(value if chain in ran else np.nan)
        orders = tuple(sorted(values))
        grid = np.array([values[order] for order in orders])
        table = ValueTable(stages, orders, tuple(range(seed + 1)), grid, None)
    return blocks


def test_halves_of_four_stages_are_balanced_and_complement_each_other() -> None:
    one, other = starting_orders("DPQE", 0), starting_orders("DPQE", 1)
    assert sorted((*one, *other)) == sorted(ORDERS)
    for half in (one, other):
        first = Counter(
            pair for order in half for k, a in enumerate(order) for pair in [(a, b) for b in order[k + 1 :]]
        )
        assert set(first.values()) == {6}
    assert starting_orders("DPQE", 2) == one
    assert sorted(starting_orders("ABCK", 0)) != sorted(starting_orders("ABCK", 1))


@pytest.mark.integration
def test_orders_that_lose_leave_and_do_not_come_back() -> None:
    truth = {order: 3.0 * order.index("E") for order in ORDERS}
    blocks = run("DPQE", truth, MOST_SEEDS)
    assert [len(block) for block in blocks[:3]] == [12, 12, 12]
    assert sorted((*blocks[0], *blocks[1])) == sorted(ORDERS)
    assert blocks[2] == blocks[0]
    assert len(blocks[-1]) <= 6
    assert all(order.endswith("E") for order in blocks[-1])
    for earlier, later in itertools.pairwise(blocks[3:]):
        assert set(later) <= set(earlier)


def test_without_an_effect_hardly_any_order_leaves() -> None:
    rng = np.random.default_rng(3)
    table = ValueTable("DPQE", ORDERS, (0, 1, 2), rng.standard_normal((24, 3)))
    assert len(surviving(table)) >= 18


def test_short_chains_that_may_be_best_stay_without_the_orders_that_they_start() -> None:
    truth = {order: float(order.index("E")) for order in ORDERS} | {"QD": 8.0, "QP": 8.0}
    blocks = run("DPQE", truth, MOST_SEEDS)
    assert set(blocks[-1]) == {"QD", "QP"}


def test_the_race_takes_the_same_way_again() -> None:
    truth = {order: float(order.index("E")) for order in ORDERS}
    assert run("DPQE", truth, 5) == run("DPQE", truth, 5)


@pytest.mark.parametrize("stages", ["ABCDE", "ABCDEG", "ABCDEGHI"])
def test_from_five_stages_on_a_balanced_fraction_starts(stages: str) -> None:
    orders = starting_orders(stages, 0)
    assert len(orders) == len(set(orders)) <= 36
    for place, first in enumerate(stages):
        for second in stages[place + 1 :]:
            before = sum(order.index(first) < order.index(second) for order in orders)
            assert before == len(orders) / 2


@pytest.mark.integration
def test_five_stages_come_close_to_the_best_of_120_orders() -> None:
    stages, rng = "ABCDE", np.random.default_rng(5)
    scores = dict(zip(stages, rng.standard_normal(5), strict=True))
    truth = {
        order: sum(scores[stage] * (4 - 2 * place) for place, stage in enumerate(order)) / 3
        + 0.5 * (order.index("A") < order.index("B") < order.index("C"))
        for order in permutations(stages)
    }
    tried = {order for block in run(stages, truth, 5) for order in block if len(order) == 5}
    spread = max(truth.values()) - min(truth.values())
    assert len(tried) < 60
    assert max(truth.values()) - max(truth[order] for order in tried) < 0.1 * spread


@pytest.mark.parametrize("stages", ["A", "ABCDEGHIJKL"])
def test_too_few_or_too_many_stages_are_refused(stages: str) -> None:
    with pytest.raises(ValueError, match="stages must be 2 to 10 letters"):
        next_orders(stages, None)
