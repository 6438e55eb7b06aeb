"""The exhaustive check: where does the law stand among all permutations?"""

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.checks import Exhaustive, exhaustive
from ordercomp.analysis.law import LawOptions, derive_law
from ordercomp.sequence import kendall_distance, permutations


def check(values: dict[str, list[float]], laws: list[str]) -> Exhaustive:
    return exhaustive(
        {order: np.array(value) for order, value in values.items()},
        laws,
        method="by hand",
        resamples=2000,
        rng=np.random.default_rng(0),
    )


def test_the_best_order_holds() -> None:
    found = check({"DP": [2.0, 2.1, 1.9], "PD": [1.0, 1.1, 1.0]}, ["DP"] * 3)
    assert (found.rank, found.of, found.regret, found.best, found.outcome) == (1, 2, 0, "DP", "holds")
    assert found.probability_best > 0.95
    assert found.kendall_tau == -1
    assert found.sentence.startswith("DP holds: rank 1 of 2 over 3 seeds, 0.00")


def test_a_clearly_beaten_order_fails() -> None:
    found = check({"DP": [1.0, 1.1, 1.0], "PD": [2.0, 2.1, 1.9]}, ["DP"] * 3)
    assert (found.rank, found.best, found.outcome) == (2, "PD", "fails")
    assert found.regret == pytest.approx(2 - 3.1 / 3)
    assert found.probability_best < 0.05
    assert found.kendall_tau == 1


def test_a_beaten_order_within_the_noise_is_undecided() -> None:
    found = check({"DP": [1.0, 2.0, 1.0], "PD": [2.0, 1.0, 2.0]}, ["DP"] * 3)
    assert (found.rank, found.outcome) == (2, "undecided")


def test_an_order_surely_within_the_margin_of_the_best_holds() -> None:
    assert check({"DP": [1.0, 1.0, 1.01], "PD": [1.05, 1.05, 1.05]}, ["DP"] * 3).outcome == "holds"


def test_an_order_within_the_margin_by_luck_is_undecided() -> None:
    assert check({"DP": [1.0, 2.0, 1.5], "PD": [1.6, 1.0, 1.9]}, ["DP"] * 3).outcome == "undecided"


def test_the_best_of_noise_does_not_hold() -> None:
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(50):
        values = {order: list(rng.normal(0, 0.3, size=4)) for order in permutations("DPQ")}
        best = max(values, key=lambda order: sum(values[order]))
        outcomes.append(check(values, [best] * 4).outcome)
    assert outcomes.count("holds") <= 1


@pytest.mark.parametrize("seeds", [1, 2])
def test_two_seeds_prove_nothing(seeds: int) -> None:
    assert check({"DP": [2.0] * seeds, "PD": [1.0] * seeds}, ["DP"] * seeds).outcome == "undecided"


def test_one_seed_can_refute_nothing_and_knows_no_probability() -> None:
    found = check({"DP": [1.0], "PD": [9.0]}, ["DP"])
    assert found.outcome == "undecided"
    assert found.probability_best is None
    assert "probability" not in found.sentence


def test_each_seed_is_ranked_by_the_law_it_did_not_make() -> None:
    found = check({"DP": [3.0, 1.0], "PD": [1.0, 2.0]}, ["DP", "PD"])
    assert found.regret == 0  # 3 and 2 were chosen, better than either order alone
    assert found.rank == 1


def test_orders_that_differ_by_seed_are_all_named() -> None:
    values = {order: [1.0 * place, 2.0, 3.0] for place, order in enumerate(permutations("DPQ"))}
    found = check(values, ["DQP", "DPQ", "DQP"])
    assert found.orders == ("DQP", "DPQ")
    assert found.sentence.startswith(
        "The orders suggested (DQP, DPQ) differ by seed. Together they are undecided: on average rank 2 of 6"
    )


def test_orders_that_differ_by_seed_never_rank_beyond_the_last() -> None:
    found = check({"PE": [0.0, 2.0], "EP": [2.0, 0.0]}, ["PE", "EP"])
    assert (found.rank, found.of) == (2, 2)


def test_ranking_lists_every_order_with_its_distance() -> None:
    orders = permutations("DPQ")
    found = check({order: [-kendall_distance(order, "DPQ") * 1.0] for order in orders}, ["DPQ"])
    assert found.ranking[0].order == "DPQ"
    assert [ranked.distance for ranked in found.ranking] == [0, 1, 1, 2, 2, 3]
    assert found.kendall_tau == pytest.approx(-1)


def test_nine_seeds_keep_a_third_for_verification() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=9, rng=np.random.default_rng(0))
    law = derive_law(records)
    assert law.verification is not None
    assert law.verification.method == "order from seeds 0, 1, 2, 3, 4, 5, ranked on seeds 6, 7, 8"
    assert {pair.seeds for pair in law.pairs} == {6}
    every = derive_law(records, options=LawOptions(held_out=0))
    assert every.verification is not None
    assert every.verification.method.startswith("cross-fitted")
    assert {pair.seeds for pair in every.pairs} == {9}


def test_seeds_with_a_few_runs_are_not_kept_for_verification() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=8, rng=np.random.default_rng(0))
    partial = [record for record in records if record.seed < 5 or len(record.order) < 3]
    law = derive_law(partial)
    assert law.verification is not None
    assert law.verification.seeds == 5
    assert {pair.seeds for pair in law.pairs} == {8}


def test_a_missing_permutation_leaves_no_verification() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=3, rng=np.random.default_rng(0))
    assert derive_law([record for record in records if record.order != "QPD"]).verification is None


def test_a_failed_permutation_is_worth_nothing_but_ranked() -> None:
    records = simulate(
        Planted(stages="DPQ", diverged=frozenset({("QPD", 0)})), seeds=3, rng=np.random.default_rng(0)
    )
    law = derive_law(records)
    assert law.verification is not None
    assert law.verification.of == 6
    assert any("1 runs failed" in note or "QPD at seed 0" in note for note in law.notes)


def test_verification_looks_at_test_data() -> None:
    records = [
        make_record(order, seed, 0.97 if order == "DP" else 0.9, test_shift=0.0)
        for seed in range(3)
        for order in ("D", "P", "DP", "PD")
    ]
    law = derive_law(records)
    assert law.verification is not None
    assert law.verification.best == "DP"
