"""Simulated records hold what was planted."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from builders import record_value

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.values import run_values

QUIET = {"node_noise": 0.0, "seed_noise": 0.0, "interaction": 0.0}


def test_without_noise_a_record_is_worth_what_was_planted() -> None:
    truth = Planted.law("DPQE", 0.5, quirk=0.2, **QUIET)
    records = simulate(truth, seeds=1, rng=np.random.default_rng(0))
    for run, value in run_values(RunTable.of(records), loss=0.02).items():
        assert value == pytest.approx(truth.expected(run.order))
    for record in records:
        assert record_value(record, scale=Scale()) == pytest.approx(truth.expected(record.order))


def test_a_swap_of_neighbors_is_worth_the_effect_of_the_pair() -> None:
    truth = Planted(effects={("P", "Q"): 0.4})
    assert truth.expected("DPQE") - truth.expected("DQPE") == pytest.approx(0.4)
    assert truth.expected("PQ") - truth.expected("QP") == pytest.approx(0.4)


def test_a_lack_of_training_is_halved_by_each_later_stage() -> None:
    truth = Planted(under_trained={"Q": 1.0})
    plain = Planted()
    assert [plain.expected(order) - truth.expected(order) for order in ("Q", "QF", "QP", "QPE", "PQ")] == [
        1.0,
        0.5,
        0.5,
        0.25,
        1.0,
    ]


def test_four_stages_make_64_nodes_and_as_many_controls() -> None:
    records = simulate(Planted(controls=True), seeds=2, rng=np.random.default_rng(0))
    assert len(records) == 2 * 128
    assert sum(record.order.endswith("F") for record in records) == 2 * 64


def test_a_diverged_node_takes_along_all_that_follow() -> None:
    truth = Planted(stages="DP", diverged=frozenset({("D", 1)}))
    failed = {(r.order, r.seed) for r in simulate(truth, seeds=2, rng=np.random.default_rng(0)) if r.error}
    assert failed == {("D", 1), ("DP", 1)}


def test_the_same_rng_makes_the_same_records() -> None:
    first, second = (simulate(Planted(), seeds=2, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_a_planted_cycle_is_no_contradiction_as_each_order_of_it_is_as_good() -> None:
    truth = Planted(effects={("D", "P"): 0.8, ("P", "Q"): 0.8, ("Q", "D"): 0.8})
    law = derive_law(simulate(truth, seeds=5, rng=np.random.default_rng(0)))
    assert (law.law, law.cycle) == (None, None)
    orders = [chance.order for chance in law.laws if chance.order and chance.probability > 0.01]
    likely = {order.replace("E", "") for order in orders}
    assert likely <= {"DPQ", "PQD", "QDP"}
    assert len(likely) > 1


@pytest.mark.integration
@pytest.mark.parametrize("heavy", [False, True])
def test_a_diverged_seed_and_heavy_tails_make_no_nonsense(heavy: bool) -> None:
    truth = replace(
        Planted.law("DPQ", 0.5), heavy_tails=heavy, diverged=frozenset({("Q", 1), ("DP", 2), ("PQD", 0)})
    )
    for number in range(5):
        law = derive_law(simulate(truth, seeds=4, rng=np.random.default_rng(number)))
        for pair in law.pairs:
            assert pair.verdict != "after"
            assert np.isfinite([pair.effect.mean, pair.effect.low, pair.effect.high]).all()
            assert pair.effect.low <= pair.effect.mean <= pair.effect.high


@pytest.mark.integration
def test_no_effect_gives_an_edge_to_few_pairs() -> None:
    truth = Planted(stages="DP")
    verdicts = [
        pair.verdict
        for number in range(40)
        for pair in derive_law(simulate(truth, seeds=3, rng=np.random.default_rng(number))).pairs
    ]
    assert sum(verdict in ("before", "after") for verdict in verdicts) <= 0.1 * len(verdicts)


def test_all_pairs_are_planted_by_a_law() -> None:
    assert set(Planted.law("QDP", 1.0).effects) == set(itertools.combinations("QDP", 2))
