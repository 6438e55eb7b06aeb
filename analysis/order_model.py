"""The model of an order's value: a hierarchical Gaussian order-of-addition model, fitted by Gibbs sampling.

    value of order o at seed s = seed + order + (seed's taste for pairs) + (noise of shared prefixes) + noise
    order = stage scores + cyclic rest + triplets + its own part

Every part has a variance of its own with a weak prior, so that what the data do not support shrinks away and
orders that were never run are predicted. Each order has its own noise variance, moderated over the orders
(Smyth 2004): a noisy order is not judged by the quiet ones. A value at the floor says "this or less" and is
drawn as such (Tobin 1958). All conditionals are conjugate; drawing the variances, too, gives Student's tails.
The draws come from several chains with a fixed source of randomness for each table: the same table gives the
same draws, whatever else is fitted beside it.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ordercomp.sequence import Order

# What an order of stages looks like to a model: which stage comes before which, alone and in threes.


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


# Inverse covariances of the values at each seed, where seeds ran different orders.
#
# Within a table, seeds that ran the same orders share one matrix. A matrix is inverted over the orders that
# were run alone, matrices of one size together: a late seed of a race, with five of 24 orders, costs little.


BoolArray = npt.NDArray[np.bool_]


IntArray = npt.NDArray[np.int64]


class Precision:
    """Inverse covariances for tables of values, each fitted by as many chains.

    `seen`, shape (tables, seeds, orders), tells which orders were run. All other arrays have the chains of
    all tables, those of a table together, as their first axis.
    """

    def __init__(self, seen: BoolArray, chains: int) -> None:
        self._tables, self._seeds, self._orders = seen.shape
        self._chains = chains
        patterns = [np.unique(table, axis=0, return_inverse=True) for table in seen]
        most = max(len(rows) for rows, _ in patterns)
        self._places = np.zeros((self._tables, most), dtype=np.int64)  # of a table's matrices among all
        self._members = np.zeros((self._tables, most, self._seeds))  # 1 where a seed has this matrix
        by_size: dict[int, list[tuple[int, int, IntArray]]] = defaultdict(list)
        count = 0
        for table, (rows, which) in enumerate(patterns):
            for pattern, row in enumerate(rows):
                run = np.flatnonzero(row)
                by_size[len(run)].append((count, table, run))
                self._places[table, pattern] = count
                self._members[table, pattern, which.ravel() == pattern] = 1.0
                count += 1
        self._groups = [
            tuple(np.array(column) for column in zip(*group, strict=True))
            for size, group in by_size.items()
            if size
        ]
        self._inverses = np.zeros((count, chains, self._orders, self._orders))

    def update(self, covariance: FloatArray) -> None:
        """Invert anew, from covariances of shape (chains, orders, orders) that hold at every seed."""
        whole = covariance.reshape(self._tables, self._chains, self._orders, self._orders)
        chain = np.arange(self._chains)[None, :, None, None]
        for places, tables, run in self._groups:
            if run.shape[1] == self._orders:
                self._inverses[places] = np.linalg.inv(whole[tables])
                continue
            rows, columns = run[:, None, :, None], run[:, None, None, :]
            found = np.linalg.inv(whole[tables[:, None, None, None], chain, rows, columns])
            self._inverses[places[:, None, None, None], chain, rows, columns] = found

    def total(self) -> FloatArray:
        """Sum over the seeds, shape (chains, orders, orders)."""
        weights = self._members.sum(axis=2)
        summed = sum(
            weights[:, k, None, None, None] * self._inverses[self._places[:, k]]
            for k in range(weights.shape[1])
        )
        return np.reshape(summed, (-1, self._orders, self._orders))

    def solve(self, values: FloatArray) -> FloatArray:
        """Multiply what stands at each seed, shape (chains, seeds, orders), by that seed's inverse."""
        columns = values.reshape(self._tables, self._chains, self._seeds, self._orders).swapaxes(2, 3)
        solved = sum(
            (self._inverses[self._places[:, k]] @ columns) * self._members[:, None, k, None]
            for k in range(self._places.shape[1])
        )
        return np.swapaxes(solved, 2, 3).reshape(values.shape)


# Random numbers for the chains of several tables: one stream a table, so none sees its neighbours.


SOURCE = 20261126  # of all streams


