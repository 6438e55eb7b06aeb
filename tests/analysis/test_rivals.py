"""Rival laws on trial."""

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.checks import try_rivals, weaker_first
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.ranking import permutation_values
from ordercomp.analysis.run_table import RunTable


def run_table(truth: str = "DPQE", seeds: int = 3) -> RunTable:
    records = simulate(Planted.law(truth, 0.8), seeds=seeds, rng=np.random.default_rng(0))
    return RunTable.of(records, stages=None, scale=Scale(split="validation"))


def test_the_true_law_is_ahead_of_the_runner_up_and_its_reverse_costs_most() -> None:
    found = {(rival.order, rival.source): rival for rival in try_rivals(run_table(), law="DPQE")}
    own = found["DPQE", "this analysis"]
    assert (own.rank, own.of) == (1, 24)
    assert own.best != "DPQE"  # compared with the runner-up, which it is ahead of
    assert own.interval[0] < own.cost < 0
    assert found["EQPD", "for contrast"].rank == 24
    assert found["EQPD", "for contrast"].interval[0] > 0


def test_proposals_about_fewer_stages_are_ranked_among_their_own() -> None:
    found = {rival.order: rival for rival in try_rivals(run_table("EQPD"), law="EQPD")}
    assert (found["EP"].rank, found["EP"].of) == (1, 2)
    assert (found["PD"].rank, found["PDQ"].of) == (1, 6)
    assert found["DPQE"].rank == 24


def test_proposals_with_stages_not_at_hand_are_passed_over() -> None:
    orders = {rival.order for rival in try_rivals(run_table(), law="DPQE")}
    assert not any("K" in order or "S" in order for order in orders)


def test_weaker_first_sorts_by_the_loss_of_each_stage_alone() -> None:
    losses = {"D": 0.90, "P": 0.95, "Q": 0.85}
    records = [make_record(stage, seed, accuracy) for stage, accuracy in losses.items() for seed in range(2)]
    assert weaker_first(RunTable.of(records, stages="DPQ", scale=Scale())) == "PDQ"
    assert weaker_first(RunTable.of(records, stages="DPQE", scale=Scale())) is None


def test_one_seed_leaves_the_cost_unknown() -> None:
    one = run_table(seeds=1)
    reverse = next(rival for rival in try_rivals(one, law="DPQE") if rival.order == "EQPD")
    assert reverse.interval == (-one.bound, one.bound)
    assert reverse.cost > 0


def test_no_seed_tries_the_order_that_it_helped_to_choose() -> None:
    nine = run_table(seeds=9)
    found = try_rivals(nine, law="DPQE", suggested={7: "DPQE", 8: "EQPD"})
    own = next(rival for rival in found if rival.source == "this analysis")
    values, _ = permutation_values(nine, "DPQE")
    mixed = (values["DPQE"][7] + values["EQPD"][8]) / 2
    assert (own.order, own.seeds) == ("DPQE", 2)
    assert own.best not in ("DPQE", "EQPD")
    assert own.cost == pytest.approx(values[own.best][7:].mean() - mixed)
    assert {rival.seeds for rival in found if rival is not own} == {9}
