"""Precedence: the graph of decided pairs, its orders, its cycles, and what luck would make of it.

Node = stage letter, edge a -> b = "a before b", edge weight = how sure that is.
"""

import itertools
import math
from collections.abc import Mapping
from typing import TypeAlias

import networkx as nx
import numpy as np
import numpy.typing as npt

from ordercomp.sequence import Order

Precedence: TypeAlias = nx.DiGraph
Pair = tuple[str, str]
EXACT_STAGES = 10  # Held-Karp over subsets: 10 stages take 2^10 * 10 steps
MOST_EXTENSIONS = 5040  # 7!


def precedence_graph(stages: Order, edges: Mapping[Pair, float]) -> Precedence:
    """Make the graph with an edge `first -> second` of the given weight for each decided pair.

    Raises ValueError for an edge that names an unknown stage or is there in both directions.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(stages)
    for (first, second), weight in edges.items():
        if first not in stages or second not in stages or first == second:
            raise ValueError(f"edges must join two of the stages {stages}, got {first} -> {second}")
        if (second, first) in edges:
            raise ValueError(f"edges hold both {first} -> {second} and {second} -> {first}")
        graph.add_edge(first, second, weight=float(weight))
    return graph


def find_cycle(graph: Precedence) -> list[str] | None:
    """Return a shortest cycle with its first stage repeated at the end, or None. Ties: alphabetical."""
    cycles = [_rotated(cycle) for cycle in nx.simple_cycles(graph)]
    if not cycles:
        return None
    shortest = min(cycles, key=lambda cycle: (len(cycle), cycle))
    return [*shortest, shortest[0]]


def linear_extensions(graph: Precedence, stages: Order) -> list[Order]:
    """List the orders that respect every edge, in the order of `stages`; none if there is a cycle.

    At most 5040 (7!) are listed.
    """
    if not nx.is_directed_acyclic_graph(graph):
        return []
    ordered = nx.DiGraph()
    ordered.add_nodes_from(stages)
    ordered.add_edges_from(graph.edges)
    sorts = itertools.islice(nx.all_topological_sorts(ordered), MOST_EXTENSIONS)
    return sorted(("".join(order) for order in sorts), key=lambda order: [stages.index(s) for s in order])


def free_pairs(graph: Precedence, stages: Order) -> list[Pair]:
    """List the pairs that no chain of edges orders: what keeps the law from being unique."""
    closure = nx.transitive_closure(graph)
    return [
        (a, b)
        for a, b in itertools.combinations(stages, 2)
        if not closure.has_edge(a, b) and not closure.has_edge(b, a)
    ]


def minimum_feedback_arcs(graph: Precedence, stages: Order) -> list[Pair]:
    """Return the cheapest edges, by weight, whose removal leaves no cycle. ValueError beyond 10 stages."""
    weights = np.zeros((len(stages), len(stages)))
    for first, second, weight in graph.edges(data="weight"):
        weights[stages.index(first), stages.index(second)] = weight
    order = _cheapest_order(weights, stages)
    return [(a, b) for a, b in sorted(graph.edges) if order.index(a) > order.index(b)]


def kemeny_order(stages: Order, probability: Mapping[Pair, float]) -> Order:
    """Return the order that violates the least pairwise support (Kemeny 1959). Exact, at most 10 stages.

    `probability` maps (a, b) to the probability that a comes before b; (b, a) follows. Pairs left out count
    one half. Of several best orders the one is taken that comes first in the order of `stages`.
    """
    weights = np.full((len(stages), len(stages)), 0.5)
    for (first, second), value in probability.items():
        i, j = stages.index(first), stages.index(second)
        weights[i, j], weights[j, i] = value, 1 - value
    return _cheapest_order(weights, stages)


def intransitive_triples(
    stages: Order, probability: Mapping[Pair, float]
) -> list[tuple[str, str, str, float]]:
    """List the triples a, b, c that break weak transitivity: a before b and b before c are each likelier than
    not, yet c before a is too. The number is the smallest of the three probabilities. Each triple once.
    """

    def likely(a: str, b: str) -> float:
        return probability[a, b] if (a, b) in probability else 1 - probability[b, a]

    triples = [abc for abc in itertools.permutations(stages, 3) if abc[0] == min(abc)]
    strengths = [min(likely(a, b), likely(b, c), likely(c, a)) for a, b, c in triples]
    return [(*abc, strength) for abc, strength in zip(triples, strengths, strict=True) if strength > 0.5]


def acyclic_by_chance(graph: Precedence) -> float:
    """Return the share of all directions of the decided pairs without a cycle: 24/64 for 4 stages all joined.

    Counts the acyclic orientations by Stanley's (1973) recursion over independent sets; at most 10 stages.
    """
    nodes = list(graph.nodes)
    _check_size(len(nodes))
    neighbors = [
        sum(1 << j for j, b in enumerate(nodes) if graph.has_edge(a, b) or graph.has_edge(b, a))
        for a in nodes
    ]
    independent = [
        all(not neighbors[i] & subset for i in range(len(nodes)) if subset >> i & 1)
        for subset in range(1 << len(nodes))
    ]
    count = [1] + [0] * ((1 << len(nodes)) - 1)
    for subset in range(1, 1 << len(nodes)):
        part = subset
        while part:
            if independent[part]:
                count[subset] += (-1) ** (part.bit_count() + 1) * count[subset ^ part]
            part = (part - 1) & subset
    return float(count[-1] / 2 ** graph.number_of_edges())


def _cheapest_order(weights: npt.NDArray[np.float64], stages: Order) -> Order:
    """Minimize the weight that points backwards, by dynamic programming over the sets placed last."""
    size = len(stages)
    _check_size(size)
    best: list[tuple[float, tuple[int, ...]]] = [(math.inf, ())] * (1 << size)
    best[0] = (0.0, ())
    for placed in range(1, 1 << size):
        inside = [i for i in range(size) if placed >> i & 1]
        for head in inside:
            cost, tail = best[placed ^ (1 << head)]
            cost += sum(weights[later, head] for later in inside if later != head)
            if cost < best[placed][0] - 1e-12:  # heads come in the order of `stages`, so ties keep the first
                best[placed] = (cost, (head, *tail))
    return "".join(stages[i] for i in best[-1][1])


def _check_size(size: int) -> None:
    if size > EXACT_STAGES:
        raise ValueError(f"stages must be at most {EXACT_STAGES} for an exact answer, got {size}")


def _rotated(cycle: list[str]) -> list[str]:
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]
