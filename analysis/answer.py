"""The answer: which order to take at a tolerated loss, what that may cost, and which orders are out.

Everything is read off draws of the model of an order's value (`model`):

- *Best set*: multiple comparisons with the best (Hsu 1984), by the posterior. An order is excluded where a
  band around its differences to all others, calibrated to keep the best with 95 %, has one of them ahead.
- *Recommended*: the order with the least expected regret; its regret is how far it lies behind the best
  order, whichever that is, in doublings.
- *Precedence*: the pairs that stand the same way round in every order of the best set. Acyclic, since the
  set is not empty, and free of multiplicity between pairs.

Nothing is recommended from fewer than three seeds, as two cannot tell noise from a difference, nor where
hardly any network loses so little, as then all orders are worth leaving the network alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.analysis.order_model import Draws, Effort, draw_values
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import LOSSES, ValueTable, networks_of, order_values, settings_of
from ordercomp.codec import FLAT, OMITTED, named
from ordercomp.records import Convention, Record, metric_of
from ordercomp.sequence import Order

# Comparisons of orders by draws of their values: who may be best, what they share, does it matter.


FloatArray = npt.NDArray[np.float64]


def chances_of_best(values: FloatArray) -> FloatArray:
    """Share of the draws, shape (draws, orders), in which each order is the best; ties share."""
    best = values >= values.max(axis=1, keepdims=True) - 1e-9
    chances: FloatArray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return chances


def least_behind(values: FloatArray, risk: float) -> FloatArray:
    """How far each order lies behind some other at least, at error level `risk`; 0 where it may be the best.

    For an order, the differences of all others to it, shape (draws, orders) like `values`, have a band that
    holds all of them at once with probability 1 - `risk`. An order that is the best is thus told to lie
    behind with a probability of at most `risk`, however many others are as good.
    """
    least = np.zeros(values.shape[1])
    for order in range(len(least)):
        ahead = np.delete(values, order, axis=1) - values[:, [order]]
        means, spreads = ahead.mean(axis=0), np.maximum(ahead.std(axis=0), 1e-9)
        width = np.quantile(((means - ahead) / spreads).max(axis=1), 1 - risk)
        least[order] = max(0.0, float((means - width * spreads).max()))
    return least


def precedence_of(best_set: Sequence[Order], stages: Order) -> tuple[tuple[str, str], ...]:
    """The pairs (first, second) that stand this way round in every order of the set."""
    return tuple(
        (first, second)
        for first in stages
        for second in stages
        if first != second and all(order.index(first) < order.index(second) for order in best_set)
    )


def order_matters(values: FloatArray, noise: FloatArray) -> float | None:
    """P-value of "all orders have the same value", from values of shape (orders, seeds), NaN where not run.

    The F test of a two-way table (orders, seeds), with degrees of freedom corrected for the correlation
    between the orders within a seed, `noise` of shape (orders, orders) (Greenhouse and Geisser 1959). None
    where no degrees of freedom are left.
    """
    rows, columns = np.nonzero(np.isfinite(values))
    seen = values[rows, columns]
    orders, seeds = values.shape
    by_seed = np.eye(seeds)[columns]
    both = np.hstack([by_seed, np.eye(orders)[rows]])
    rest_seed, rank_seed = _residual(by_seed, seen)
    rest_both, rank_both = _residual(both, seen)
    between, within = rank_both - rank_seed, len(seen) - rank_both
    if between < 1 or within < 1 or rest_both <= 0:
        return None
    centered = noise - noise.mean(axis=0) - noise.mean(axis=1)[:, None] + noise.mean()
    sphericity = np.trace(centered) ** 2 / max((orders - 1) * (centered**2).sum(), 1e-300)
    share = float(np.clip(sphericity, 1 / between, 1.0))
    statistic = ((rest_seed - rest_both) / between) / (rest_both / within)
    return float(stats.f.sf(statistic, share * between, share * within))


def _residual(design: FloatArray, values: FloatArray) -> tuple[float, int]:
    """Sum of squares that a design leaves, and its rank."""
    weights, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ weights) ** 2).sum()), int(rank)


BAND = 0.17  # nominal error of the posterior's band; shrinkage makes it wide: in every world of


# benchmarks/answer_calibration.py it leaves out the best order, ties included, in at most 5 %
BOUND = 0.98  # quantile of the posterior that bounds a regret with 95 %: in a single world, whose orders are


# no draws from the model, its 0.95 quantile holds in 88 % at worst
LEAST_SEEDS = RULES.least_seeds


LEAST_WORTH = 0.1  # share of the values that must lie above the floor


THOROUGH = Effort(warm_up=200, kept=500)


FEW_STAGES, BRIEF = 5, Effort(chains=4, kept=125)  # beyond, a fit of a hundred orders takes a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """How far an order lies behind the best one, in doublings of the reduction."""

    expected: float
    upper95: float  # not exceeded with probability 0.95
    random_order: float  # expected regret of an order taken at random


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One order against the best one."""

    value: float  # doublings, by the model
    behind: float  # expected, in doublings
    interval: tuple[float, float]  # of `behind`; the lower end is 0 exactly for the orders of the best set
    probability_best: float
    seeds: int  # at which it was run


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """How far an order that is out lies behind the best one, in doublings."""

    behind: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMatters:
    """Whether orders differ at all."""

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
        *("order_matters", "stage_scores_explain", "seeds_needed", "orders"),
    )

    rung: str | None = field(default=None, metadata=OMITTED)  # the only one that took part; None: all
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

    @property
    def probability_best(self) -> dict[Order, float]:
        """The probability of each order to be the best."""
        return {order: one.probability_best for order, one in self.standings.items()}

    @property
    def excluded(self) -> dict[Order, Behind]:
        """The orders outside of the best set, the nearest first."""
        return {
            order: Behind(behind=one.behind, interval=one.interval)
            for order, one in self.standings.items()
            if order not in self.best_set
        }

    def rounded(self) -> "AnswerAt":
        """The same with the digits that are told."""
        regret, matters = self.regret, self.order_matters
        return replace(
            self,
            regret=None
            if regret is None
            else Regret(
                expected=_short(regret.expected),
                upper95=_short(regret.upper95),
                random_order=_short(regret.random_order),
            ),
            standings={
                order: Standing(
                    value=_short(one.value),
                    behind=_short(one.behind),
                    interval=(_short(one.interval[0]), _short(one.interval[1])),
                    probability_best=_short(one.probability_best),
                    seeds=one.seeds,
                )
                for order, one in self.standings.items()
            },
            order_matters=None
            if matters is None
            else OrderMatters(p=float(f"{matters.p:.3g}"), spread=_short(matters.spread)),
            scores_explain=None if self.scores_explain is None else _short(self.scores_explain),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer at the loss that was asked for, at other losses, and for each rung alone."""

    asked: AnswerAt = field(metadata=FLAT)
    by_loss: tuple[AnswerAt, ...] = ()
    by_rung: tuple[AnswerAt, ...] = ()
    metric: str = field(default="accuracy", metadata=OMITTED)  # of which some is lost
    topological_sorts: Sorts | None = field(default=None, metadata=OMITTED)  # None: there is no law beside
    withheld: str = field(default="", metadata=OMITTED)  # why nothing is recommended, if not for few seeds

    @property
    def recommended(self) -> Order | None:
        """The order to take; None where nothing can be told."""
        return self.asked.recommended

    @property
    def best_set(self) -> tuple[Order, ...]:
        """The orders that cannot be told from the best, most probable first."""
        return self.asked.best_set

    def rounded(self) -> "Answer":
        """The same with the digits that are told."""
        return replace(
            self,
            asked=self.asked.rounded(),
            by_loss=tuple(one.rounded() for one in self.by_loss),
            by_rung=tuple(one.rounded() for one in self.by_rung),
        )


def derive_answer(
    records: Iterable[Record],
    *,
    stages: Order,
    loss: float = 0.02,
    convention: Convention = "paper",
    effort: Effort | None = None,
) -> Answer:
    """Answer from records, at `loss` and at all of `LOSSES`, over all rungs and for each alone.

    Orders that were run at fewer seeds than others are compared by the model, not by their raw means. Raises
    ValueError for a loss outside of (0, 1], stages that are no distinct letters, and a cost convention that
    the records do not hold.
    """
    effort = effort or (THOROUGH if len(stages) <= FEW_STAGES else BRIEF)
    held = list(records)
    networks = networks_of(held, stages, convention=convention)
    rungs = settings_of(networks)
    losses = sorted({*LOSSES, loss})
    asked = [(rungs, one) for one in losses] + [((rung,), loss) for rung in rungs if len(rungs) > 1]
    tables = [order_values(networks, stages, loss=at, settings=some) for some, at in asked]
    found = answers_of(tables, effort=effort)
    told = dict(zip(losses, found, strict=False))
    alone = zip(rungs, found[len(losses) :], strict=False)
    return Answer(
        asked=told[loss],
        by_loss=tuple(told[one] for one in LOSSES),
        by_rung=tuple(replace(one, rung=str(rung)) for rung, one in alone),
        metric=metric_of(held),
    )


def answer_of(table: ValueTable, *, effort: Effort = THOROUGH) -> AnswerAt:
    """Answer from a table of values, larger being better."""
    return answers_of([table], effort=effort)[0]


def answers_of(tables: Sequence[ValueTable], *, effort: Effort = THOROUGH) -> list[AnswerAt]:
    """Answer for each table; those of the same orders and number of seeds are fitted together."""
    answers: dict[int, AnswerAt] = {}
    groups: dict[tuple[tuple[Order, ...], int], list[int]] = defaultdict(list)
    for place, table in enumerate(tables):
        if _seeds(table) < LEAST_SEEDS:
            answers[place] = AnswerAt(loss=table.loss, seeds_needed=LEAST_SEEDS)
        elif _share_of_worth(table) < LEAST_WORTH:
            answers[place] = AnswerAt(loss=table.loss)
        else:
            groups[table.orders, len(table.seeds)].append(place)
    for places in groups.values():
        first = tables[places[0]]
        values = np.stack([tables[place].values for place in places])
        draws = draw_values(values, first.orders, first.stages, floor=first.floor, effort=effort)
        answers.update(
            {place: read_answer(tables[place], found) for place, found in zip(places, draws, strict=True)}
        )
    return [answers[place] for place in range(len(tables))]


def _seeds(table: ValueTable) -> int:
    """The seeds at which orders can be compared."""
    return int((np.isfinite(table.values).sum(axis=0) > 1).sum())


def _share_of_worth(table: ValueTable) -> float:
    """Share of the values that say more than that the network is best left alone."""
    if table.floor is None:
        return 1.0
    known = table.values[np.isfinite(table.values)]
    return float((known > table.floor + 1e-9).mean())


def read_answer(table: ValueTable, draws: Draws) -> AnswerAt:
    """The answer that draws of the values of a table give."""
    behind = draws.values.max(axis=1, keepdims=True) - draws.values
    chances = chances_of_best(draws.values)
    least = least_behind(draws.values, BAND)
    means = draws.values.mean(axis=0)
    offset = float(np.nanmean(table.values - means[:, None]))
    order = np.argsort(-means, kind="stable")
    seeds = table.seeds_of
    standings = {
        table.orders[k]: Standing(
            value=float(means[k]) + offset,
            behind=float(behind[:, k].mean()),
            interval=(float(least[k]), float(np.quantile(behind[:, k], BOUND))),
            probability_best=float(chances[k]),
            seeds=seeds[table.orders[k]],
        )
        for k in order
    }
    inside = [k for k in np.argsort(-chances, kind="stable") if least[k] == 0]
    taken = int(order[0])
    best_set = tuple(table.orders[k] for k in inside)
    scores, p = _shares(draws), order_matters(table.values, draws.noise)
    return AnswerAt(
        loss=table.loss,
        recommended=table.orders[taken],
        best_set=best_set,
        regret=Regret(
            expected=float(behind[:, taken].mean()),
            upper95=max(float(np.quantile(behind[:, taken], BOUND)), float(behind[:, taken].mean())),
            random_order=float(behind.mean()),
        ),
        standings=standings,
        precedence=precedence_of(best_set, table.stages),
        order_matters=None if p is None else OrderMatters(p=p, spread=float(means.max() - means.min())),
        scores_explain=scores,
    )


def _shares(draws: Draws) -> float:
    """Mean over the draws of the squared correlation between orders' values and their scores' part."""
    values = draws.values - draws.values.mean(axis=1, keepdims=True)
    scores = draws.scores - draws.scores.mean(axis=1, keepdims=True)
    sizes = (values**2).sum(axis=1) * (scores**2).sum(axis=1)
    squared = (values * scores).sum(axis=1) ** 2 / np.where(sizes > 0, sizes, 1.0)
    return float(squared.mean())


def _short(number: float) -> float:
    return round(float(number), 4)
