"""Orders of compression stages: permutations, neighbors, distances, and the trie of shared prefixes.

An order is a string of stage letters, `"DPQE"`: hashable, sortable, and what JSON and people write.
"""

import itertools
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Order = str
Item = TypeVar("Item", bound=Hashable)


def check_order(order: Order) -> Order:
    """Return `order` if it is a non-empty string of letters A to Z; raise ValueError otherwise."""
    if not order:
        raise ValueError("an order needs at least one stage letter, got an empty one")
    for place, letter in enumerate(order):
        if not ("A" <= letter <= "Z"):
            raise ValueError(
                f"order must consist of letters A to Z, got {letter!r} at place {place + 1} of {order!r}"
            )
    return order


def permutations(stages: Order) -> list[Order]:
    """List all n! orders that use each of the n stages once, in the order of the letters given."""
    _check_distinct(stages)
    return ["".join(letters) for letters in itertools.permutations(stages)]


def subsets(stages: Order, *, smallest: int = 1) -> list[Order]:
    """List the subsets of `stages` with at least `smallest` (1 or more) members, small ones first."""
    _check_distinct(stages)
    if smallest < 1:
        raise ValueError(f"smallest must be at least 1, as no order is empty, got {smallest}")
    sizes = range(smallest, len(stages) + 1)
    return ["".join(chosen) for size in sizes for chosen in itertools.combinations(stages, size)]


def prefixes(order: Order) -> list[Order]:
    """List the non-empty prefixes of `order`, from its first stage to the whole."""
    return [order[:length] for length in range(1, len(order) + 1)]


def kendall_distance(one: Order, other: Order) -> int:
    """Count the pairs of stages that the two orders arrange differently, from 0 to n(n-1)/2.

    Both must hold the same distinct stages (ValueError). Distance as in Kendall (1938).
    """
    _check_distinct(one)
    if sorted(one) != sorted(other):
        raise ValueError(f"orders must hold the same stages, got {one!r} and {other!r}")
    return sum(other.index(a) > other.index(b) for a, b in itertools.combinations(one, 2))


class PrefixTrie(Generic[Item]):
    """The distinct prefixes of many sequences: what has to be trained if prefixes are shared.

    `len()` counts the nodes without the root, so the 24 permutations of four stages have 64.
    Iteration goes depth first, parents before children, in the order of insertion.
    """

    def __init__(self, sequences: Iterable[Iterable[Item]] = ()) -> None:
        self._nodes: dict[tuple[Item, ...], None] = {}
        for sequence in sequences:
            self.add(sequence)

    def add(self, sequence: Iterable[Item]) -> list[tuple[Item, ...]]:
        """Add all prefixes of `sequence` and return those that are new, shortest first."""
        whole = tuple(sequence)
        every = [whole[:length] for length in range(1, len(whole) + 1)]
        new = [prefix for prefix in every if prefix not in self._nodes]
        self._nodes.update(dict.fromkeys(new))
        return new

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[tuple[Item, ...]]:
        return iter(self._nodes)

    def __contains__(self, prefix: tuple[Item, ...]) -> bool:
        return prefix in self._nodes

    @property
    def unshared_trainings(self) -> int:
        """Stage trainings needed to get every node if each starts from the baseline: 196 for 24 orders."""
        return sum(len(node) for node in self._nodes)


def _check_distinct(stages: Order) -> None:
    check_order(stages)
    if len(set(stages)) != len(stages):
        raise ValueError(f"stages must be distinct letters, got {stages!r}")
