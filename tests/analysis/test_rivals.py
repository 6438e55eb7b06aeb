"""Rival laws on trial."""

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.checks import Proposal, Rival, proposals_for, try_rivals, weaker_first
from ordercomp.analysis.posterior import posterior_of
from ordercomp.analysis.run_table import RunTable


def tried(truth: str = "DPQE", *, seeds: int = 3) -> list[Rival]:
    records = simulate(Planted.law(truth, 0.8), seeds=seeds, rng=np.random.default_rng(0))
    found = posterior_of(records, stages="DPQE")
    own = Proposal(truth, "the truth", "this test")
    return try_rivals(found.table, found.values, [own, *proposals_for(found.runs)])


def test_the_true_law_is_ahead_of_the_runner_up_and_its_reverse_costs_most() -> None:
    found = {(rival.order, rival.source): rival for rival in tried()}
    own = found["DPQE", "this test"]
    assert (own.rank, own.of, own.seeds) == (1, 24, 3)
    assert own.best != "DPQE"  # compared with the runner-up, which it is ahead of
    assert own.cost < 0
    assert found["EQPD", "for contrast"].rank == 24
    assert found["EQPD", "for contrast"].interval[0] > 0


def test_proposals_about_fewer_stages_are_ranked_among_their_own() -> None:
    found = {rival.order: rival for rival in tried("EQPD")}
    assert (found["EP"].rank, found["EP"].of) == (1, 2)
    assert (found["PD"].rank, found["PDQ"].of) == (1, 6)
    assert found["DPQE"].rank == 24


def test_proposals_with_stages_not_at_hand_are_passed_over() -> None:
    assert not any("K" in rival.order or "S" in rival.order for rival in tried())


def test_weaker_first_sorts_by_the_loss_of_each_stage_alone() -> None:
    losses = {"D": 0.90, "P": 0.95, "Q": 0.85}
    records = [make_record(stage, seed, accuracy) for stage, accuracy in losses.items() for seed in range(2)]
    assert weaker_first(RunTable.of(records, stages="DPQ")) == "PDQ"
    assert weaker_first(RunTable.of(records, stages="DPQE")) is None


def test_one_seed_leaves_the_cost_unknown() -> None:
    reverse = next(rival for rival in tried(seeds=1) if rival.order == "EQPD")
    assert reverse.interval[0] == pytest.approx(-reverse.interval[1])
    assert reverse.cost > 0
