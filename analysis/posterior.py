"""What records say of all chains at one tolerated loss: the draws that answer and law are both read off."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.convergence import Control, controls, short_chains
from ordercomp.analysis.hints import Hints
from ordercomp.analysis.order_model import Draws, Effort, draws_of
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.values import (
    LOSSES,
    ChainNetwork,
    ValueTable,
    chain_tables,
    images_in,
    networks_of,
    sampled_values,
)
from ordercomp.records import Convention, CostName, Record
from ordercomp.sequence import Order


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """The values of chains at a loss, draws of what the model makes of them, and which chains to doubt."""

    runs: RunTable
    networks: tuple[ChainNetwork, ...]
    table: ValueTable  # at the loss
    by_loss: tuple[ValueTable, ...]  # at those of `LOSSES` that are an image or more; none of a sampler's
    draws: Draws | None  # None where no chain was measured
    controls: tuple[Control, ...]
    short: frozenset[Order]  # chains that further epochs alone would raise
    sampled: bool = False  # whether a sampler chose the networks

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Draws of the chains' values in doublings, shape (draws, chains); none where nothing is measured."""
        return np.zeros((0, len(self.table.orders))) if self.draws is None else self.draws.pooled


def posterior_of(
    records: Iterable[Record],
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
    convention: Convention = "paper",
    hints: Hints | None = None,
    effort: Effort | None = None,
    sampled: bool = False,
) -> Posterior:
    """Value the chains of `stages`, those that occur by default, at a tolerated loss, and draw.

    `sampled` networks were chosen by a sampler, each with knobs of its own: see `sampled_values`. With
    `hints` of a cheaper copy of the task chains that were not run join, and all are drawn with what it says.
    Raises ValueError for a loss outside of (0, 1], stages that are no distinct letters or are left out where
    none occurs, and a cost or convention that the records do not hold.
    """
    runs = RunTable.of(records, stages=stages)
    networks = networks_of(runs, runs.stages, cost=cost, convention=convention)
    if sampled:
        table, *others = [sampled_values(networks, runs.stages, loss=loss)]
    else:
        losses = [loss, *_told_losses(runs)]
        tables = chain_tables(networks, runs.stages, losses=losses)
        if hints is not None:
            tables = [at.hinted(hints.at(lost)) for at, lost in zip(tables, losses, strict=True)]
        table, *others = tables
    draws = None
    if table.orders and any(len(network.reductions) for network in networks):
        (draws,) = draws_of([table], effort)
    judged = controls(runs)
    return Posterior(
        runs=runs,
        networks=tuple(networks),
        table=table,
        by_loss=tuple(others),
        draws=draws,
        controls=judged,
        short=short_chains(runs, judged, runs.stages),
        sampled=sampled,
    )


def _told_losses(runs: RunTable) -> list[float]:
    """The losses to be told beside the asked one: those of at least one validation image."""
    measured = [record for record in runs.records.values() if record.points]
    shares = [record.baseline.accuracy for record in measured]
    images = images_in([*shares, *(point.accuracy for record in measured for point in record.points)])
    return [loss for loss in LOSSES if images is None or loss * images >= 1]