class Streams:
    """One stream of random numbers for each table, all started alike.

    Every method takes and returns arrays whose first axis are the chains, those of a table together.
    """

    def __init__(self, tables: int) -> None:
        self._sources = [np.random.default_rng(SOURCE) for _ in range(tables)]

    def normal(self, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal numbers."""
        return self._filled(shape, lambda source, part: source.standard_normal(part))

    def uniform(self, shape: tuple[int, ...]) -> FloatArray:
        """Numbers from [0, 1)."""
        return self._filled(shape, lambda source, part: source.random(part))

    def chisquare(self, freedom: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Chi-square with these degrees of freedom."""
        return self._mapped(freedom, lambda source, part: source.chisquare(part))

    def gamma(self, shape: FloatArray) -> FloatArray:
        """Gamma with these shape parameters and scale 1."""
        return self._mapped(shape, lambda source, part: source.gamma(part))

    def _filled(
        self, shape: tuple[int, ...], draw: Callable[[np.random.Generator, tuple[int, ...]], FloatArray]
    ) -> FloatArray:
        part = (shape[0] // len(self._sources), *shape[1:])
        return np.concatenate([draw(source, part) for source in self._sources])

    def _mapped(
        self,
        parameters: npt.NDArray[np.floating[Any]],
        draw: Callable[[np.random.Generator, npt.NDArray[np.floating[Any]]], FloatArray],
    ) -> FloatArray:
        parts = np.split(parameters, len(self._sources))
        return np.concatenate([draw(source, part) for source, part in zip(self._sources, parts, strict=True)])


SEED_VARIANCE = 1e3  # seeds may differ as they like


FREEDOMS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 64.0])  # how alike the orders' noise variances are


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many draws are made."""

    chains: int = 8
    warm_up: int = 80
    kept: int = 100
    every: int = 1


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws of the posterior for one table."""

    orders: tuple[Order, ...]
    values: FloatArray  # shape (draws, orders), doublings; only differences between orders have a meaning
    scores: FloatArray  # shape (draws, orders): the part of stage scores
    noise: FloatArray  # shape (orders, orders): covariance of the values within a seed, posterior mean
    parts: FloatArray  # shape (4,): mean variances of scores, cycles, triplets and the order's own part


@dataclass(slots=True)
class _State:
    """Where the chains are; the first axis of everything are the chains."""

    latent: FloatArray  # (chains, seeds, orders): values, those at the floor drawn
    orders: FloatArray  # (chains, orders)
    parts: FloatArray  # (chains, 4): variances of the parts of an order
    seedwise: FloatArray  # (chains, 3): variances of seed, tastes, prefixes
    noise: FloatArray  # (chains, orders)
    level: FloatArray  # (chains,): common noise variance
    freedom: FloatArray  # (chains,)
    effects: FloatArray = field(default_factory=lambda: np.zeros(0))  # (chains, seeds, columns)
    scores: FloatArray = field(default_factory=lambda: np.zeros(0))  # (chains, orders)


def draw_values(
    tables: FloatArray,
    orders: Sequence[Order],
    stages: Order,
    *,
    floor: float | None,
    effort: Effort | None = None,
) -> list[Draws]:
    """Fit each of `tables`, shape (tables, orders, seeds), NaN where an order was not run at a seed.

    `orders` may hold orders that were never run; they are predicted. Returns the draws of each table. Raises
    ValueError if a table holds no value.
    """
    if not np.isfinite(tables).any(axis=(1, 2)).all():
        raise ValueError("tables must hold at least one value each, got one with none")
    chosen = effort or Effort()
    sampler = _Sampler(np.swapaxes(tables, 1, 2), orders, stages, floor, chosen)
    return sampler.run()


