"""The answer on seeds that it has not seen, on the recordings: is it worth more than the highest mean?"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from ordercomp.analysis.answer import answers_of
from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.order_model import Effort, draw_tables, pair_signs
from ordercomp.analysis.values import ValueTable, chain_tables, networks_of
from ordercomp.jobs.recordings import load_recorded
from ordercomp.sequence import permutations

STAGES = "DPQE"
QUICK = Effort(burn_in=50, draws=75)
MOST_SPLITS = 10


def regrets(name: str, losses: Sequence[float]) -> npt.NDArray[np.float64]:
    """What the answer's choice and that of the highest mean cost, mean over splits of the seeds into halves.

    Each is chosen on the larger half, of the chains that ran at every seed, and judged by the other's mean.
    """
    records, _ = one_batch(load_recorded(name))
    found = []
    for table in chain_tables(networks_of(records, STAGES), STAGES, losses=losses):
        whole = np.isfinite(table.values).all(axis=1)
        orders, values = (
            [order for order, all_ran in zip(table.orders, whole, strict=True) if all_ran],
            table.values[whole],
        )
        seeds = range(values.shape[1])
        halves = list(itertools.combinations(seeds, len(seeds) - len(seeds) // 2))
        halves = halves[:: -(-len(halves) // MOST_SPLITS)]
        drawn = draw_tables(
            np.stack([values[:, half] for half in halves]), orders, STAGES, floor=table.floor, effort=QUICK
        )
        for half, draws in zip(halves, drawn, strict=True):
            truth = np.delete(values, half, axis=1).mean(axis=1)
            picks = draws.pooled.mean(axis=0).argmax(), values[:, half].mean(axis=1).argmax()
            found.append([truth.max() - truth[pick] for pick in picks])
    return np.mean(found, axis=0)


@pytest.mark.integration
def test_the_recommendation_costs_less_on_other_seeds_than_the_highest_mean() -> None:
    names = ("digits", "fashion-mnist", "fashion-mnist-raced", "cifar10")
    ours, highest = np.mean([regrets(name, (0.01, 0.02, 0.05)) for name in names], axis=0)
    assert ours <= highest


@pytest.mark.integration
def test_the_chain_for_cifar10_is_as_good_on_other_seeds_as_the_best_of_any_length_on_these() -> None:
    ours, highest = regrets("cifar10", (0.01, 0.02))
    assert ours <= highest


def test_an_order_that_is_first_at_every_seed_is_never_out() -> None:
    """The world of one odd order, whose neighbors lose: draws in which it wins at all of three seeds."""
    rng, orders = np.random.default_rng(0), permutations(STAGES)
    signs = pair_signs(orders, STAGES)
    tables = []
    while len(tables) < 12:
        truth = signs @ rng.normal(0, 0.3, 6)
        odd = int(rng.integers(len(orders)))
        truth[odd] = truth.max() + 0.7
        values = truth[:, None] + rng.normal(0, 0.4, (len(orders), 3))
        if (values.argmax(axis=0) == odd).all():
            tables.append((orders[odd], ValueTable(STAGES, tuple(orders), (0, 1, 2), values, None)))
    answers = answers_of([table for _, table in tables], effort=QUICK)
    assert all(odd in answer.best_set for (odd, _), answer in zip(tables, answers, strict=True))
