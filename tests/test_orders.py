"""Orders: counts known by hand, properties, and the trie of shared prefixes."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordercomp.sequence import (
    PrefixTrie,
    StageSequence,
    check_order,
    kendall_distance,
    permutations,
    prefixes,
    subsets,
)

stage_sets = st.sets(st.sampled_from("DEFKPQ"), min_size=1, max_size=5).map(
    lambda stages: "".join(sorted(stages))
)


@given(stage_sets)
def test_there_are_n_factorial_permutations_all_different(stages: str) -> None:
    orders = permutations(stages)
    assert len(orders) == len(set(orders)) == math.factorial(len(stages))
    assert {"".join(sorted(order)) for order in orders} == {stages}
    assert orders[0] == stages


def test_subsets_come_small_ones_first() -> None:
    assert subsets("DPQ") == ["D", "P", "Q", "DP", "DQ", "PQ", "DPQ"]
    assert subsets("DPQ", smallest=2) == ["DP", "DQ", "PQ", "DPQ"]
    with pytest.raises(ValueError, match="smallest must be at least 1, as no order is empty, got 0"):
        subsets("DPQ", smallest=0)


def test_prefixes_grow_by_one_stage() -> None:
    assert prefixes("DPQ") == ["D", "DP", "DPQ"]


def test_kendall_distance_counts_inverted_pairs() -> None:
    assert kendall_distance("DPQE", "DPQE") == 0
    assert kendall_distance("DPQE", "EQPD") == 6
    assert kendall_distance("DPQE", "PDQE") == 1
    with pytest.raises(ValueError, match="orders must hold the same stages, got 'DP' and 'DQ'"):
        kendall_distance("DP", "DQ")
    with pytest.raises(ValueError, match="stages must be distinct letters, got 'DD'"):
        kendall_distance("DD", "DD")


def test_kendall_distance_is_a_metric() -> None:
    orders = permutations("DPQE")
    for one, two, three in itertools.product(orders[::5], orders[::3], orders[::4]):
        assert kendall_distance(one, two) == kendall_distance(two, one)
        assert kendall_distance(one, three) <= kendall_distance(one, two) + kendall_distance(two, three)
        assert (kendall_distance(one, two) == 0) == (one == two)


@pytest.mark.parametrize("order", ["", "dp", "D P", "D1", "Ä"])
def test_an_order_is_letters_a_to_z(order: str) -> None:
    with pytest.raises(ValueError, match="order"):
        check_order(order)


def test_the_error_names_the_place_of_a_bad_letter() -> None:
    with pytest.raises(ValueError, match="got 'p' at place 2 of 'Dp'"):
        check_order("Dp")


def test_24_orders_of_four_stages_share_64_nodes_instead_of_196_trainings() -> None:
    trie = PrefixTrie(permutations("DPQE"))
    assert len(trie) == 64
    assert trie.unshared_trainings == 196
    assert len(set(trie)) == 64


@given(st.lists(st.text("DPQE", min_size=1, max_size=5), max_size=12))
def test_the_trie_holds_each_prefix_once_parents_first(orders: list[str]) -> None:
    trie = PrefixTrie(orders)
    nodes = ["".join(node) for node in trie]
    assert set(nodes) == {prefix for order in orders for prefix in prefixes(order)}
    assert len(nodes) == len(set(nodes)) == len(trie)
    assert all(node[:-1] in nodes[:place] for place, node in enumerate(nodes) if len(node) > 1)
    assert all(tuple(node) in trie for node in nodes)
    assert trie.unshared_trainings == sum(map(len, nodes))


def test_adding_to_the_trie_tells_what_is_new() -> None:
    trie = PrefixTrie(["DP"])
    assert trie.add("DPQ") == [("D", "P", "Q")]
    assert trie.add("DPQ") == []
    assert () not in trie


@pytest.mark.parametrize("text", ["dpq", "D->P->Q", "D → P → Q", "D, P, Q", "D>p>q"])
def test_an_order_written_otherwise_is_answered_with_how_to_write_it(text: str) -> None:
    for read in (check_order, StageSequence.parse):
        with pytest.raises(ValueError, match=r"; write DPQ"):
            read(text)


@pytest.mark.parametrize("text", ["D2", "D(depth=x", "DP!"])
def test_what_is_no_order_gets_no_such_advice(text: str) -> None:
    with pytest.raises(ValueError, match="letters A to Z") as error:
        check_order(text)
    assert "write" not in str(error.value)
