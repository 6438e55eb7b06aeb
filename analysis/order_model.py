"""The model of a chain's value, fitted by Gibbs sampling.

A chain is a sequence of distinct stages, of any length; its value at a seed is what its networks reach there.

    value of chain c at seed s = seed + chain + noise of the chain
    chain = stages present + pairs present + stage scores + cyclic rest + triplets + its own part

Every part has a variance of its own with a weak prior, so that what the data do not support shrinks away and
chains that were never run are predicted. A *hint*, what a cheaper copy of the task says of each chain, joins
as a part whose weight is learned; the other parts are then what the copy has wrong, with a prior from
recorded copies. A chain's own part has a variance of its own as well (a scale mixture of normals with the
tails of Student's t): one odd chain among well-behaved neighbors is believed. Each chain has its noise
variance, moderated over the chains (Smyth 2004), so that a noisy one is not judged by the quiet ones, and
single values may stray (again a scale mixture).

Where a network either keeps to the tolerated loss or is worth nothing, a value has two parts: the chance of
reaching the loss, a probit model of the same parts with a difficulty of each seed (Albert and Chib 1993),
times the value if it is reached. All conditionals are conjugate; drawing the variances gives Student's tails.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

TRIPLETS_UP_TO = 6  # stages; beyond, triplets are hundreds of columns, which no table can tell apart
PARTS = ("stages", "pairs", "scores", "cycles", "triplets")
HINT = "hint"  # the part of what a cheaper copy says
STRAYS, STRAYS_FREEDOM = 0.6, 4.0  # doublings by which chains are off a hint of known slope, over all parts
OWN_TAILS = 0.5  # degrees of freedom of the chains' own parts: a single odd chain must be believed
NOISE_TAILS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 64.0])  # how alike the chains' noise variances are
MOST_VARIANCE = 25.0  # of a part or of seeds, in units of the squared spread of values
PRIOR_OWN = 0.002  # small: own parts are there because some need them
STRAY_TAILS = np.array([2.0, 4.0, 8.0, 32.0, 256.0])  # of a single value's noise
_PRIOR_VALUE, _PRIOR_REACHED = (
    0.1,
    0.3,
)  # scales of the variances' weak priors, in units of the spread; probit


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many draws are made."""

    chains: int = 4  # independent runs of the sampler
    burn_in: int = 60
    draws: int = 150  # of each run, after the burn-in


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws of the posterior for one table."""

    orders: tuple[Order, ...]
    values: FloatArray  # shape (runs, draws, orders), doublings
    scores: FloatArray  # shape (runs, draws, orders): the part of stage scores, centered
    noise: FloatArray  # shape (orders,): variance of a value within a seed, posterior mean
    variances: dict[str, float]  # of the parts by name and of the chains' "own", posterior mean

    @property
    def pooled(self) -> FloatArray:
        """Values of all runs, shape (runs · draws, orders)."""
        return self.values.reshape(-1, self.values.shape[-1])

    @property
    def expected(self) -> dict[Order, float]:
        """The posterior mean of each chain's value."""
        return dict(zip(self.orders, map(float, self.pooled.mean(axis=0)), strict=True))


def pair_signs(orders: Sequence[Order], stages: Order) -> FloatArray:
    """1 where the first of a pair comes before the second, -1 after, 0 without both; (orders, pairs)."""
    pairs = list(itertools.combinations(stages, 2))
    return np.array([[_sign(order, first, second) for first, second in pairs] for order in orders])


def parts_of(orders: Sequence[Order], stages: Order) -> dict[str, FloatArray]:
    """The columns of each part, shape (orders, width), for chains of distinct letters of `stages`.

    Columns are centered and scaled to a mean squared row length of 1; a part in which the chains do not
    differ has no column, such as the stages present in chains of all stages.
    """
    pairs = list(itertools.combinations(range(len(stages)), 2))
    present = np.array([[float(stage in order) for stage in stages] for order in orders])
    signs = pair_signs(orders, stages).reshape(len(orders), len(pairs))
    gains = np.zeros((len(pairs), len(stages)))  # stage scores to pair effects: s_i - s_j
    for row, (first, second) in enumerate(pairs):
        gains[row, first], gains[row, second] = 1.0, -1.0
    basis, sizes, _ = np.linalg.svd(gains, full_matrices=True)
    rank = int((sizes > 1e-9).sum())
    place = {pair: row for row, pair in enumerate(pairs)}
    threes = range(len(stages)) if len(stages) <= TRIPLETS_UP_TO else ()
    products = [
        signs[:, place[pair]] * signs[:, place[other]]
        for a, b, c in itertools.combinations(threes, 3)
        for pair, other in (((a, b), (b, c)), ((a, b), (a, c)), ((a, c), (b, c)))
    ]
    both = [present[:, first] * present[:, second] for first, second in pairs]
    columns = (
        present,
        _stacked(both, len(orders)),
        signs @ basis[:, :rank],
        signs @ basis[:, rank:],
        _stacked(products, len(orders)),
    )
    return dict(zip(PARTS, map(_scaled, columns), strict=True))


