"""The exhaustive check: where does an order stand among all that were run?"""

import numpy as np
import pytest

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.checks import Exhaustive, exhaustive
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import kendall_distance, permutations


def check(
    values: dict[str, float], order: str, *sorts: str, spread: float = 0.05, seeds: int = 3
) -> Exhaustive:
    means = np.array(list(values.values()))
    stages = "".join(dict.fromkeys("".join(values)))
    table = ValueTable(stages, tuple(values), tuple(range(seeds)), means[:, None] + np.zeros(seeds))
    noise = np.random.default_rng(0).standard_normal((2000, len(means)))
    found = exhaustive(table, means + spread * noise, order, sorts)
    assert found is not None
    return found


def test_the_best_order_holds() -> None:
    found = check({"D": 9.0, "DP": 2.0, "PD": 1.0}, "DP", "DP")
    assert (found.rank, found.of, found.regret, found.best, found.outcome) == (1, 2, 0, "DP", "holds")
    assert found.probability_best > 0.95
    assert found.kendall_tau == -1
    assert found.sentence.startswith("DP holds: rank 1 of 2 orders that were run, over 3 seeds, 0.00")
    assert found.sentence.endswith("DP, of rank 1, alone keeps every decided pair.")


def test_a_clearly_beaten_order_fails() -> None:
    found = check({"DP": 1.0, "PD": 2.0}, "DP")
    assert (found.rank, found.best, found.outcome) == (2, "PD", "fails")
    assert found.regret == pytest.approx(1, abs=0.01)
    assert found.probability_best < 0.05
    assert found.kendall_tau == 1


def test_a_beaten_order_within_the_noise_is_undecided_and_one_within_the_margin_holds() -> None:
    assert check({"DP": 1.0, "PD": 1.2}, "DP", spread=0.3).outcome == "undecided"
    assert check({"DP": 1.0, "PD": 1.04}, "DP", spread=0.01).outcome == "holds"


@pytest.mark.parametrize("seeds", [1, 2])
def test_two_seeds_prove_nothing_and_know_no_probability(seeds: int) -> None:
    found = check({"DP": 2.0, "PD": 1.0}, "DP", seeds=seeds)
    assert (found.outcome, found.probability_best) == ("undecided", None)
    assert "probability" not in found.sentence


def test_the_sorts_of_the_decided_pairs_are_ranked() -> None:
    values = {order: -1.0 * place for place, order in enumerate(permutations("DPQ"))}
    found = check(values, "DPQ", "PDQ", "DPQ")
    assert (found.orders, found.ranks) == (("DPQ", "PDQ"), (1, 3))
    assert found.sentence.endswith("The 2 that keep every decided pair have rank 1, 3.")


def test_where_the_order_was_not_run_the_best_of_the_sorts_stands_for_it() -> None:
    found = check({"DPQ": 1.0, "PDQ": 2.0, "QDP": 3.0}, "DQP", "DPQ", "DQP", "PDQ")
    assert (found.order, found.rank, found.of) == ("PDQ", 2, 3)


def test_one_order_alone_has_no_rank() -> None:
    table = ValueTable("DP", ("DP", "D"), (0, 1, 2), np.ones((2, 3)))
    assert exhaustive(table, np.ones((5, 2)), "DP") is None
    assert exhaustive(table, np.ones((0, 2)), "DP") is None


def test_ranking_lists_every_order_with_its_distance() -> None:
    values = {order: -1.0 * kendall_distance(order, "DPQ") for order in permutations("DPQ")}
    found = check(values, "DPQ", spread=1e-6)
    assert found.ranking[0].order == "DPQ"
    assert [ranked.distance for ranked in found.ranking] == [0, 1, 1, 2, 2, 3]
    assert found.kendall_tau == pytest.approx(-1, abs=0.1)


def test_orders_that_a_race_dropped_are_ranked_too() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=4, rng=np.random.default_rng(0))
    raced = [record for record in records if record.seed < 3 or record.order != "QPD"]
    law = derive_law(raced)
    assert law.verification is not None
    assert (law.verification.rank, law.verification.of, law.verification.orders) == (1, 6, ("DPQ",))


def test_a_failed_order_is_worth_nothing_but_ranked() -> None:
    truth = Planted(stages="DPQ", diverged=frozenset({("QPD", 0)}))
    law = derive_law(simulate(truth, seeds=3, rng=np.random.default_rng(0)))
    assert law.verification is not None
    assert law.verification.of == 6
    assert any("1 runs failed" in note for note in law.notes)


def test_orders_that_the_model_alone_tells_of_are_not_ranked() -> None:
    values = {order: -1.0 * place for place, order in enumerate(permutations("DPQ"))}
    found = check({**values, "PDQ": float("nan")}, "DPQ", seeds=1)
    assert (found.of, found.seeds) == (5, 1)
    assert "over 1 seed, " in found.sentence
