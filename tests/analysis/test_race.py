"""The race: who starts, who is trained next, when it is over, and that it takes the same way again."""

from collections import Counter

import numpy as np
import pytest

from ordercomp.analysis.order_model import Draws
from ordercomp.analysis.race import (
    BLOCK,
    Cell,
    Trained,
    doubts,
    first_cells,
    idle_setting,
    look,
    next_cells,
    starting_orders,
)
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import permutations, prefixes

ORDERS = tuple(permutations("DPQE"))


def table_of(stages: str, values: dict[Cell, float]) -> ValueTable:
    orders = tuple(sorted({order for order, _ in values}, key=lambda order: (len(order), order)))
    seeds = tuple(sorted({seed for _, seed in values}))
    grid = np.array([[values.get((order, seed), np.nan) for seed in seeds] for order in orders])
    return ValueTable(stages, orders, seeds, grid, None)


def run(
    stages: str, truth: dict[str, float], *, seeds: int, blocks: int, noise: float = 0.2
) -> list[tuple[Cell, ...]]:
    """The blocks of a race in a world with these values; shorter chains lie far behind, unless told."""
    rng = np.random.default_rng(0)
    done: list[tuple[Cell, ...]] = []
    values: dict[Cell, float] = {}
    block = first_cells(stages)
    while block and len(done) < blocks:
        done.append(block)
        for chain, seed in block:
            for prefix in prefixes(chain):
                value = truth.get(prefix, -10.0 + len(prefix)) + noise * rng.standard_normal()
                values.setdefault((prefix, seed), value)
        block = next_cells(look(table_of(stages, values)), set(values), seeds=seeds)
    return done


def drawn(values: dict[str, list[float]]) -> Draws:
    """Draws of the posterior as they are told."""
    pooled = np.array(list(values.values())).T[None]
    return Draws(tuple(values), pooled, np.zeros_like(pooled), np.ones(len(values)), {"own": 1.0})


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
def test_trainings_go_to_chains_that_may_be_the_best_and_reach_those_that_did_not_start() -> None:
    truth = {order: 3.0 * order.index("E") + (order == "DQPE") for order in ORDERS}
    blocks = run("DPQE", truth, seeds=6, blocks=16)
    later = Counter(chain for block in blocks[1:] for chain, _ in block if len(chain) == 4)
    assert sum(count for chain, count in later.items() if chain.endswith("E")) > 0.5 * later.total()
    assert later["DQPE"] >= 2  # which did not start
    assert len({chain for block in blocks for chain, _ in block}) < 24


@pytest.mark.integration
def test_a_race_is_over_once_the_best_chain_is_plain() -> None:
    truth = {order: 3.0 * order.index("E") + 4.0 * (order == "QDPE") for order in ORDERS}
    blocks = run("DPQE", truth, seeds=6, blocks=40, noise=0.05)
    assert len(blocks) < 12
    assert len({seed for block in blocks for _, seed in block}) >= 3  # two tell no noise from a difference


@pytest.mark.integration
def test_a_short_chain_is_trained_without_the_orders_that_it_starts() -> None:
    truth = {order: float(order.index("E")) for order in ORDERS} | {"QD": 8.0, "QP": 8.0}
    blocks = run("DPQE", truth, seeds=4, blocks=8)
    later = [chain for block in blocks[3:] for chain, _ in block]
    (most, _), *_ = Counter(later).most_common(1)
    assert most in ("QD", "QP")


@pytest.mark.integration
def test_the_race_takes_the_same_way_again() -> None:
    truth = {order: float(order.index("E")) for order in ORDERS}
    assert run("DPQE", truth, seeds=5, blocks=3) == run("DPQE", truth, seeds=5, blocks=3)


def test_what_is_in_training_is_not_chosen_again() -> None:
    draws = drawn({"PE": [3.0, 1.0, 2.0], "EP": [1.0, 3.0, 2.0], "P": [0.0, 0.0, 0.0], "E": [0.0, 0.0, 0.0]})
    ran = {("P", 0), ("PE", 0), ("E", 0), ("EP", 0)}
    assert next_cells(draws, ran, seeds=1) == ()
    first = next_cells(draws, ran, seeds=2, block=1)
    assert [seed for _, seed in first] == [1]
    opened = ran | {(prefix, seed) for chain, seed in first for prefix in prefixes(chain)}
    assert not set(first) & set(next_cells(draws, opened, seeds=2, block=1))


def test_doubt_is_half_how_often_a_chain_is_one_of_two_and_half_how_far_it_may_be_ahead() -> None:
    pooled = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [3.0, 2.0, 0.0], [0.0, 2.0, 3.0]])
    assert doubts(pooled) == pytest.approx([0.4375, 0.1875, 0.375])
    assert doubts(pooled[:3]) == pytest.approx([0.5, 1 / 3, 1 / 6])  # the best guess is best in all