def draw_values(
    values: FloatArray,
    orders: Sequence[Order],
    stages: Order,
    *,
    floor: float | None,
    hint: FloatArray | None = None,
    slope: float = 0.0,
    effort: Effort | None = None,
) -> Draws:
    """Fit a table of `values`, shape (orders, seeds), NaN where an order was not run at a seed.

    `orders` may hold orders that were never run; they are predicted. `floor` is the value of a network that
    does not reach the loss, `hint`, shape (orders,), what is expected of each order up to a shift and a
    factor, NaN where nothing is; the factor is guessed to be `slope`, and learned. The same table gives the
    same draws. Raises ValueError if it holds no value.
    """
    return draw_tables(values[None], orders, stages, floor=floor, hint=hint, slope=slope, effort=effort)[0]


def draw_tables(
    tables: FloatArray,
    orders: Sequence[Order],
    stages: Order,
    *,
    floor: float | None,
    hint: FloatArray | None = None,
    slope: float = 0.0,
    effort: Effort | None = None,
) -> list[Draws]:
    """Fit several tables at once, shape (tables, orders, seeds), as `draw_values` fits one."""
    if not np.isfinite(tables).any(axis=(1, 2)).all():
        raise ValueError("tables must hold at least one value each, got one with none")
    columns, expected = parts_of(orders, stages), np.zeros(len(orders))
    if hint is not None:
        hinted = np.isfinite(hint)
        column = np.where(hinted, hint, np.mean(hint, where=hinted) if hinted.any() else 0.0)
        columns[HINT] = _scaled(column.reshape(len(orders), 1))
        expected = slope * (column - column.mean())
    return _Sampler(tables, tuple(orders), columns, floor, expected, effort or Effort()).run()


def draws_of(tables: Sequence[ValueTable], effort: Effort | None = None) -> list[Draws]:
    """Fit tables of the same chains, number of seeds, floor and hint at once, as `draw_values` fits one."""
    first, values = tables[0], np.stack([table.values for table in tables])
    return draw_tables(
        values,
        first.orders,
        first.stages,
        floor=first.floor,
        hint=first.hint,
        slope=first.slope,
        effort=effort,
    )