class _Sampler:
    def __init__(
        self, values: FloatArray, orders: Sequence[Order], stages: Order, floor: float | None, effort: Effort
    ) -> None:
        self.orders, self.effort = tuple(orders), effort
        self.tables = len(values)
        self.streams = Streams(self.tables)
        self.centers, self.scales = _units(values)
        scaled = (values - self.centers[:, None, None]) / self.scales[:, None, None]
        self.values = np.repeat(scaled, effort.chains, axis=0)  # (chains, seeds, orders)
        self.seen = np.isfinite(self.values)
        self.precision = Precision(np.isfinite(values), effort.chains)
        floors = np.full(self.tables, -np.inf) if floor is None else (floor - self.centers) / self.scales
        self.floor = np.repeat(floors, effort.chains)[:, None, None]
        self.censored = self.seen & (self.values <= self.floor + 1e-9)
        parts = parts_of(self.orders, stages)
        self.features = (parts.scores, parts.cycles, parts.triplets, np.eye(len(self.orders)))
        self.kernels = parts.kernels
        columns = [np.ones((len(self.orders), 1)), pair_signs(self.orders, stages)]
        columns[1] = columns[1] / np.sqrt(columns[1].shape[1])
        columns.append(shared_prefixes(self.orders))
        self.design = np.concatenate(columns, axis=1)
        self.groups = np.repeat(np.arange(3), [part.shape[1] for part in columns])
        self.prior_part, self.prior_noise = _prior_scales(self.values, self.censored)

    def run(self) -> list[Draws]:
        state = self._start()
        kept_values, kept_scores = [], []
        parts = np.zeros_like(state.parts)
        noise = np.zeros((len(self.values), len(self.orders), len(self.orders)))
        for sweep in range(self.effort.warm_up + self.effort.kept * self.effort.every):
            self._sweep(state)
            if sweep >= self.effort.warm_up and (sweep - self.effort.warm_up) % self.effort.every == 0:
                kept_values.append(self._expected(state))
                kept_scores.append(state.scores)
                noise += self._within_seed(state) / self.effort.kept
                parts += state.parts / self.effort.kept
        values, scores = (self._by_table(np.stack(kept, axis=1)) for kept in (kept_values, kept_scores))
        covariances, variances = (
            kept.reshape(self.tables, self.effort.chains, *kept.shape[1:]).mean(axis=1)
            for kept in (noise, parts)
        )
        return [
            Draws(
                self.orders,
                values[place] * scale,
                scores[place] * scale,
                covariances[place] * scale**2,
                variances[place] * scale**2,
            )
            for place, scale in enumerate(self.scales)
        ]

    def _by_table(self, kept: FloatArray) -> FloatArray:
        """Merge the chains of a table: from (chains, kept, orders) to (tables, draws, orders)."""
        return kept.reshape(self.tables, -1, kept.shape[-1])

    def _start(self) -> _State:
        chains, _, orders = self.values.shape
        latent = np.where(self.seen, self.values, 0.0)
        latent = np.where(self.censored, np.where(np.isfinite(self.floor), self.floor, 0.0) - 0.1, latent)
        spread = np.exp(0.7 * self.streams.normal((chains, 4)))
        return _State(
            latent=latent,
            orders=np.zeros((chains, orders)),
            parts=spread * self.prior_part[:, None],
            seedwise=np.tile([SEED_VARIANCE, 0.1, 0.1], (chains, 1)) * self.prior_noise[:, None],
            noise=np.repeat(self.prior_noise[:, None], orders, axis=1),
            level=self.prior_noise.copy(),
            freedom=np.full(chains, 4.0),
        )

    def _sweep(self, state: _State) -> None:
        inverse = self._draw_orders(state)
        self._draw_parts(state, inverse)
        errors = self._draw_seedwise(state)
        self._draw_noise(state, errors)
        self._draw_latent(state)

    def _within_seed(self, state: _State) -> FloatArray:
        """Covariance of the values at a seed without the seed itself."""
        weights = state.seedwise[:, self.groups].copy()
        weights[:, self.groups == 0] = 0.0
        covariance: FloatArray = np.einsum("ok,ck,pk->cop", self.design, weights, self.design, optimize=True)
        covariance[:, range(len(self.orders)), range(len(self.orders))] += state.noise
        return covariance

    def _draw_orders(self, state: _State) -> FloatArray:
        """Draw the orders' parts as one, with all that differs by seed integrated out."""
        self.precision.update(self._within_seed(state) + state.seedwise[:, 0][:, None, None])
        kernel = np.einsum("ck,kop->cop", state.parts, self.kernels, optimize=True)
        inverse = np.linalg.inv(kernel)
        total = inverse + self.precision.total()
        pull = self.precision.solve(np.where(self.seen, state.latent, 0.0)).sum(axis=1)
        root = np.linalg.cholesky(total)
        mean = np.linalg.solve(total, pull[..., None])[..., 0]
        normal = self.streams.normal(mean.shape)
        state.orders = mean + np.linalg.solve(np.swapaxes(root, 1, 2), normal[..., None])[..., 0]
        return inverse

    def _draw_parts(self, state: _State, inverse: FloatArray) -> None:
        """Split the orders into their parts (Matheron's rule), then draw the parts' variances."""
        fresh = [
            np.sqrt(state.parts[:, place, None]) * self.streams.normal((len(state.parts), feature.shape[1]))
            for place, feature in enumerate(self.features)
        ]
        total = sum(draw @ feature.T for draw, feature in zip(fresh, self.features, strict=True))
        gap = np.einsum("cop,cp->co", inverse, state.orders - total)
        for place, (draw, feature) in enumerate(zip(fresh, self.features, strict=True)):
            weights = draw + state.parts[:, place, None] * (gap @ feature)
            if place == 0:
                state.scores = weights @ feature.T
            squares = (weights**2).sum(axis=1)
            state.parts[:, place] = self._variance(
                1.0, self.prior_part * 0.1, squares, np.full(len(squares), feature.shape[1])
            )

    def _draw_seedwise(self, state: _State) -> FloatArray:
        """Draw what differs by seed; return the errors that are left, 0 where nothing was run."""
        chains, seeds, orders = state.latent.shape
        spread = np.sqrt(state.seedwise[:, self.groups])[:, None, :]
        fresh = spread * self.streams.normal((chains, seeds, len(self.groups)))
        own = np.sqrt(state.noise)[:, None] * self.streams.normal((chains, seeds, orders))
        rest = state.latent - state.orders[:, None]
        gap = np.where(self.seen, rest - fresh @ self.design.T - own, 0.0)
        solved = self.precision.solve(gap)
        state.effects = fresh + spread**2 * (solved @ self.design)
        for group in (1, 2):
            columns = self.groups == group
            squares = (state.effects[..., columns] ** 2).sum(axis=(1, 2))
            count = np.full(chains, seeds * int(columns.sum()))
            state.seedwise[:, group] = self._variance(1.0, self.prior_noise * 0.1, squares, count)
        return np.where(self.seen, rest - state.effects @ self.design.T, 0.0)

    def _draw_noise(self, state: _State, errors: FloatArray) -> None:
        """Draw each order's noise variance, their common level, and how alike they are."""
        squares, counts = (errors**2).sum(axis=1), self.seen.sum(axis=1)
        freedom, level = state.freedom[:, None], state.level[:, None]
        state.noise = np.maximum(
            (freedom * level + squares) / self.streams.chisquare(freedom + counts), 1e-6
        )  # constant values have no noise that could be drawn
        inverse = (1 / state.noise).sum(axis=1)
        shape = 0.5 * state.freedom * len(self.orders) + 0.5
        state.level = self.streams.gamma(shape) / (0.5 * state.freedom * inverse + 0.5 / self.prior_noise)
        half = FREEDOMS / 2
        log = len(self.orders) * (
            half * np.log(half) - special.gammaln(half) + half * np.log(state.level)[:, None]
        )
        log = log - half * (
            np.log(state.noise).sum(axis=1)[:, None] + state.level[:, None] * inverse[:, None]
        )
        chance = np.exp(log - log.max(axis=1, keepdims=True))
        chance = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)
        picked = (self.streams.uniform((len(chance), 1)) > chance[:, :-1]).sum(axis=1)
        state.freedom = FREEDOMS[picked]

    def _draw_latent(self, state: _State) -> None:
        """Draw the values at the floor from what lies below it."""
        if not self.censored.any():
            return
        mean = state.orders[:, None] + state.effects @ self.design.T
        spread = np.broadcast_to(np.sqrt(state.noise)[:, None], mean.shape)
        limit = np.broadcast_to(self.floor, mean.shape)
        chosen = self.censored
        top = special.ndtr((limit[chosen] - mean[chosen]) / spread[chosen])
        quantile = np.maximum(top, 1e-300) * self.streams.uniform(mean.shape)[chosen]
        drawn = mean[chosen] + spread[chosen] * special.ndtri(np.maximum(quantile, 1e-300))
        state.latent[chosen] = np.minimum(drawn, limit[chosen])

    def _expected(self, state: _State) -> FloatArray:
        """Value of each order at an average seed; nothing lies below the floor, however low it is drawn."""
        level = state.orders + state.effects[..., 0].mean(axis=1)[:, None]
        touched = self.censored.reshape(len(level), -1).any(axis=1, keepdims=True)
        return np.where(touched, np.maximum(level, self.floor[:, 0]), state.orders)

    def _variance(
        self, freedom: float, prior: FloatArray, squares: FloatArray, count: npt.NDArray[np.int64]
    ) -> FloatArray:
        """Draw from the scaled inverse chi-square that a weak prior and a sum of squares give."""
        drawn: FloatArray = (freedom * prior + squares) / self.streams.chisquare(freedom + count)
        return drawn


def _units(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Center and scale of each table, shape (tables, seeds, orders): the standard deviation within seeds."""
    centers = np.nanmean(values, axis=(1, 2))
    inside = values - np.nanmean(values, axis=2, keepdims=True)
    scales = np.sqrt(np.nanmean(inside**2, axis=(1, 2)))
    return centers, np.where(scales > 1e-9, scales, 1.0)


def _prior_scales(values: FloatArray, censored: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Rough variances of the orders and of the noise around them: where the weak priors stand."""
    known = np.where(censored, np.nan, values)
    with np.errstate(invalid="ignore"):
        inside = known - _mean(known, 2)
        noise = _mean((inside - _mean(inside, 1)) ** 2, (1, 2))[:, 0, 0]
    noise = np.where(np.isfinite(noise) & (noise > 1e-4), noise, 1e-2)
    return np.ones(len(values)), noise


def _mean(values: FloatArray, axes: int | tuple[int, ...]) -> FloatArray:
    """Mean over what is there, NaN without a warning where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axes, keepdims=True)
    total = np.where(there, values, 0.0).sum(axis=axes, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
