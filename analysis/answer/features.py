"""What an order of stages looks like to a model: which stage comes before which, alone and in threes.

An order-of-addition experiment: the pair-wise ordering model of Van Nostrand (1995), split into stage scores
and what no score can say (cycles), and the triplets of Mee (2020). Each part is a matrix with one row per
order whose rows have mean square 1 over the orders, so that a variance says how far a part moves an order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an order's value, each of shape (orders, width); a part may have no column."""

    scores: FloatArray
    cycles: FloatArray
    triplets: FloatArray

    @property
    def kernels(self) -> FloatArray:
        """Covariance of each part at variance 1, the order's own part last: shape (4, orders, orders)."""
        own = np.eye(len(self.scores))
        return np.stack([part @ part.T for part in (self.scores, self.cycles, self.triplets)] + [own])


def pair_signs(orders: Sequence[Order], stages: Order) -> FloatArray:
    """1 where the first stage of a pair comes before the second, else -1; shape (orders, pairs)."""
    places = np.array([[order.index(stage) for stage in stages] for order in orders])
    pairs = np.array(list(itertools.combinations(range(len(stages)), 2)))
    return np.where(places[:, pairs[:, 0]] < places[:, pairs[:, 1]], 1.0, -1.0)


def parts_of(orders: Sequence[Order], stages: Order) -> Parts:
    """The parts for `orders`, each a permutation of `stages`."""
    signs = pair_signs(orders, stages)
    pairs = list(itertools.combinations(range(len(stages)), 2))
    gains = np.zeros((len(pairs), len(stages)))  # stage scores to pair effects: s_i - s_j
    for row, (first, second) in enumerate(pairs):
        gains[row, first], gains[row, second] = 1.0, -1.0
    basis, sizes, _ = np.linalg.svd(gains, full_matrices=True)
    rank = int((sizes > 1e-9).sum())
    place = {pair: row for row, pair in enumerate(pairs)}
    products = [
        signs[:, place[one]] * signs[:, place[other]]
        for a, b, c in itertools.combinations(range(len(stages)), 3)
        for one, other in (((a, b), (b, c)), ((a, b), (a, c)), ((a, c), (b, c)))
    ]
    triplets = np.stack(products, axis=1) if products else np.zeros((len(orders), 0))
    return Parts(_scaled(signs @ basis[:, :rank]), _scaled(signs @ basis[:, rank:]), _scaled(triplets))


def shared_prefixes(orders: Sequence[Order]) -> FloatArray:
    """1 where an order starts with a prefix that other orders could share: shape (orders, prefixes)."""
    longest = len(orders[0]) - 2
    starts = sorted({order[:length] for order in orders for length in range(1, longest + 1)})
    if not starts:
        return np.zeros((len(orders), 0))
    return np.array([[float(order.startswith(start)) for start in starts] for order in orders])


def _scaled(part: FloatArray) -> FloatArray:
    """Center the columns and bring the mean square length of a row to 1."""
    centered = part - part.mean(axis=0)
    size = float((centered**2).sum(axis=1).mean()) if centered.size else 0.0
    return centered / np.sqrt(size) if size > 1e-12 else np.zeros((len(part), 0))
