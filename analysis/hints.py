"""Hints: what a cheaper copy of a task says of its chains, at the loss that is to be tolerated there.

A tolerated loss of the task becomes one of the copy by a rule: the same loss (`same`), the same share of the
baseline's error (`error`), or the loss within which the same share of all networks lies (`quantile`, which
needs records of both).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.order_model import Effort, draw_values
from ordercomp.analysis.values import FLOOR, ChainNetwork, chain_values, networks_of
from ordercomp.records import CostName, Record
from ordercomp.sequence import Order, permutations, subsets

FloatArray = npt.NDArray[np.float64]
Matching = Literal["same", "error", "quantile"]
MATCHINGS: tuple[Matching, ...] = ("same", "error", "quantile")
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
    found = loss
    if rule == "error":
        full, cheap = errors
        found = loss * cheap / full if full > 0 else loss
    elif rule == "quantile":
        whole, cheap_losses = map(_losses, networks)
        found = float(np.quantile(cheap_losses, (whole <= loss).mean()))
    return float(np.clip(found, loss / 4, LARGEST_LOSS))


def _losses(networks: Sequence[ChainNetwork]) -> FloatArray:
    """The mean loss of each operating point over both halves of the held-out images."""
    return np.concatenate([np.mean(network.losses, axis=0) for network in networks])


@dataclass(frozen=True, slots=True)
class Hints:
    """What a cheaper copy of a task says of its chains, ready for any loss that is tolerated on the task."""

    networks: tuple[ChainNetwork, ...]  # of the copy, as `networks_of` gives them
    stages: Order
    errors: tuple[float, float]  # of the baselines of task and copy, fractions

    @classmethod
    def of(
        cls, task: Sequence[Record], copy: Sequence[Record], stages: Order, *, cost: CostName = "bitops"
    ) -> "Hints":
        """The hints of the copy's records; those of the task tell its baseline's error."""
        networks = tuple(networks_of(copy, stages, cost=cost))
        return cls(networks, stages, errors=(baseline_error(task), baseline_error(copy)))

    def at(self, loss: float) -> dict[Order, float]:
        """Expected value of each chain on the copy, in its doublings; empty where it tells nothing.

        Chains that were never run there are told as the model expects them, with up to four stages.
        """
        cheap = matched_loss(loss, "error", errors=self.errors)
        table = chain_values(self.networks, self.stages, loss=cheap)
        if not (table.values > FLOOR).any():
            return {}
        every = [chain for subset in subsets(self.stages) for chain in permutations(subset)]
        unseen = [chain for chain in every if chain not in table.orders] if len(self.stages) <= 4 else []
        values = np.full((len(table.orders) + len(unseen), len(table.seeds)), np.nan)
        values[: len(table.orders)] = table.values
        orders = (*table.orders, *unseen)
        draws = draw_values(values, orders, self.stages, floor=FLOOR, effort=_EFFORT)
        return dict(zip(orders, map(float, draws.pooled.mean(axis=0)), strict=True))
