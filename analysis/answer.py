"""The answer: which stages in which order at a tolerated loss, what that may cost, and what is out.

Every recorded chain competes, those of all stages and shorter ones. Everything is read off draws of the model
of a chain's value (`order_model`):

- *Best set*: multiple comparisons with the best (Hsu 1984), by the posterior. A chain is excluded where a
  band around its differences to all others has one of them ahead, then by a narrower one around those to the
  chains that are left, and so on (step-down, as Romano and Wolf 2005), so that no hopeless chain widens it.
- *Recommended*: the chain with the least expected regret; its regret is how far it lies behind the best
  chain, whichever that is, in doublings.
- *Worth* of a stage: how far the best chain without it lies behind the best of all.
- *Precedence*: the pairs that stand the same way round in every chain of the best set that holds both.
- *All stages*: the same, of the same draws, for the orders of all stages alone.

Nothing is recommended from a single seed, which cannot tell noise from a difference, nor where no chain loses
so little at most of the seeds, as then the network is best left alone. From two seeds bounds are wide, and no
pair is decided.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from ordercomp.analysis.hints import Hints, strayed
from ordercomp.analysis.order_model import Draws, Effort, draws_of
from ordercomp.analysis.pairs import Evidence, pair_evidence
from ordercomp.analysis.posterior import Posterior, posterior_of
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import ValueTable, chain_values, holds_latency, recounted
from ordercomp.codec import FLAT, OMITTED, named
from ordercomp.records import Convention, CostName, Record, metric_of
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")

BAND = 0.05  # error of the band: the chance of leaving out a chain that is as good as any
BOUND = 0.99  # quantile of the posterior that bounds a regret with 95 % in benchmarks/answer_calibration.py
LEAST_SEEDS = 2
FEW_BAND, FEW_BOUND = 0.01, 0.998  # the same from two seeds, which seldom tell noise from a difference
FEW_SPREAD = 1.5  # of draws about their means from two seeds, as the noise is hardly known then
LEAST_REACHED = 0.5  # share of the seeds at which some chain must reach the loss
BRIEF = Effort(burn_in=50, draws=75)  # for losses and settings beside those that were asked about
COSTS: tuple[CostName, ...] = ("bitops", "storage", "macs")  # that all records tell
LATENCY: CostName = "latency"  # that some do
POOR_RHAT, POOR_DRAWS = 1.1, 50.0  # beyond, the sampler of the posterior has not settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """How far a chain lies behind the best one, in doublings of the reduction."""

    expected: float
    upper95: float  # not exceeded with probability 0.95
    random_order: float  # expected regret of an order at random, of those that reach the loss at some seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One chain against the best one."""

    value: float  # doublings, by the model
    behind: float  # expected, in doublings
    interval: tuple[float, float]  # of `behind`; the lower end is 0 exactly for the chains of the best set
    probability_best: float
    seeds: int  # at which it was run


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """How far behind something lies, in doublings, with its interval."""

    behind: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMatters:
    """Whether orders of all stages differ at all."""

    p: float  # of "the order does not matter"
    spread: float  # best minus worst order, doublings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorts:
    """The topological sorts of a law beside the answer."""

    number: int  # those that are listed
    in_best_set: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerAt:
    """The answer at one tolerated loss."""

    KEYS: ClassVar = (
        *("rung", "loss", "recommended", "best_set", "regret", "probability_best", "excluded", "precedence"),
        *("order_matters", "stage_scores_explain", "seeds_needed", "at_floor", "worth", "pairs"),
        *("rhat", "effective_draws", "orders", "all_stages"),
    )

    setting: str | None = field(default=None, metadata={**OMITTED, **named("rung")})  # alone; None: all
    loss: float | None  # a fraction; None for values that came from elsewhere
    recommended: Order | None = None  # None: nothing can be told
    best_set: tuple[Order, ...] = ()  # most probable first
    regret: Regret | None = None
    standings: Mapping[Order, Standing] = field(  # best first; empty where nothing can be told
        default_factory=dict, metadata=named("orders")
    )
    precedence: tuple[tuple[str, str], ...] = ()
    order_matters: OrderMatters | None = None
    scores_explain: float | None = field(  # share of the differences between orders that stage scores explain
        default=None, metadata=named("stage_scores_explain")
    )
    seeds_needed: int | None = None  # of every order, where there are too few
    at_floor: float | None = field(default=None, metadata=OMITTED)  # share of the values
    worth: Mapping[str, Behind] = field(default_factory=dict, metadata=OMITTED)  # what lacking a stage costs
    pairs: tuple[Evidence, ...] = field(default=(), metadata=OMITTED)
    rhat: float | None = field(default=None, metadata=OMITTED)  # of the recommended chain's regret
    effective_draws: float | None = field(default=None, metadata=OMITTED)
    all_stages: "AnswerAt | None" = field(default=None, metadata=OMITTED)  # orders of all stages alone

    @property
    def probability_best(self) -> dict[Order, float]:
        """The probability of each chain to be the best."""
        return {order: standing.probability_best for order, standing in self.standings.items()}

    @property
    def excluded(self) -> dict[Order, Behind]:
        """The chains outside of the best set, the nearest first."""
        return {
            order: Behind(behind=standing.behind, interval=standing.interval)
            for order, standing in self.standings.items()
            if order not in self.best_set
        }

    @property
    def decided(self) -> tuple[tuple[str, str, float], ...]:
        """The pairs whose order in the best chain is decided: first, second and the probability."""
        return tuple(pair.edge for pair in self.pairs if pair.decided)

    @property
    def sorts(self) -> dict[Order, int]:
        """The orders of all stages that keep every decided pair, with their rank among all orders that ran.

        These are the topological sorts of the decided pairs; none where they contradict each other.
        """
        ranked = list((self.all_stages or self).standings)
        return {
            order: place + 1
            for place, order in enumerate(ranked)
            if all(order.find(first) < order.find(second) for first, second, _ in self.decided)
        }

    @property
    def unsettled(self) -> bool:
        """Whether the draws are too few, or their runs too far apart, to be trusted to the digits told."""
        return (self.rhat or 1.0) > POOR_RHAT or (self.effective_draws or POOR_DRAWS) < POOR_DRAWS


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAnswer:
    """The answer by another cost, in brief."""

    recommended: Order | None
    best_set: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer at the loss that was asked for, at other losses, and for each knob setting alone."""

    asked: AnswerAt = field(metadata=FLAT)
    by_loss: tuple[AnswerAt, ...] = ()
    by_setting: tuple[AnswerAt, ...] = field(default=(), metadata=named("by_rung"))
    metric: str = field(default="accuracy", metadata=OMITTED)  # of which some is lost
    cost: str = field(default="bitops", metadata=OMITTED)  # what a reduction is of; "score" for a table's own
    by_cost: Mapping[str, CostAnswer] = field(default_factory=dict, metadata=OMITTED)  # by the other costs
    topological_sorts: Sorts | None = field(default=None, metadata=OMITTED)  # None: there is no law beside
    withheld: str = field(default="", metadata=OMITTED)  # why nothing is recommended, if not for few seeds
    baseline: float | None = field(
        default=None, metadata=OMITTED
    )  # figure of the networks left alone, on test
    guessing: float | None = field(default=None, metadata=OMITTED)  # what guessing gets, if that is known
    batches: str = field(default="", metadata=OMITTED)  # which records were left out, or pooled over hardware
    prior: tuple[str, ...] = field(default=(), metadata=OMITTED)  # recorded tasks that were a hint

    @property
    def recommended(self) -> Order | None:
        """The chain to take; None where nothing can be told."""
        return self.asked.recommended

    @property
    def best_set(self) -> tuple[Order, ...]:
        """The chains that cannot be told from the best, most probable first."""
        return self.asked.best_set


def rounded(value: T) -> T:
    """Return an answer, or a part of one, with the digits that are told."""
    return _rounded(value)  # type: ignore[no-any-return]


def derive_answer(
    records: Iterable[Record],
    *,
    stages: Order,
    loss: float = 0.02,
    cost: CostName = "bitops",
    convention: Convention = "paper",
    hints: Hints | None = None,
    effort: Effort | None = None,
) -> Answer:
    """Answer from records, see `answer_from`.

    Raises ValueError for a loss outside of (0, 1], stages that are no distinct letters, and a cost convention
    that the records do not hold.
    """
    posterior = posterior_of(
        records, stages=stages, loss=loss, cost=cost, convention=convention, hints=hints, effort=effort
    )
    return answer_from(posterior, cost=cost, convention=convention, effort=effort)


def answer_from(
    posterior: Posterior,
    *,
    cost: CostName = "bitops",
    convention: Convention = "paper",
    effort: Effort | None = None,
) -> Answer:
    """Answer at the loss of a posterior and at those told beside it, over all knob settings and for each.

    At its loss the other costs than its own, `cost`, are answered, too, in brief. Chains that were run at
    fewer seeds than others are compared by the model, not by their raw means. Where most chains would gain
    from further epochs alone, nothing is recommended. With `effort` left out, other losses, settings and
    costs than the asked ones get fewer draws.
    """
    table, stages, short = posterior.table, posterior.table.stages, posterior.short
    networks, settings, loss = posterior.networks, table.settings, table.loss or 0.0
    asked = _silent(table)
    if asked is None and posterior.draws is not None:
        asked = read_answer(table, posterior.draws, short=short)
    asked = asked or AnswerAt(loss=loss)
    answer = Answer(asked=asked, metric=metric_of(posterior.runs.records.values()), cost=cost)
    if short and 2 * len(short) > len(table.orders):
        share = f"{len(short)} of {len(table.orders)}"
        withheld = f"{share} chains gain from further epochs alone: train for longer"
        silent = tuple(AnswerAt(loss=at.loss) for at in posterior.by_loss)
        return replace(answer, asked=AnswerAt(loss=loss), by_loss=silent, withheld=withheld)
    costs = (*COSTS, *((LATENCY,) if holds_latency(posterior.runs.records.values()) else ()))
    others = [other for other in costs if other != cost and asked.recommended]
    tables = {
        "loss": [at for at in posterior.by_loss if at.loss != loss],
        "setting": [
            chain_values(networks, stages, loss=loss, settings=[setting])
            for setting in settings
            if len(settings) > 1
        ],
        "cost": [
            chain_values(
                recounted(networks, posterior.runs, cost=other, convention=convention),
                stages,
                loss=loss,
                settings=settings,
            )
            for other in others
        ],
    }
    flat = list(itertools.chain.from_iterable(tables.values()))
    answers = iter(answers_of(flat, effort=effort or BRIEF, short=short))
    by_loss, by_setting, by_cost = (list(itertools.islice(answers, len(group))) for group in tables.values())
    at_loss = {at.loss: at for at in (*by_loss, asked)}
    return replace(
        answer,
        by_loss=tuple(at_loss[at.loss] for at in posterior.by_loss),
        by_setting=tuple(
            replace(at, setting=str(setting)) for at, setting in zip(by_setting, settings, strict=False)
        ),
        by_cost={
            other: CostAnswer(recommended=at.recommended, best_set=at.best_set)
            for other, at in zip(others, by_cost, strict=True)
        },
    )


def answer_of(
    table: ValueTable, *, effort: Effort | None = None, short: Set[Order] = frozenset()
) -> AnswerAt:
    """Answer from a table of values, larger being better.

    `short` are chains that further epochs alone would raise, see `pair_evidence`.
    """
    return answers_of([table], effort=effort, short=short)[0]


def answers_of(
    tables: Sequence[ValueTable], *, effort: Effort | None = None, short: Set[Order] = frozenset()
) -> list[AnswerAt]:
    """Answer from each of several tables, as `answer_of` does; those of the same chains are drawn at once."""
    answers = [_silent(table) for table in tables]
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, (table, answer) in enumerate(zip(tables, answers, strict=True)):
        if answer is None:
            missed = table.floor is not None and bool((table.values <= table.floor + 1e-9).any())
            apart = -1 if table.hint is None else place  # each with what a copy says at its own loss
            alike[table.orders, len(table.seeds), table.floor, missed, apart].append(place)
    for places in alike.values():
        drawn = draws_of([tables[place] for place in places], effort)
        for place, draws in zip(places, drawn, strict=True):
            answers[place] = read_answer(tables[place], draws, short=short)
    return [answer for answer in answers if answer is not None]


def guessed_answer(copy: Draws | None, loss: float) -> AnswerAt:
    """The answer for a task of which nothing is trained yet, by draws of the values on its copy alone.

    Its regret is that on the task, where `loss` is tolerated. Nothing is recommended without draws.
    """
    if copy is None:
        return AnswerAt(loss=loss)
    orders, values = copy.orders, strayed(copy.pooled)
    behind = values.max(axis=1, keepdims=True) - values
    pick = int(copy.pooled.mean(axis=0).argmax())
    return AnswerAt(
        loss=loss,
        recommended=orders[pick],
        best_set=_best_set(orders, chances_of_best(values), lower_bounds(values, BAND)),
        regret=Regret(
            expected=float(behind[:, pick].mean()),
            upper95=float(np.quantile(behind[:, pick], BOUND)),
            random_order=float(behind.mean()),
        ),
    )


def _silent(table: ValueTable) -> AnswerAt | None:
    """The answer of a table that tells too little for one; None where it tells enough."""
    if _seeds(table) < LEAST_SEEDS:
        return AnswerAt(loss=table.loss, seeds_needed=LEAST_SEEDS)
    if not _is_reached(table.values, table.floor):
        return AnswerAt(loss=table.loss, at_floor=_share_at_floor(table.values, table.floor))
    return None


def read_answer(table: ValueTable, draws: Draws, *, short: Set[Order] = frozenset()) -> AnswerAt:
    """The answer that draws of the values of a table give, with that for the orders of all stages inside."""
    values, full = draws.pooled, list(table.whole)
    answer = _answer_of_rows(table, draws, list(range(len(table.orders))))
    answer = replace(answer, pairs=pair_evidence(table, values, short=short))
    blind = [k for k in full or range(len(table.orders)) if _ever_reached(table, k)]
    behind = values.max(axis=1, keepdims=True) - values
    assert answer.regret is not None
    if blind:
        answer = replace(answer, regret=replace(answer.regret, random_order=float(behind[:, blind].mean())))
    if len(full) < 2:
        return answer
    scores, p = _shares(draws, full), order_matters(table.values[full], draws.noise[full])
    means = values[:, full].mean(axis=0)
    matters = None if p is None else OrderMatters(p=p, spread=float(means.max() - means.min()))
    inside = None
    if len(full) < len(table.orders):
        inside = AnswerAt(loss=table.loss, at_floor=_share_at_floor(table.values[full], table.floor))
        if _is_reached(table.values[full], table.floor):
            inside = replace(_answer_of_rows(table, draws, full), worth={})
    return replace(answer, order_matters=matters, scores_explain=scores, all_stages=inside)


def _answer_of_rows(table: ValueTable, draws: Draws, rows: Sequence[int]) -> AnswerAt:
    """The answer for some rows of a table."""
    orders, values = [table.orders[row] for row in rows], draws.pooled[:, rows]
    if _seeds(table) < RULES.least_seeds:
        values = values.mean(axis=0) + FEW_SPREAD * (values - values.mean(axis=0))
    behind = values.max(axis=1, keepdims=True) - values
    seeds = table.seeds_of
    few = np.array([min(seeds[order], _seeds(table)) < RULES.least_seeds for order in orders])
    least = lower_bounds(values, np.where(few, FEW_BAND, BAND))
    chances, means = chances_of_best(values), values.mean(axis=0)
    bounds = np.where(few, *(np.quantile(behind, bound, axis=0) for bound in (FEW_BOUND, BOUND)))
    upper = np.maximum(bounds, behind.mean(axis=0))
    standings = {
        orders[k]: Standing(
            value=float(means[k]),
            behind=float(behind[:, k].mean()),
            interval=(float(least[k]), float(upper[k])),
            probability_best=float(chances[k]),
            seeds=seeds[orders[k]],
        )
        for k in np.argsort(-means, kind="stable")
    }
    ran = np.array([seeds[order] > 0 for order in orders])
    pick = int(np.argmax(np.where(ran, means, -np.inf)))  # what a copy alone speaks for is no network yet
    best_set = _best_set(orders, chances, least)
    rhat, effective = mixing(behind[:, pick].reshape(draws.values.shape[:2]))
    return AnswerAt(
        loss=table.loss,
        recommended=orders[pick],
        best_set=best_set,
        regret=Regret(
            expected=float(behind[:, pick].mean()),
            upper95=float(upper[pick]),
            random_order=float(behind.mean()),
        ),
        standings=standings,
        precedence=precedence_of(best_set, table.stages),
        at_floor=_share_at_floor(table.values[rows], table.floor),
        worth=stage_worth(values, orders, table.stages),
        rhat=rhat,
        effective_draws=effective,
    )


def _best_set(orders: Sequence[Order], chances: FloatArray, least: FloatArray) -> tuple[Order, ...]:
    """The orders that need not lie behind, most probable first."""
    return tuple(orders[k] for k in np.argsort(-chances, kind="stable") if least[k] == 0)


def chances_of_best(values: FloatArray) -> FloatArray:
    """Share of the draws, shape (draws, orders), in which each order is the best; ties share."""
    best = values >= values.max(axis=1, keepdims=True) - 1e-9
    chances: FloatArray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return chances


def lower_bounds(values: FloatArray, risk: float | FloatArray) -> FloatArray:
    """How far each order lies behind some other at least, at error level `risk`; 0 where it may be the best.

    Orders may have a `risk` each.

    For an order, the differences of all others to it, shape (draws, orders) like `values`, have a band that
    holds all of them at once with probability 1 - `risk`. An order that is the best is thus told to lie
    behind with a probability of at most `risk`, however many others are as good. What lies behind leaves,
    and the rest is compared anew until nothing leaves. Where the best is another one in more than `risk` of
    the draws after all, the likeliest ones come back.
    """
    least, left, width = np.zeros(values.shape[1]), np.arange(values.shape[1]), 0
    risks = np.broadcast_to(risk, least.shape)
    while len(left) != width:
        width = len(left)
        least[left] = [_behind(values[:, left], place, risks[left[place]]) for place in range(width)]
        left = np.flatnonzero(least == 0)
    chances = np.bincount(values.argmax(axis=1), minlength=len(least)) / len(values)
    while (chances / risks)[least > 0].sum() > 1:
        least[np.where(least > 0, chances, -1.0).argmax()] = 0.0
    return least


def _behind(values: FloatArray, order: int, risk: float) -> float:
    """How far one order lies behind the farthest ahead of all at least."""
    ahead = np.delete(values, order, axis=1) - values[:, [order]]
    if not ahead.shape[1]:
        return 0.0
    means, spreads = ahead.mean(axis=0), np.maximum(ahead.std(axis=0), 1e-9)
    width = np.quantile(((means - ahead) / spreads).max(axis=1), 1 - risk)
    return max(0.0, float((means - width * spreads).max()))


def stage_worth(values: FloatArray, orders: Sequence[Order], stages: Order) -> dict[str, Behind]:
    """What lacking a stage costs: how far the best chain without it lies behind the best of all.

    A stage that no chain lacks, or that none holds, has no worth to be told.
    """
    best = values.max(axis=1)
    worth = {}
    for stage in stages:
        without = [k for k, order in enumerate(orders) if stage not in order]
        if without and len(without) < len(orders):
            cost = best - values[:, without].max(axis=1)
            low, high = np.quantile(cost, (0.025, 0.975))
            worth[stage] = Behind(behind=float(cost.mean()), interval=(float(low), float(high)))
    return worth


def precedence_of(best_set: Sequence[Order], stages: Order) -> tuple[tuple[str, str], ...]:
    """The pairs (first, second) that stand this way round in every chain of the set that holds both."""
    pairs = []
    for first, second in itertools.permutations(stages, 2):
        both = [order for order in best_set if first in order and second in order]
        if both and all(order.index(first) < order.index(second) for order in both):
            pairs.append((first, second))
    return tuple(pairs)


def order_matters(values: FloatArray, noise: FloatArray) -> float | None:
    """P-value of "all orders have the same value", from values of shape (orders, seeds), NaN where not run.

    The F test of a two-way table (orders, seeds), with degrees of freedom corrected for the orders' unequal
    noise variances, `noise` of shape (orders,) (Greenhouse and Geisser 1959). None where no degrees of
    freedom are left.
    """
    rows, columns = np.nonzero(np.isfinite(values))
    seen = values[rows, columns]
    orders, seeds = values.shape
    rest_seed, rank_seed = _residual([columns], [seeds], seen)
    rest_both, rank_both = _residual([columns, rows], [seeds, orders], seen)
    between, within = rank_both - rank_seed, len(seen) - rank_both
    if between < 1 or within < 1 or rest_both <= 1e-18 * float((seen**2).sum()):
        return None
    covariance = np.diag(noise)
    centered = covariance - covariance.mean(axis=0) - covariance.mean(axis=1)[:, None] + covariance.mean()
    sphericity = np.trace(centered) ** 2 / max((orders - 1) * (centered**2).sum(), 1e-300)
    share = float(np.clip(sphericity, 1 / between, 1.0))
    statistic = (max(0.0, rest_seed - rest_both) / between) / (rest_both / within)
    return float(special.fdtrc(share * between, share * within, statistic))


def mixing(draws: FloatArray) -> tuple[float, float]:
    """Split R-hat and effective number of draws of a quantity, shape (runs, draws) (Gelman et al. 2013)."""
    half = draws.shape[1] // 2
    parts = np.concatenate([draws[:, :half], draws[:, -half:]])
    within = float(parts.var(axis=1, ddof=1).mean())
    if within < 1e-18:
        return 1.0, float(draws.size)
    between = float(parts.mean(axis=1).var(ddof=1))
    total = within * (half - 1) / half + between
    centered = parts - parts.mean(axis=1, keepdims=True)
    correlation = 0.0
    for lag in range(1, half - 1, 2):
        pair = sum(
            1.0 - (within - float((centered[:, :-k] * centered[:, k:]).mean())) / total
            for k in (lag, lag + 1)
        )
        if pair < 0:
            break
        correlation += pair
    return float(np.sqrt(total / within)), parts.size / (1.0 + 2.0 * correlation)


def _residual(
    factors: Sequence[npt.NDArray[np.int64]], levels: Sequence[int], values: FloatArray
) -> tuple[float, int]:
    """Sum of squares that factors, each a level for every value, leave, and the rank of their design."""
    pairs = list(zip(factors, levels, strict=True))
    gram = np.block(
        [
            [
                np.bincount(factor * wide + other, minlength=high * wide).reshape(high, wide)
                for other, wide in pairs
            ]
            for factor, high in pairs
        ]
    ).astype(np.float64)
    pulls = np.concatenate([np.bincount(factor, values, high) for factor, high in pairs])
    weights, _, rank, _ = np.linalg.lstsq(gram, pulls, rcond=1e-10)
    starts = np.cumsum([0, *levels[:-1]])
    fitted = sum(weights[start + factor] for start, factor in zip(starts, factors, strict=True))
    return float(((values - fitted) ** 2).sum()), int(rank)


def _seeds(table: ValueTable) -> int:
    """The seeds at which chains can be compared."""
    return int((np.isfinite(table.values).sum(axis=0) > 1).sum())


def _share_at_floor(values: FloatArray, floor: float | None) -> float | None:
    """Share of the values that say only that the network is best left alone; None without a floor."""
    measured = values[np.isfinite(values)]
    return None if floor is None or not measured.size else float((measured <= floor + 1e-9).mean())


def _is_reached(values: FloatArray, floor: float | None) -> bool:
    """Whether some chain lies above the floor at most of its seeds."""
    if floor is None:
        return True
    ran = np.isfinite(values)
    above = (np.where(ran, values, floor) > floor + 1e-9).sum(axis=1)
    return bool((above >= LEAST_REACHED * np.maximum(ran.sum(axis=1), 1)).any() and above.any())


def _ever_reached(table: ValueTable, row: int) -> bool:
    measured = table.values[row][np.isfinite(table.values[row])]
    return table.floor is None or bool((measured > table.floor + 1e-9).any())


def _shares(draws: Draws, rows: Sequence[int]) -> float:
    """Mean over the draws of the squared correlation between orders' values and their scores' part."""
    values, scores = draws.pooled[:, rows], draws.scores.reshape(draws.pooled.shape)[:, rows]
    values = values - values.mean(axis=1, keepdims=True)
    scores = scores - scores.mean(axis=1, keepdims=True)
    sizes = (values**2).sum(axis=1) * (scores**2).sum(axis=1)
    squared = (values * scores).sum(axis=1) ** 2 / np.where(sizes > 0, sizes, 1.0)
    return float(squared.mean())


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and np.isfinite(value):
        return round(value, 4) if abs(value) >= 0.001 or value == 0 else float(f"{value:.3g}")
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{key.name: _rounded(getattr(value, key.name)) for key in fields(value)})
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return tuple(map(_rounded, value)) if isinstance(value, tuple) else value
