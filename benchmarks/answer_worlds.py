"""Worlds with a known best chain, for benchmarks of the answer: what the model assumes, and what it does not.

A world has true values and draws seeds around them. Those called after a data set are fitted to its recorded
runs: the means of its chains, and seeds that deviate from them as the recorded ones do, in chance mixtures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from ordercomp.analysis.order_model import parts_of
from ordercomp.analysis.race import starting_orders
from ordercomp.analysis.values import chain_values, networks_of, order_values, settings_of
from ordercomp.jobs.recordings import load_recorded
from ordercomp.sequence import Order, permutations, subsets

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator], FloatArray]

LETTERS = "DPQELSUW"
LEVEL = 8.0  # doublings, about which values lie


@dataclass(slots=True)
class World:
    """True values of chains, and how a seed is drawn."""

    stages: Order
    orders: tuple[Order, ...]
    seed: Draw
    floor: float | None = None
    values: FloatArray | None = field(default=None)  # expected ones; None: found by drawing

    def truth(self) -> FloatArray:
        """Values to be expected, shape (orders,)."""
        if self.values is None:
            rng = np.random.default_rng(7)
            self.values = np.mean([self.seed(rng) for _ in range(4000)], axis=0)
        return self.values

    def only(self, rows: Sequence[int]) -> "World":
        """The same world as far as these chains go."""
        orders = tuple(self.orders[row] for row in rows)
        return World(
            self.stages, orders, lambda rng: self.seed(rng)[list(rows)], self.floor, self.truth()[list(rows)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Worlds whose parts have these standard deviations; half of the noise is shared along prefixes."""

    stages: Order = LETTERS[:4]
    chains: bool = False  # of any length, else orders of all stages
    fraction: bool = False  # of the orders those alone that a race starts with at its first two seeds
    scores: float = 1.0
    cycles: float = 0.0
    triplets: float = 0.0
    own: float = 0.0
    places: float = 0.0  # a gain for each stage at each place
    noise: float = 0.7
    wild: float = 1.0  # times the noise of orders in which the last stage comes first or second
    noisy_best: float = 1.0  # times the noise of the best order
    tails: float = np.inf  # degrees of freedom of the noise
    odd: float = 0.0  # by which one order at random is better than all others
    interaction: float = 0.0  # of seeds with scores and triplets
    reversed: float = 0.0  # chance that a seed turns all differences round
    diverged: float = 0.0  # chance that the networks of a prefix diverge: all orders behind it are worth 0
    level: float = LEVEL
    floor: float | None = None
    ceiling: float | None = None

    def __call__(self, rng: np.random.Generator) -> World:
        orders, parts, shared = _chains_and_parts(self.stages, self.chains, self.fraction)
        value = self._values(orders, parts, rng)
        noise = np.full(len(orders), self.noise)
        noise[[self.stages[-1] in order[:2] for order in orders]] *= self.wild
        noise[value.argmax()] *= self.noisy_best

        def seed(rng: np.random.Generator) -> FloatArray:
            alone = rng.standard_normal(len(orders))
            if np.isfinite(self.tails):
                alone /= np.sqrt(rng.chisquare(self.tails, len(orders)) / self.tails)
            inherited = np.append(rng.standard_normal(shared.max(initial=-1) + 1), 0.0)[shared].sum(axis=1)
            spread = (inherited + alone) / np.sqrt(2)
            around = 2 * value.mean() - value if rng.random() < self.reversed else value
            for name, part in parts.items() if self.interaction else ():
                if name in ("scores", "triplets"):
                    size = self.interaction * (1.0 if name == "scores" else 0.5)
                    around = around + size * (part @ rng.standard_normal(part.shape[1]))
            drawn = self.level + around + rng.standard_normal() + noise * spread
            if self.diverged:
                fails = np.append(rng.random(shared.max(initial=-1) + 1) < self.diverged, False)
                drawn = np.where(fails[shared].any(axis=1), 0.0, drawn)
            drawn = drawn if self.floor is None else np.maximum(drawn, self.floor)
            return drawn if self.ceiling is None else np.minimum(drawn, self.ceiling)

        bent = self.diverged or self.floor is not None or self.ceiling is not None
        expected = (1 - 2 * self.reversed) * (value - value.mean()) + value.mean() + self.level
        return World(self.stages, orders, seed, self.floor, None if bent else expected)

    def _values(
        self, orders: tuple[Order, ...], parts: Mapping[str, FloatArray], rng: np.random.Generator
    ) -> FloatArray:
        value = self.own * rng.standard_normal(len(orders))
        sizes = {"scores": self.scores, "cycles": self.cycles, "triplets": self.triplets}
        if self.chains:
            sizes |= {"stages": 2.0, "pairs": 0.5}
        for name, size in sizes.items():
            if size:
                value = value + size * (parts[name] @ rng.standard_normal(parts[name].shape[1]))
        if self.places:
            gains = self.places * rng.standard_normal((len(self.stages), len(self.stages)))
            value = value + [sum(gains[k, self.stages.index(x)] for k, x in enumerate(o)) for o in orders]
        if self.odd:
            value[rng.integers(len(orders))] = value.max() + self.odd
        return np.asarray(value)