class _Effects:
    """Draws of seeds and chains in y = seed + columns · weights + own part + noise of known precision.

    The first axis of everything is the runs of the sampler, of all tables.
    """

    def __init__(
        self,
        runs: int,
        seeds: int,
        parts: Sequence[FloatArray],
        prior: FloatArray | float,
        rng: np.random.Generator,
        freedom: float = 1.0,
    ) -> None:
        orders = len(parts[0])
        self.columns = np.concatenate(parts, axis=1)
        self.part = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        self.prior, self.freedom, self.rng = prior, freedom, rng  # of each part's variance
        self.variances = 0.5 * np.exp(0.7 * rng.standard_normal((runs, len(parts))))
        self.own_variance = np.full(runs, 0.3)
        self.stretch = np.ones((runs, orders))  # of each chain's own variance
        self.weights = np.zeros((runs, self.columns.shape[1]))
        self.chains = np.zeros((runs, orders))
        self.seeds = np.zeros((runs, seeds))

    def draw_seeds(self, values: FloatArray, precision: FloatArray) -> None:
        """Draw what a seed has in common, of weak prior; `precision` is 0 where `values` are unknown."""
        total = precision.sum(axis=1) + 1.0 / MOST_VARIANCE
        mean = (precision * (values - self.chains[:, :, None])).sum(axis=1) / total
        self.seeds = mean + self.rng.standard_normal(mean.shape) / np.sqrt(total)

    def draw_chains(self, values: FloatArray, precision: FloatArray) -> None:
        """Draw the chains' parts, the own ones integrated out of the draw of the others."""
        information = precision.sum(axis=2)
        pull = (precision * (values - self.seeds[:, None])).sum(axis=2)
        mean = pull / np.where(information > 0, information, 1.0)
        prior = self.own_variance[:, None] * self.stretch
        inverse = information / (1.0 + information * prior)  # of the variance of a mean around the columns
        columns = self.columns
        if columns.shape[1]:
            total = (columns.T[None] * inverse[:, None]) @ columns
            places = np.arange(columns.shape[1])
            total[:, places, places] += 1.0 / self.variances[:, self.part]
            root = np.linalg.cholesky(total)
            half = np.linalg.solve(root, ((inverse * mean) @ columns)[..., None])
            half += self.rng.standard_normal(half.shape)
            self.weights = np.linalg.solve(np.swapaxes(root, 1, 2), half)[..., 0]
        fitted = self.weights @ columns.T
        certainty = information + 1.0 / prior
        own = (pull - information * fitted) / certainty
        own += self.rng.standard_normal(own.shape) / np.sqrt(certainty)
        self.chains = fitted + own
        self._draw_variances(own, information > 0)

    def _draw_variances(self, own: FloatArray, seen: BoolArray) -> None:
        for part in range(self.variances.shape[1]):
            squares = self.weights[:, self.part == part] ** 2
            drawn = draw_variance(self.freedom, self.prior, squares.sum(axis=1), squares.shape[1], self.rng)
            self.variances[:, part] = np.minimum(drawn, MOST_VARIANCE)
        stretch = draw_variance(OWN_TAILS, 1.0, own**2 / self.own_variance[:, None], 1, self.rng)
        stretch = np.minimum(stretch, MOST_VARIANCE / self.own_variance[:, None])
        self.stretch = np.where(seen, stretch, 1.0)  # what was never measured is not odd
        squares = np.where(seen, own**2 / self.stretch, 0.0).sum(axis=1)  # nor tells of the others
        drawn = draw_variance(1.0, PRIOR_OWN, squares, seen.sum(axis=1), self.rng)
        self.own_variance = np.minimum(drawn, MOST_VARIANCE)


