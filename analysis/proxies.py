"""Proxies: does the chain that is best on a cheaper copy of a task stay the best on the task itself?

Chains are compared by their mean value over seeds, in doublings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ordercomp.analysis.hints import Matching, matched_loss
from ordercomp.analysis.values import FLOOR, ChainNetwork, ValueTable, chain_values
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]
FEWEST = 3  # chains, to be compared by rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a proxy's values say about the task's, at one tolerated loss of the task."""

    loss: float  # tolerated on the task
    proxy_loss: float  # and on the proxy
    correlation: float  # of the chains' mean values, by rank (Spearman)
    reliability: float  # the same between halves of the task's own seeds, stepped up (Spearman and Brown)
    pick: Order  # the chain of the highest mean on the proxy
    regret: float  # of that chain on the task, doublings behind the best of the other half of the seeds
    random: float  # of a chain at random among those that reach the loss


def compare(task: ValueTable, proxy: ValueTable, *, all_stages: bool = False) -> Agreement | None:
    """Compare the tables of a task and its proxy over the chains that both have, or orders of all stages.

    None where fewer than three chains lie above the floor on either side, or the task has one seed.
    """
    assert task.loss is not None
    assert proxy.loss is not None
    length = len(task.stages) if all_stages else 0
    chains = [chain for chain in task.orders if chain in proxy.orders and len(chain) >= length]
    full, cheap = (_rows(table, chains) for table in (task, proxy))
    means = cheap.mean(axis=1)
    reached = (full > FLOOR).any(axis=1)
    if len(task.seeds) < 2 or reached.sum() < FEWEST or (means > FLOOR).sum() < FEWEST:
        return None
    halves = full[:, ::2].mean(axis=1), full[:, 1::2].mean(axis=1)
    half = float(stats.spearmanr(*halves).statistic)
    pick = int(np.argmax(means))
    regrets = [other[int(np.argmax(own))] - other for own, other in (halves, halves[::-1])]
    behind = np.mean(regrets, axis=0)
    return Agreement(
        loss=task.loss,
        proxy_loss=proxy.loss,
        correlation=float(stats.spearmanr(full.mean(axis=1), means).statistic),
        reliability=2 * half / (1 + half) if half > -1 else float("nan"),
        pick=chains[pick],
        regret=float(behind[pick]),
        random=float(behind[reached].mean()),
    )


def _rows(table: ValueTable, chains: Sequence[Order]) -> FloatArray:
    """Values of chains, shape (chains, seeds), at the seeds that have all of them."""
    values = table.values[[table.orders.index(chain) for chain in chains]]
    return values[:, np.isfinite(values).all(axis=0)]


def agree(
    task: Sequence[ChainNetwork],
    proxy: Sequence[ChainNetwork],
    stages: Order,
    *,
    loss: float,
    rule: Matching,
    errors: tuple[float, float],
    all_stages: bool = False,
) -> Agreement | None:
    """Compare the networks of a task and its proxy at `loss`, matched by `rule`; see `compare`."""
    cheap = matched_loss(loss, rule, errors=errors, networks=(task, proxy))
    tables = chain_values(task, stages, loss=loss), chain_values(proxy, stages, loss=cheap)
    return compare(*tables, all_stages=all_stages)
