"""Verdicts on pairs of stages: which of the two comes first in the best chain that holds both, and how sure?

Everything is read off the draws that the answer rests on (`order_model`). A pair's *effect* is what the best
chain with the first stage earlier gains over the best one with it later, in doublings at the tolerated loss;
its *probability* is the share of the draws in which that is a gain. So a context that no good chain ever
visits has no say. The same, of the chains that have a third stage before both, between them or after both,
makes a *group*: what an inserted stage does to the pair.
"""

import itertools
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.statistics import RULES, Effect, holm, sign_flip_p
from ordercomp.analysis.values import ValueTable
from ordercomp.codec import FLAT, OMITTED, UNWRITTEN, named
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]
PairVerdict = Literal["before", "after", "tied", "undecided", "conditional"]
Where = Literal["before", "between", "after"]
PLACES: tuple[Where, ...] = ("before", "between", "after")

DECIDED = 0.975  # probability from which on a pair is decided: the 95 % interval of its effect excludes zero


@dataclass(frozen=True, slots=True)
class Group:
    """A pair in the chains that have a third stage in one place."""

    name: str  # "E between"
    contexts: int = 0
    effect: Effect = field(default=Effect(0.0, (0.0, 0.0), 0.5), metadata=FLAT)
    stage: str = field(default="", metadata=UNWRITTEN)
    where: Where = field(default="between", metadata=UNWRITTEN)
    seeds: tuple[int, ...] = field(default=(), metadata=UNWRITTEN)  # at which both orders of the pair ran

    @property
    def sign(self) -> int:
        """1 where the first stage of the pair surely comes first, -1 where the second does, else 0."""
        return _sign(self.effect, len(self.seeds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What records say about one pair of stages. What is None, nobody has worked out."""

    KEYS: ClassVar = (
        *("first", "second", "verdict", "probability", "effect", "interval", "contexts", "seeds"),
        *("under_trained", "p_value", "adjusted_p", "sign_flip_p", "log2_reduction_at_equal_accuracy"),
        *("contexts_left_out", "groups"),
    )

    first: str
    second: str
    verdict: PairVerdict
    effect: Effect = field(metadata=FLAT)  # in doublings; positive: `first` comes first
    contexts: int  # chains with either order of the two, of that with fewer
    seeds: int  # at which both orders ran
    under_trained: bool = False  # what lies behind would gain from further epochs alone
    p_value: float | None = field(default=None, metadata=OMITTED)  # twice the smaller tail of the effect
    adjusted_p: float | None = field(default=None, metadata=OMITTED)  # after Holm over the pairs
    sign_flip_p: float | None = field(default=None, metadata=OMITTED)  # of the best values seed by seed: an
    # exact check without a model; at least 2^(1-seeds)
    reduction: float | None = field(  # log2 reduction gained at the tolerated loss: the effect
        default=None, metadata={**OMITTED, **named("log2_reduction_at_equal_accuracy")}
    )
    left_out: int | None = field(  # chains with both that would gain from further epochs alone
        default=None, metadata={**OMITTED, **named("contexts_left_out")}
    )
    groups: tuple[Group, ...] | None = field(default=None, metadata=OMITTED)

    @property
    def decided(self) -> bool:
        """Whether one of the two comes first."""
        return self.verdict in ("before", "after")

    @property
    def edge(self) -> tuple[str, str, float]:
        """The stages, the likelier first, and the probability of that."""
        chance = self.effect.probability
        if self.verdict == "after" or (self.verdict != "before" and chance < 0.5):
            return self.second, self.first, 1 - chance
        return self.first, self.second, chance


def pair_evidence(
    table: ValueTable, values: FloatArray, *, short: Set[Order] = frozenset(), grouped: bool = False
) -> tuple[Evidence, ...]:
    """Judge every unordered pair of the table's stages, named in their order.

    Args:
        table: the values that were measured.
        values: draws of the chains' values, shape (draws, chains), in the order of the table.
        short: chains that further epochs alone would raise. Where the best of those that lie behind is one,
            more often than not, the pair is marked and stays undecided.
        grouped: work out the groups, which alone can make a pair conditional, and the sign-flip check, too.

    "before" or "after" from a probability of 0.975 on, if the surest of all pairs passes Bonferroni's bound,
    too (0.992 of six), so that hardly ever some pair is decided where no order matters. "tied" if the
    interval of the effect lies within the margin, "conditional" if groups are surely of opposite directions
    and the whole is undecided, otherwise "undecided", and always with fewer than three seeds at which both
    orders ran.
    """
    sides = {stages: _sides(table, *stages) for stages in itertools.combinations(table.stages, 2)}
    pairs = [_judge(table, values, stages, both, short) for stages, both in sides.items()]
    surest = max((pair.edge[2] for pair in pairs if pair.decided), default=0.0)
    if (1 - surest) * len(pairs) > 2 * (1 - DECIDED):
        pairs = [replace(pair, verdict="undecided") if pair.decided else pair for pair in pairs]
    adjusted = holm([pair.p_value or 0.0 for pair in pairs])
    pairs = [replace(pair, adjusted_p=p_value) for pair, p_value in zip(pairs, adjusted, strict=True)]
    if not grouped:
        return tuple(pairs)
    return tuple(
        _with_groups(pair, table, values, both) for pair, both in zip(pairs, sides.values(), strict=True)
    )


Rows = Sequence[int]


def _sides(table: ValueTable, first: str, second: str) -> tuple[Rows, Rows]:
    """The rows of the chains with the first stage earlier, and of those with it later."""
    both = [k for k, order in enumerate(table.orders) if first in order and second in order]
    earlier = [k for k in both if table.orders[k].index(first) < table.orders[k].index(second)]
    return earlier, [k for k in both if k not in set(earlier)]


def _judge(
    table: ValueTable, values: FloatArray, pair: tuple[str, str], sides: tuple[Rows, Rows], short: Set[Order]
) -> Evidence:
    scores = _scores(table, sides)
    effect = _effect(table, values, sides, len(scores))
    behind = sides[1 if effect.mean > 0 else 0]
    doubtful = False
    if behind and short:
        best = np.asarray(behind)[values[:, behind].argmax(axis=1)]
        doubtful = bool(np.mean([table.orders[k] in short for k in best]) > 0.5)
    verdict: PairVerdict = "undecided"
    if len(scores) >= RULES.least_seeds and not doubtful:
        if -RULES.margin <= effect.low and effect.high <= RULES.margin:
            verdict = "tied"
        elif sign := _sign(effect, len(scores)):
            verdict = "before" if sign > 0 else "after"
    tail = min(effect.probability, 1 - effect.probability)
    return Evidence(
        first=pair[0],
        second=pair[1],
        verdict=verdict,
        effect=effect,
        contexts=min(map(len, sides)),
        seeds=len(scores),
        under_trained=doubtful,
        p_value=2 * tail,
        reduction=effect.mean,
        left_out=sum(table.orders[k] in short for side in sides for k in side),
    )


def _scores(table: ValueTable, sides: tuple[Rows, Rows]) -> dict[int, float]:
    """The best value measured on either side, as a difference, at each seed at which both ran."""
    earlier, later = (
        np.where(np.isfinite(side), side, -np.inf) for side in (table.values[list(rows)] for rows in sides)
    )
    if not earlier.size or not later.size:
        return {}
    gains = earlier.max(axis=0), later.max(axis=0)
    return {
        seed: float(first - second)
        for seed, first, second in zip(table.seeds, *gains, strict=True)
        if np.isfinite(first) and np.isfinite(second)
    }


def _effect(table: ValueTable, values: FloatArray, sides: tuple[Rows, Rows], seeds: int) -> Effect:
    """What the best chain of the first side gains; all unknown but the mean with fewer than three seeds."""
    bound = float(np.nanmax(np.abs(table.values), initial=0.0)) or 1.0
    if not all(sides) or not len(values):
        return Effect(0.0, (-bound, bound), 0.5)
    gain = values[:, sides[0]].max(axis=1) - values[:, sides[1]].max(axis=1)
    if seeds < RULES.least_seeds:
        return Effect(float(gain.mean()), (-bound, bound), 0.5)
    low, high = np.quantile(gain, (0.025, 0.975))
    share = (gain > 1e-9).mean() + 0.5 * (np.abs(gain) <= 1e-9).mean()
    return Effect(float(gain.mean()), (float(low), float(high)), float(share))


def _sign(effect: Effect, seeds: int) -> int:
    if seeds < RULES.least_seeds:
        return 0
    return (effect.probability >= DECIDED) - (effect.probability <= 1 - DECIDED)


def _with_groups(pair: Evidence, table: ValueTable, values: FloatArray, sides: tuple[Rows, Rows]) -> Evidence:
    groups = []
    for stage, where in itertools.product(table.stages, PLACES):
        if stage in (pair.first, pair.second):
            continue
        inside = tuple(
            [k for k in side if _place(table.orders[k], pair.first, pair.second, stage) == where]
            for side in sides
        )
        own = inside[0], inside[1]
        scores = _scores(table, own)
        groups.append(
            Group(
                name=f"{stage} {where}",
                contexts=min(map(len, own)),
                effect=_effect(table, values, own, len(scores)),
                stage=stage,
                where=where,
                seeds=tuple(scores),
            )
        )
    open_yet = pair.verdict == "undecided" and not pair.under_trained
    torn = open_yet and {group.sign for group in groups} >= {1, -1}
    flips = sign_flip_p(np.array(list(_scores(table, sides).values())), rng=np.random.default_rng(0))
    return replace(
        pair, groups=tuple(groups), sign_flip_p=flips, verdict="conditional" if torn else pair.verdict
    )


def _place(order: Order, first: str, second: str, stage: str) -> Where | None:
    """Where a third stage stands to the two; None where the chain lacks it."""
    if stage not in order:
        return None
    place, ends = order.index(stage), sorted((order.index(first), order.index(second)))
    return "before" if place < ends[0] else "after" if place > ends[1] else "between"