class _Sampler:
    """The chain values of several tables, each with its runs."""

    def __init__(
        self,
        tables: FloatArray,
        orders: tuple[Order, ...],
        columns: dict[str, FloatArray],
        floor: float | None,
        expected: FloatArray,
        effort: Effort,
    ) -> None:
        self.orders, self.effort, self.tables, self.expected = orders, effort, len(tables), expected
        self.rng = np.random.default_rng(0)
        ran = np.isfinite(tables)
        missed = ran & (tables <= floor + 1e-9) if floor is not None else np.zeros_like(ran)
        self.floor = 0.0 if floor is None else floor
        tables = tables - expected[:, None]  # the model tells how values differ from what was expected
        self.centers, self.scales = _units(np.where(missed, np.nan, tables))
        scaled = (tables - self.centers[:, None, None]) / self.scales[:, None, None]
        repeat = effort.chains
        self.reached = np.repeat(ran & ~missed, repeat, axis=0)
        self.values = np.where(self.reached, np.repeat(scaled, repeat, axis=0), 0.0)
        self.missed, self.ran = (np.repeat(mask, repeat, axis=0) for mask in (missed, ran))
        self.two_parts: BoolArray = np.asarray(self.missed.any(axis=(1, 2)))
        self.names = [name for name in columns if columns[name].shape[1]]
        parts = [columns[name] for name in self.names] or [np.zeros((len(orders), 0))]
        runs, seeds = len(self.values), tables.shape[2]
        prior, freedom = np.full(runs, _PRIOR_VALUE), 1.0
        if expected.any():
            prior = np.repeat(STRAYS**2 / len(parts) / self.scales**2, repeat)
            freedom = STRAYS_FREEDOM
        self.value = _Effects(runs, seeds, parts, prior, self.rng, freedom)
        self.reaching = _Effects(runs, seeds, parts, _PRIOR_REACHED, self.rng)
        self.usual, self.unlike = np.zeros(runs), np.ones(runs)  # mean and variance of the seeds' ease
        self.prior_noise = np.repeat(_rough_noise(scaled, ran & ~missed), repeat)
        self.noise = np.repeat(self.prior_noise[:, None], len(orders), axis=1)
        self.strays, self.stray_tails = np.ones(self.values.shape), np.full(runs, 8.0)
        self.level, self.tails = self.prior_noise.copy(), np.full(runs, 4.0)

    def run(self) -> list[Draws]:
        values, scores = [], []
        noise, variances = np.zeros_like(self.noise), 0.0 * self._variances()
        draws = self.effort.draws
        for sweep in range(self.effort.burn_in + draws):
            self._sweep()
            if sweep >= self.effort.burn_in:
                values.append(self._expected())
                scores.append(self._scores())
                noise = noise + self.noise / draws
                variances = variances + self._variances() / draws
        scales = self.scales[:, None]
        drawn, by_score = (self._by_table(np.stack(sweeps, axis=1)) for sweeps in (values, scores))
        noise, variances = (
            self._by_table(np.asarray(total)).mean(axis=1) * scales**2 for total in (noise, variances)
        )
        names = [*(self.names or [PARTS[0]]), "own"]
        return [
            Draws(
                self.orders,
                drawn[table],
                by_score[table] * self.scales[table],
                noise[table],
                dict(zip(names, map(float, variances[table]), strict=True)),
            )
            for table in range(self.tables)
        ]

    def _variances(self) -> FloatArray:
        return np.column_stack([self.value.variances, self.value.own_variance])

    def _by_table(self, runs: FloatArray) -> FloatArray:
        """From (runs of all tables, ...) to (tables, runs, ...)."""
        return runs.reshape(self.tables, self.effort.chains, *runs.shape[1:])

    def _sweep(self) -> None:
        precision = np.where(self.reached, 1.0 / (self.noise[:, :, None] * self.strays), 0.0)
        self.value.draw_seeds(self.values, precision)
        self.value.draw_chains(self.values, precision)
        self._draw_noise()
        if self.two_parts.any():
            self._draw_reaching()

    def _draw_noise(self) -> None:
        """Draw each chain's noise variance, their common level, and how alike they are."""
        errors = self.values - self.value.chains[:, :, None] - self.value.seeds[:, None]
        ratios = errors**2 / self.noise[:, :, None]
        self.strays = draw_variance(self.stray_tails[:, None, None], 1.0, ratios, 1, self.rng)
        strays = np.where(self.reached, self.strays, 1.0).reshape(len(errors), -1)
        self.stray_tails = draw_tails(STRAY_TAILS, strays, np.ones(len(strays)), self.rng)
        squares = np.where(self.reached, errors**2 / self.strays, 0.0).sum(axis=2)
        tails, level = self.tails[:, None], self.level[:, None]
        drawn = draw_variance(tails, level, squares, self.reached.sum(axis=2), self.rng)
        self.noise = np.maximum(drawn, 1e-6)  # constant values have no noise that could be drawn
        inverse = (1.0 / self.noise).sum(axis=1)
        shape = 0.5 * self.tails * len(self.orders) + 0.5
        self.level = self.rng.gamma(shape) / (0.5 * self.tails * inverse + 0.5 / self.prior_noise)
        self.tails = draw_tails(NOISE_TAILS, self.noise, self.level, self.rng)

    def _draw_reaching(self) -> None:
        """Draw the latent ease of reaching the loss, and what it is made of."""
        effects, rng = self.reaching, self.rng
        mean = effects.chains[:, :, None] + effects.seeds[:, None]
        below = special.ndtr(-mean)
        uniform = rng.random(mean.shape)
        share = np.where(self.missed, below * uniform, below + (1.0 - below) * uniform)
        ease = mean + special.ndtri(np.clip(share, 1e-12, 1 - 1e-12))
        precision = self.ran.astype(float)
        certainty = self.ran.sum(axis=1) + 1.0 / self.unlike[:, None]
        pull = np.where(self.ran, ease - effects.chains[:, :, None], 0.0).sum(axis=1)
        centers = (pull + (self.usual / self.unlike)[:, None]) / certainty
        effects.seeds = centers + rng.standard_normal(centers.shape) / np.sqrt(certainty)
        seeds = effects.seeds.shape[1]
        spread = np.sqrt(self.unlike / seeds)
        self.usual = effects.seeds.mean(axis=1) + spread * rng.standard_normal(len(spread))
        squares = ((effects.seeds - self.usual[:, None]) ** 2).sum(axis=1)
        self.unlike = draw_variance(1.0, _PRIOR_REACHED, squares, seeds, rng)
        effects.draw_chains(ease, precision)

    def _expected(self) -> FloatArray:
        """Expected value of each chain at a new seed of average level, shape (runs of all tables, chains)."""
        repeat = self.effort.chains
        level = self.value.chains + self.value.seeds.mean(axis=1)[:, None]
        values: FloatArray = level * np.repeat(self.scales, repeat)[:, None] + self.expected
        values += np.repeat(self.centers, repeat)[:, None]
        if not self.two_parts.any():
            return values
        ease = (self.usual[:, None] + self.reaching.chains) / np.sqrt(1.0 + self.unlike)[:, None]
        reached = self.floor + special.ndtr(ease) * np.maximum(values - self.floor, 0.0)
        expected: FloatArray = np.where(self.two_parts[:, None], reached, values)
        return expected

    def _scores(self) -> FloatArray:
        if "scores" not in self.names:
            return np.zeros_like(self.value.chains)
        mask = self.value.part == self.names.index("scores")
        by_score: FloatArray = self.value.weights[:, mask] @ self.value.columns[:, mask].T
        return by_score