@cache
def _chains_and_parts(
    stages: Order, chains: bool, fraction: bool
) -> tuple[tuple[Order, ...], dict[str, FloatArray], npt.NDArray[np.int64]]:
    """Chains, columns of the model's parts, and the prefixes of each, the same for all worlds drawn."""
    orders = chains_of(stages) if chains else tuple(permutations(stages))
    if fraction:
        started = (order for block in range(2) for order in starting_orders(stages, block))
        orders = tuple(dict.fromkeys(started))
    return orders, parts_of(orders, stages), prefixes_of(orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cliffs:
    """Each order reaches the loss with a chance of its own and is then worth something, else nothing."""

    stages: Order = LETTERS[:4]
    shared: float = 0.0  # deviation of a seed's difficulty, the same for all orders

    def __call__(self, rng: np.random.Generator) -> World:
        orders = tuple(permutations(self.stages))
        scores = parts_of(orders, self.stages)["scores"]
        width = scores.shape[1]
        ease = scores @ rng.standard_normal(width) + 0.5 * rng.standard_normal(len(orders)) + 0.3
        worth = LEVEL + 0.6 * (scores @ rng.standard_normal(width)) + 0.3 * rng.standard_normal(len(orders))

        def seed(rng: np.random.Generator) -> FloatArray:
            reached = ease + self.shared * rng.standard_normal() + rng.standard_normal(len(orders)) > 0
            drawn = np.maximum(worth + 0.4 * rng.standard_normal(len(orders)), 0.0)
            return np.where(reached, drawn, 0.0)

        chance = special.ndtr(ease / np.sqrt(1 + self.shared**2))
        return World(self.stages, orders, seed, 0.0, chance * worth)


def tied(rng: np.random.Generator) -> World:
    """The orders with the last stage last are the best, all alike; each step forward costs it a doubling."""
    stages = LETTERS[:4]
    orders = tuple(permutations(stages))
    value = np.array([float(order.index(stages[-1])) for order in orders])

    def seed(rng: np.random.Generator) -> FloatArray:
        return value + rng.standard_normal() + 0.5 * rng.standard_normal(len(orders))

    return World(stages, orders, seed, None, value)


def fitted(
    name: str, loss: float, *, hard: bool = False, chains: bool = False
) -> Callable[[np.random.Generator], World]:
    """The world of a recorded data set: at the front over its knob settings, or at its hardest one alone."""
    stages = LETTERS[:4]
    networks = networks_of(load_recorded(name), stages)
    settings = settings_of(networks)
    if hard:
        settings = (min(settings, key=lambda setting: setting.steps[2]),)  # fewest bits of Q
    table = (chain_values if chains else order_values)(networks, stages, loss=loss, settings=settings)
    mean = table.values.mean(axis=1)
    around = (table.values - mean[:, None]) / np.sqrt(table.values.shape[1] - 1)

    def seed(rng: np.random.Generator) -> FloatArray:
        return np.maximum(mean + around @ rng.standard_normal(around.shape[1]), 0.0)

    world = World(stages, table.orders, seed, 0.0)
    return lambda rng: world


def chains_of(stages: Order) -> tuple[Order, ...]:
    """All chains of distinct stages, short ones first."""
    return tuple(chain for subset in subsets(stages) for chain in permutations(subset))


def prefixes_of(orders: tuple[Order, ...]) -> npt.NDArray[np.int64]:
    """The prefixes that an order could share with others, as numbers, shape (orders, lengths).

    -1 stands for none.
    """
    lengths = range(1, max(map(len, orders)) - 1)
    starts = sorted({order[:length] for order in orders for length in lengths if len(order) >= length})
    place = {start: number for number, start in enumerate(starts)}
    rows = [[place[o[:k]] if len(o) >= k else -1 for k in lengths] for o in orders]
    return np.array(rows, dtype=np.int64).reshape(len(orders), len(lengths))


WORLDS: Mapping[str, Callable[[], Callable[[np.random.Generator], World]]] = {
    "no effect": lambda: Planted(scores=0.0),
    "no effect, little noise": lambda: Planted(scores=0.0, noise=0.2),
    "six orders tie": lambda: tied,
    "scores": lambda: Planted(),
    "cyclic": lambda: Planted(scores=0.3, cycles=0.8),
    "triplets": lambda: Planted(scores=0.5, triplets=0.8),
    "quirks": lambda: Planted(scores=0.7, own=0.9),
    "places": lambda: Planted(scores=0.0, places=0.5),
    "one odd order": lambda: Planted(odd=0.7),
    "noise of t, 2 df": lambda: Planted(tails=2.0),
    "noise of t, 3 df": lambda: Planted(tails=3.0),
    "one stage varies 5x": lambda: Planted(wild=5.0, noise=0.4),
    "the best varies 3x": lambda: Planted(noisy_best=3.0),
    "seed x order": lambda: Planted(interaction=0.5),
    "a quarter reversed": lambda: Planted(reversed=0.25),
    "a prefix may diverge": lambda: Planted(diverged=0.02, floor=0.0),
    "half at the floor": lambda: Planted(scores=2.0, level=0.0, floor=0.0),
    "ceiling": lambda: Planted(ceiling=9.0),
    "cliffs": lambda: Cliffs(),
    "cliffs, shared": lambda: Cliffs(shared=1.0),
    "3 stages": lambda: Planted(stages=LETTERS[:3]),
    "5 stages": lambda: Planted(stages=LETTERS[:5]),
    "6 stages, some orders": lambda: Planted(stages=LETTERS[:6], fraction=True),
    "8 stages, some orders": lambda: Planted(stages=LETTERS[:8], fraction=True),
    "chains": lambda: Planted(chains=True),
    "chains at the floor": lambda: Planted(chains=True, level=0.0, floor=0.0),
    "digits, 2 %": lambda: fitted("digits", 0.02),
    "digits, 5 %": lambda: fitted("digits", 0.05),
    "digits, hard, 5 %": lambda: fitted("digits", 0.05, hard=True),
    "cifar10, chains, 1 %": lambda: fitted("cifar10", 0.01, chains=True),
    "digits, chains, 2 %": lambda: fitted("digits", 0.02, chains=True),
}
