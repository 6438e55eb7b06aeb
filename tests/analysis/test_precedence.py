"""Precedence graphs, checked against brute force over all permutations."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordercomp.analysis.precedence import (
    acyclic_by_chance,
    find_cycle,
    free_pairs,
    intransitive_triples,
    kemeny_order,
    linear_extensions,
    minimum_feedback_arcs,
    precedence_graph,
)
from ordercomp.sequence import permutations

STAGES = "DPQE"
PAIRS = list(itertools.combinations(STAGES, 2))
weights = st.dictionaries(st.sampled_from(PAIRS), st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3))


def graph_of(signed: dict[tuple[str, str], float]):  # type: ignore[no-untyped-def]
    edges = {(a, b) if value > 0 else (b, a): abs(value) for (a, b), value in signed.items()}
    return precedence_graph(STAGES, edges)


def test_a_chain_has_one_extension() -> None:
    graph = graph_of({("D", "P"): 1, ("P", "Q"): 1, ("Q", "E"): 1})
    assert linear_extensions(graph, STAGES) == ["DPQE"]
    assert free_pairs(graph, STAGES) == []
    assert find_cycle(graph) is None


def test_a_free_pair_leaves_two_orders() -> None:
    graph = graph_of({("D", "P"): 1, ("D", "Q"): 1, ("P", "E"): 1, ("Q", "E"): 1})
    assert linear_extensions(graph, STAGES) == ["DPQE", "DQPE"]
    assert free_pairs(graph, STAGES) == [("P", "Q")]


def test_no_edges_leave_all_orders() -> None:
    graph = precedence_graph(STAGES, {})
    assert linear_extensions(graph, STAGES) == permutations(STAGES)
    assert acyclic_by_chance(graph) == 1


def test_a_cycle_names_its_members_and_the_cheapest_edge() -> None:
    graph = graph_of({("P", "Q"): 0.9, ("Q", "E"): 0.6, ("P", "E"): -0.8, ("D", "P"): 0.9})
    assert find_cycle(graph) == ["E", "P", "Q", "E"]
    assert linear_extensions(graph, STAGES) == []
    assert minimum_feedback_arcs(graph, STAGES) == [("Q", "E")]


def test_an_edge_in_both_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="both D -> P and P -> D"):
        precedence_graph(STAGES, {("D", "P"): 1, ("P", "D"): 1})


def test_an_edge_to_a_stranger_is_refused() -> None:
    with pytest.raises(ValueError, match="two of the stages DPQE, got D -> X"):
        precedence_graph(STAGES, {("D", "X"): 1})


@given(weights)
def test_extensions_are_the_permutations_that_respect_every_edge(
    signed: dict[tuple[str, str], float],
) -> None:
    graph = graph_of(signed)
    expected = [o for o in permutations(STAGES) if all(o.index(a) < o.index(b) for a, b in graph.edges)]
    assert linear_extensions(graph, STAGES) == expected


@given(weights)
def test_feedback_arcs_are_as_cheap_as_brute_force_finds(signed: dict[tuple[str, str], float]) -> None:
    graph = graph_of(signed)
    arcs = minimum_feedback_arcs(graph, STAGES)
    cheapest = min(
        sum(w for a, b, w in graph.edges(data="weight") if o.index(a) > o.index(b))
        for o in permutations(STAGES)
    )
    assert sum(graph.edges[arc]["weight"] for arc in arcs) == pytest.approx(cheapest)
    graph.remove_edges_from(arcs)
    assert find_cycle(graph) is None


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_kemeny_is_as_good_as_brute_force(values: list[float]) -> None:
    probability = dict(zip(PAIRS, values, strict=True))

    def violated(order: str) -> float:
        return sum(1 - p if order.index(a) < order.index(b) else p for (a, b), p in probability.items())

    best = min(map(violated, permutations(STAGES)))
    assert violated(kemeny_order(STAGES, probability)) == pytest.approx(best)


def test_kemeny_without_a_preference_keeps_the_order_given() -> None:
    assert kemeny_order("QED", {}) == "QED"


def test_more_than_ten_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="stages must be at most 10 for an exact answer, got 11"):
        kemeny_order("ABCDEFGHIJK", {})


@given(st.sets(st.sampled_from(PAIRS)))
def test_acyclic_by_chance_counts_orientations(joined: set[tuple[str, str]]) -> None:
    pairs = sorted(joined)
    acyclic = 0
    for flips in itertools.product((False, True), repeat=len(pairs)):
        edges = {(b, a) if flip else (a, b): 1.0 for (a, b), flip in zip(pairs, flips, strict=True)}
        acyclic += find_cycle(precedence_graph(STAGES, edges)) is None
    graph = precedence_graph(STAGES, dict.fromkeys(pairs, 1.0))
    assert acyclic_by_chance(graph) == pytest.approx(acyclic / 2 ** len(pairs))


def test_a_tournament_of_four_is_acyclic_in_24_of_64_cases() -> None:
    assert acyclic_by_chance(precedence_graph(STAGES, dict.fromkeys(PAIRS, 1.0))) == 24 / 64


def test_an_intransitive_triple_is_named_once_with_its_weakest_link() -> None:
    found = intransitive_triples("DPQ", {("D", "P"): 0.9, ("P", "Q"): 0.7, ("D", "Q"): 0.4})
    assert found == [("D", "P", "Q", pytest.approx(0.6))]
    assert intransitive_triples("DPQ", {("D", "P"): 0.9, ("P", "Q"): 0.7, ("D", "Q"): 0.6}) == []