def draw_variance(
    freedom: FloatArray | float,
    prior: FloatArray | float,
    squares: FloatArray,
    count: npt.NDArray[np.int64] | int,
    rng: np.random.Generator,
) -> FloatArray:
    """Draw from the scaled inverse chi-square that a prior of some degrees of freedom and squares give."""
    drawn: FloatArray = (freedom * prior + squares) / rng.chisquare(freedom + count, squares.shape)
    return drawn


def draw_tails(
    grid: FloatArray, variances: FloatArray, level: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw the degrees of freedom, from a grid, of scaled inverse chi-square `variances` around `level`.

    `variances` has shape (runs, n), `level` and the result (runs,).
    """
    half, count = grid / 2, variances.shape[1]
    log = count * (half * np.log(half) - special.gammaln(half) + half * np.log(level)[:, None])
    log -= half * (np.log(variances).sum(axis=1) + level * (1.0 / variances).sum(axis=1))[:, None]
    chance = np.exp(log - log.max(axis=1, keepdims=True))
    chance = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)
    picked = (rng.random((len(chance), 1)) > chance[:, :-1]).sum(axis=1)
    tails: FloatArray = grid[picked]
    return tails


def _sign(order: Order, first: str, second: str) -> float:
    if first not in order or second not in order:
        return 0.0
    return 1.0 if order.index(first) < order.index(second) else -1.0


def _stacked(columns: Sequence[FloatArray], rows: int) -> FloatArray:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))


def _scaled(part: FloatArray) -> FloatArray:
    centered = part - part.mean(axis=0)
    size = float((centered**2).sum(axis=1).mean()) if centered.size else 0.0
    return centered / np.sqrt(size) if size > 1e-12 else np.zeros((len(part), 0))


def _units(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Center and scale of each table, shape (tables, orders, seeds): the standard deviation within seeds."""
    centers = _mean(values, (1, 2))
    scales = np.sqrt(_mean((values - _mean(values, 1)) ** 2, (1, 2)))[:, 0, 0]
    return np.nan_to_num(centers[:, 0, 0]), np.where(scales > 1e-9, scales, 1.0)


def _rough_noise(values: FloatArray, reached: BoolArray) -> FloatArray:
    """A rough variance within chains and seeds of each table: where the weak prior of the noise stands."""
    inside = np.where(reached, values, np.nan)
    inside = inside - _mean(inside, 2)
    noise = _mean((inside - _mean(inside, 1)) ** 2, (1, 2))[:, 0, 0]
    noise *= values.shape[2] / max(values.shape[2] - 1, 1)
    return np.where(noise > 1e-4, noise, 1e-2)


def _mean(values: FloatArray, axes: int | tuple[int, ...]) -> FloatArray:
    """Mean over what is there, NaN without a warning where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axes, keepdims=True)
    total = np.where(there, values, 0.0).sum(axis=axes, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