@pytest.mark.parametrize("stages", ["DPQE", "ABCK", "ABCDE"])
def test_each_order_starts_beside_its_reverse(stages: str) -> None:
    started = set(first_cells(stages))
    assert len(started) == len(first_cells(stages))
    assert {(order[::-1], seed) for order, seed in started} == started


def test_chains_are_chosen_by_doubt_per_training_and_less_the_oftener_they_ran() -> None:
    """PE lacks one training at seed 0 and EP two; at seed 1 each would take a baseline, too."""
    trained = Trained.of([("P", 0)])
    assert trained.choose({"PE": 0.5, "EP": 0.6}, seeds=2, block=1) == (("PE", 0),)
    again = Trained.of([("PE", 0), ("EP", 1), ("E", 0), ("PE", 1)])
    assert again.choose({"PE": 0.5, "EP": 0.5}, seeds=2, block=1) == (("EP", 0),)
    assert Trained.of([("PE", 0), ("EP", 0)]).choose({"PE": 0.5}, seeds=1, block=BLOCK) == ()


def test_seeds_that_are_trained_together_are_chosen_together() -> None:
    """Up to the next multiple, and not those that ran: what is chosen at once counts once."""
    trained = Trained.of([("P", 0), ("E", 0)])
    chosen = trained.choose({"PE": 0.6, "EP": 0.5}, seeds=5, block=3, together=3)
    assert chosen == (*(("PE", seed) for seed in range(3)), *(("EP", seed) for seed in range(3)))
    last = trained.choose({"PE": 0.6}, seeds=5, block=1, together=3)
    assert last == (("PE", 3), ("PE", 4))


def test_a_setting_is_idle_if_hardly_a_value_that_matters_changes_without_it() -> None:
    values = np.array([[5.0, 5.0], [4.0, np.nan], [1.0, 1.0]])
    without = [values - 1.0, values - np.array([[0.0], [0.01], [0.9]])]
    assert idle_setting(values, without, np.array([0.6, 0.4, 0.0])) == 1
    assert idle_setting(values, without, np.array([0.4, 0.2, 0.4])) is None
    assert idle_setting(values, without[:1], np.array([1.0, 0.0, 0.0])) is None


@pytest.mark.parametrize("stages", ["ABCDE", "ABCDEG", "ABCDEGHI"])
def test_from_five_stages_on_a_balanced_fraction_starts(stages: str) -> None:
    orders = starting_orders(stages, 0)
    assert len(orders) == len(set(orders)) <= 36
    assert {stages, stages[::-1]} <= set(orders)  # as the user named them
    for place, first in enumerate(stages):
        for second in stages[place + 1 :]:
            before = sum(order.index(first) < order.index(second) for order in orders)
            assert before == len(orders) / 2
    assert {seed for _, seed in first_cells(stages)} == {0, 1}


@pytest.mark.integration
def test_five_stages_come_close_to_the_best_of_120_orders() -> None:
    stages, rng = "ABCDE", np.random.default_rng(5)
    scores = dict(zip(stages, rng.standard_normal(5), strict=True))
    truth = {
        order: sum(scores[stage] * (4 - 2 * place) for place, stage in enumerate(order)) / 3
        + 0.5 * (order.index("A") < order.index("B") < order.index("C"))
        for order in permutations(stages)
    }
    tried = {
        order for block in run(stages, truth, seeds=5, blocks=8) for order, _ in block if len(order) == 5
    }
    spread = max(truth.values()) - min(truth.values())
    assert len(tried) < 60
    assert max(truth.values()) - max(truth[order] for order in tried) < 0.1 * spread


@pytest.mark.parametrize("stages", ["A", "ABCDEGHIJKL"])
def test_too_few_or_too_many_stages_are_refused(stages: str) -> None:
    with pytest.raises(ValueError, match="stages must be 2 to 10 letters"):
        first_cells(stages)


@pytest.mark.parametrize("stages", ["DPQE", "DLPQE"])
def test_a_race_that_was_told_of_good_chains_starts_with_these(stages: str) -> None:
    hints = {order: float(len(order)) for order in permutations(stages[:3])} | {"E": 9.0, "D": 0.0}
    cells = first_cells(stages, hints)
    assert cells[0] == ("E", 0)
    assert {seed for _, seed in cells} == {0}
    assert ("D", 0) not in cells
    assert len(cells) < len(first_cells(stages))
    assert first_cells(stages, {}) == first_cells(stages)
