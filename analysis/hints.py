"""Hints: what a cheaper copy of a task, or other tasks, say of its chains, at the loss to be tolerated there.

A tolerated loss of the task becomes one of the copy by a rule: the same loss (`same`), the same share of the
baseline's error (`error`), or the loss within which the same share of all networks lies (`quantile`, which
needs records of both).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.order_model import Draws, Effort, draw_values
from ordercomp.analysis.values import FLOOR, ChainNetwork, Hint, chain_values, networks_of
from ordercomp.records import CostName, Record
from ordercomp.sequence import Order, permutations, subsets

FloatArray = npt.NDArray[np.float64]
Matching = Literal["same", "error", "quantile"]
MATCHINGS: tuple[Matching, ...] = ("same", "error", "quantile")
COPY_SLOPE = 0.75  # doublings of a task for one of its copy: the median over recorded copies of digits
COPY_STRAYS = 0.4  # doublings by which a chain strays from that, where the copy does not mislead
COPY_MISLEADS = 1 / 3  # of the recorded tasks: what its copy put first was no better than a chain at random
LARGEST_LOSS = 0.5  # a copy may not lose more, whatever its baseline
_EFFORT = Effort(chains=2, burn_in=50, draws=100)


def baseline_error(records: Sequence[Record]) -> float:
    """Share of held-out images that the uncompressed networks get wrong, mean over seeds and halves."""
    seeds = {record.seed: record.baseline for record in records}
    return 1 - float(np.mean([(own.accuracy + own.test_accuracy) / 2 for own in seeds.values()]))


def matched_loss(
    loss: float,
    rule: Matching,
    *,
    errors: tuple[float, float] = (1.0, 1.0),
    networks: tuple[Sequence[ChainNetwork], Sequence[ChainNetwork]] = ((), ()),
) -> float:
    """The loss to tolerate on the proxy for `loss` on the task, a fraction in (0, `LARGEST_LOSS`].

    Args:
        loss: tolerated on the task, a fraction.
        rule: how the two are matched.
        errors: of the baselines of task and proxy, fractions; for `error`.
        networks: of task and proxy; for `quantile`.
    """
    matched = loss
    if rule == "error":
        full, cheap = errors
        matched = loss * cheap / full if full > 0 else loss
    elif rule == "quantile":
        full_losses, cheap_losses = map(_losses, networks)
        matched = float(np.quantile(cheap_losses, (full_losses <= loss).mean()))
    return float(np.clip(matched, loss / 4, LARGEST_LOSS))


def _losses(networks: Sequence[ChainNetwork]) -> FloatArray:
    """The mean loss of each operating point over both halves of the held-out images."""
    return np.concatenate([np.mean(network.losses, axis=0) for network in networks])


@dataclass(frozen=True, slots=True)
class HintSource:
    """What was raced elsewhere: on a cheaper copy of a task, or on another task."""

    networks: tuple[ChainNetwork, ...]  # as `networks_of` gives them
    errors: tuple[float, float] = (1.0, 1.0)  # of the baselines here and there; alike: the same loss

    def draws(self, loss: float, stages: Order) -> Draws | None:
        """Draws of each chain's value there, in its doublings, at a loss here; None where none is known."""
        cheap = matched_loss(loss, "error", errors=self.errors)
        table = chain_values(self.networks, stages, loss=cheap)
        if not (table.values > FLOOR).any():
            return None
        every = [chain for subset in subsets(stages) for chain in permutations(subset)]
        unseen = [chain for chain in every if chain not in table.orders] if len(stages) <= 4 else []
        values = np.full((len(table.orders) + len(unseen), len(table.seeds)), np.nan)
        values[: len(table.orders)] = table.values
        orders = (*table.orders, *unseen)
        return draw_values(values, orders, stages, floor=FLOOR, effort=_EFFORT)

    def at(self, loss: float, stages: Order) -> dict[Order, float]:
        """What is expected of each chain there, in its doublings, at a loss here; empty where nothing is."""
        draws = self.draws(loss, stages)
        return {} if draws is None else draws.expected


@dataclass(frozen=True, slots=True)
class Hints:
    """What was raced elsewhere says of a task's chains, ready for any loss that is tolerated on the task."""

    sources: tuple[HintSource, ...]
    stages: Order
    names: tuple[str, ...] = ()  # of other tasks that are the sources; empty for a copy

    @classmethod
    def of(
        cls, task: Sequence[Record], copy: Sequence[Record], stages: Order, *, cost: CostName = "bitops"
    ) -> "Hints":
        """The hints of a cheaper copy's records; those of the task tell its baseline's error."""
        networks = tuple(networks_of(copy, stages, cost=cost))
        return cls((HintSource(networks, (baseline_error(task), baseline_error(copy))),), stages)

    def at(self, loss: float) -> Hint:
        """What is expected of each chain; of several sources the mean, each in its own spread.

        A doubling on a copy stands for `COPY_SLOPE` of the task, one of other tasks for none. Empty where
        nothing is told. Chains that were never run there are told as the model expects them, with up to four
        stages.
        """
        expected = [by_chain for source in self.sources if (by_chain := source.at(loss, self.stages))]
        if len(expected) < 2:
            return Hint(expected[0] if expected else {}, slope=0.0 if self.names else COPY_SLOPE)
        chains = [chain for chain in expected[0] if all(chain in by_chain for by_chain in expected)]
        values = np.array([[by_chain[chain] for chain in chains] for by_chain in expected])
        spreads = np.maximum(values.std(axis=1, keepdims=True), 1e-9)
        means = ((values - values.mean(axis=1, keepdims=True)) / spreads).mean(axis=0)
        return Hint(dict(zip(chains, map(float, means), strict=True)))

    def draws(self, loss: float) -> Draws | None:
        """Draws of each chain's value on the copy, in its doublings; None where the copy tells nothing."""
        (source,) = self.sources
        return source.draws(loss, self.stages)


def strayed(values: FloatArray) -> FloatArray:
    """Draws of chains' values on a copy, as draws of what they are worth on the task, up to a shift.

    A chain strays by `COPY_STRAYS`, and in a share of the draws, `COPY_MISLEADS`, the copy tells nothing.
    """
    rng = np.random.default_rng(0)
    told: FloatArray = COPY_SLOPE * values + COPY_STRAYS * rng.standard_normal(values.shape)
    misled = rng.random(len(told)) < COPY_MISLEADS
    told[misled] = rng.permuted(told[misled], axis=1)
    return told
