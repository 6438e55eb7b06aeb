"""The answer on tables with a planted truth, and its parts worked out by hand."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from ordercomp.analysis.answer import (
    Answer,
    answer_of,
    chances_of_best,
    derive_answer,
    lower_bounds,
    mixing,
    order_matters,
    precedence_of,
    rounded,
    stage_worth,
)
from ordercomp.analysis.order_model import Effort
from ordercomp.analysis.values import LOSSES, Hint, ValueTable
from ordercomp.codec import decode, encode, format_json
from ordercomp.jobs.recordings import load_recorded
from ordercomp.sequence import permutations, subsets

FloatArray = npt.NDArray[np.float64]
QUICK = Effort(draws=100)
ORDERS = tuple(permutations("DPQE"))
LATE = np.array([order.index("E") for order in ORDERS], dtype=float)  # best: E last


def table(values: FloatArray, floor: float | None = None) -> ValueTable:
    return ValueTable("DPQE", ORDERS, tuple(range(values.shape[1])), values, floor)


def noisy(truth: FloatArray, seeds: int, noise: float = 0.3, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    level = rng.standard_normal(seeds)
    return truth[:, None] + level + noise * rng.standard_normal((len(truth), seeds))


def test_the_best_set_is_what_the_truth_cannot_be_told_from() -> None:
    answer = answer_of(table(noisy(LATE, 5)), effort=QUICK)
    best = {order for order in ORDERS if order.endswith("E")}
    assert set(answer.best_set) <= best
    assert answer.recommended in best
    assert {("D", "E"), ("P", "E"), ("Q", "E")} <= set(answer.precedence)
    assert answer.order_matters is not None
    assert answer.order_matters.p < 1e-6
    assert answer.regret is not None
    assert answer.regret.random_order == pytest.approx(1.5, abs=0.4)
    assert answer.regret.expected < 0.3
    assert answer.scores_explain is not None
    assert answer.scores_explain > 0.8


def test_orders_are_excluded_exactly_where_their_interval_leaves_zero() -> None:
    answer = answer_of(table(noisy(LATE, 4)), effort=QUICK)
    for order, standing in answer.standings.items():
        assert (standing.interval[0] == 0) == (order in answer.best_set)
        assert standing.interval[0] <= standing.behind <= standing.interval[1]
    assert sum(one.probability_best for one in answer.standings.values()) == pytest.approx(1)


def test_without_an_effect_hardly_any_order_is_excluded() -> None:
    kept = [
        len(answer_of(table(noisy(np.zeros(24), 4, 0.7, seed)), effort=QUICK).best_set) for seed in range(5)
    ]
    assert np.mean(kept) > 22


def test_a_single_seed_tells_nothing() -> None:
    answer = answer_of(table(noisy(LATE, 1, 0.01)), effort=QUICK)
    assert (answer.recommended, answer.best_set, answer.regret) == (None, (), None)
    assert answer.seeds_needed == 2
    assert encode(answer)["recommended"] is None


def test_two_halves_of_the_orders_at_a_seed_each_are_answered_with_wide_bounds() -> None:
    values, half = noisy(LATE, 2, 0.7), np.arange(24) % 2
    values[half[:, None] == np.arange(2)[None]] = np.nan
    few, many = (answer_of(table(some), effort=QUICK) for some in (values, noisy(LATE, 8, 0.7)))
    assert few.regret is not None
    assert many.regret is not None
    assert few.regret.upper95 > 1.5 * many.regret.upper95
    assert len(few.best_set) > len(many.best_set)
    assert not few.decided


def test_where_hardly_any_network_loses_so_little_nothing_is_recommended() -> None:
    values = np.zeros((24, 5))
    values[ORDERS.index("DPQE"), :2] = 3.0
    answer = answer_of(table(values, floor=0.0), effort=QUICK)
    assert (answer.recommended, answer.best_set, answer.seeds_needed) == (None, (), None)


def test_a_half_that_was_not_run_at_a_seed_is_filled_in_by_the_model() -> None:
    values = noisy(LATE, 6)
    half = np.arange(24) % 2
    values[half[:, None] == np.arange(6)[None] % 2] = np.nan
    answer = answer_of(table(values), effort=QUICK)
    assert answer.recommended is not None
    assert answer.recommended.endswith("E")
    assert {one.seeds for one in answer.standings.values()} == {3}


def test_an_order_that_was_run_at_a_lucky_seed_only_is_no_better_for_it() -> None:
    values = noisy(LATE, 5, 0.1)
    lucky = np.full((24, 1), np.nan)
    lucky[ORDERS.index("EPQD")] = values.max() + 3  # at a seed at which all orders would have gained as much
    lucky[ORDERS.index("EQPD")] = values.max() + 3
    answer = answer_of(table(np.hstack([values, lucky])), effort=QUICK)
    assert "EPQD" not in answer.best_set


def test_a_noisy_order_is_not_judged_by_quiet_ones() -> None:
    truth = LATE.copy()
    wild = ORDERS.index("DPQE")
    values = noisy(truth, 3, 0.05)
    values[wild] = truth[wild] + np.array([2.0, -1.0, -2.5])
    assert "DPQE" in answer_of(table(values), effort=QUICK).best_set


def test_values_at_the_floor_are_this_or_less() -> None:
    truth = np.where(LATE == 3, 3.0, -4.0)
    values = np.maximum(noisy(truth, 4), 0.0)
    answer = answer_of(table(values, floor=0.0), effort=QUICK)
    assert set(answer.best_set) <= {order for order in ORDERS if order.endswith("E")}
    assert answer.regret is not None
    assert answer.regret.random_order < 4  # nothing is further behind than the floor


def test_the_same_table_gives_the_same_answer() -> None:
    values = noisy(LATE, 3)
    assert answer_of(table(values), effort=QUICK) == answer_of(table(values), effort=QUICK)


def test_ties_share_the_chance_to_be_best() -> None:
    draws = np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    assert chances_of_best(draws).tolist() == [0.75, 0.25, 0.0]


def test_what_lies_behind_in_every_draw_is_behind_and_what_may_be_best_is_not() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([5.0, 5.0, 3.0]) + 0.1 * rng.standard_normal((4000, 3))
    least = lower_bounds(draws, 0.05)
    # one of two others is ahead by 2 with a standard deviation of 0.14; both together take 1.95 of these
    assert least.tolist()[:2] == [0.0, 0.0]
    assert least[2] == pytest.approx(2 - 1.95 * 0.1414, abs=0.02)


def test_hopeless_chains_widen_no_band() -> None:
    rng = np.random.default_rng(0)
    close = np.array([5.0, 4.7]) + 0.1 * rng.standard_normal((2000, 2))
    hopeless = 0.1 * rng.standard_normal((2000, 40))
    alone, among = (lower_bounds(draws, 0.05) for draws in (close, np.hstack([close, hopeless])))
    assert alone.tolist() == among[:2].tolist()
    assert alone[1] > 0
    assert (among[2:] > 4).all()


def test_what_is_left_holds_the_best_in_all_but_the_risk_of_the_draws() -> None:
    draws = np.array([5.0, 4.0, 4.0, 0.0]) + 0.01 * np.random.default_rng(0).standard_normal((1000, 4))
    draws[:40, 1] += 2.0  # each of two may leave, as it is the best in less than 5 %, but not both
    draws[40:70, 2] += 2.0
    assert (lower_bounds(draws, 0.05) == 0).tolist() == [True, True, False, False]


def test_each_chain_may_have_a_risk_of_its_own() -> None:
    draws = np.array([5.0, 4.35, 4.35]) + 0.2 * np.random.default_rng(0).standard_normal((4000, 3))
    assert (lower_bounds(draws, np.array([0.05, 0.05, 0.01])) == 0).tolist() == [True, False, True]


def test_a_chain_that_ran_at_one_seed_is_out_only_where_it_is_far_behind() -> None:
    rng = np.random.default_rng(2)
    sets = []
    for seeds in (1, 5):  # of the last chain, which lies one doubling behind
        values = np.array([[8.0], [8.0], [7.0]]) + 0.35 * rng.standard_normal((3, 5))
        values[2] -= values[2].mean() - 7.0  # at every number of seeds
        values[2, seeds:] = np.nan
        table = ValueTable("PQ", ("PQ", "QP", "P"), tuple(range(5)), values, floor=None)
        sets.append(answer_of(table).best_set)
    assert "P" in sets[0]
    assert "P" not in sets[1]


@pytest.mark.integration
def test_orders_as_good_as_the_best_are_excluded_hardly_ever() -> None:
    out = [
        order in answer.excluded
        for seed in range(12)
        for answer in [answer_of(table(noisy(LATE, 4, 0.5, seed)), effort=QUICK)]
        for order in ORDERS
        if order.endswith("E")
    ]
    assert np.mean(out) < 0.1


def test_precedence_is_what_all_orders_of_the_set_share() -> None:
    assert precedence_of(["DPQE", "DQPE"], "DPQE") == (
        ("D", "P"),
        ("D", "Q"),
        ("D", "E"),
        ("P", "E"),
        ("Q", "E"),
    )
    assert precedence_of(["DP", "PD"], "DP") == ()


def test_the_test_of_order_is_the_two_way_f_test_where_noise_is_independent() -> None:
    values = np.array([[1.0, 2.0, 3.5], [2.0, 2.5, 4.0], [0.5, 2.2, 3.0]])
    # by hand: between 2 and 4 degrees of freedom, sums of squares by the usual table
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    between = 3 * ((rows - values.mean()) ** 2).sum() / 2
    rest = ((values - rows[:, None] - columns + values.mean()) ** 2).sum() / 4
    assert order_matters(values, np.ones(3)) == pytest.approx(stats.f.sf(between / rest, 2, 4))


def test_unequal_noise_weakens_the_test_of_order() -> None:
    values = noisy(LATE, 3, 2.0)
    plain, corrected = order_matters(values, np.ones(24)), order_matters(values, np.r_[np.ones(23), 50.0])
    assert plain is not None
    assert corrected is not None
    assert corrected > plain


def test_a_stage_is_worth_what_the_best_chain_without_it_lacks() -> None:
    draws = np.array([[5.0, 4.0, 4.5], [6.0, 6.0, 3.0]])
    worth = stage_worth(draws, ["DQ", "D", "Q"], "DPQ")
    assert set(worth) == {"D", "Q"}  # no chain holds P
    assert worth["D"].behind == pytest.approx((0.5 + 3.0) / 2)
    assert worth["Q"].behind == pytest.approx((1.0 + 0.0) / 2)


def test_shorter_chains_compete_with_orders_of_all_stages() -> None:
    """Q alone reaches 6 doublings at every seed, each further stage costs one: it is taken, the rest told."""
    chains = [chain for subset in subsets("DPQ") for chain in permutations(subset)]
    truth = np.array([7.0 - len(chain) if "Q" in chain else 0.5 for chain in chains])
    values = noisy(truth, 4, 0.1)
    answer = answer_of(
        ValueTable("DPQ", tuple(chains), tuple(range(4)), np.maximum(values, 0.0), 0.0), effort=QUICK
    )
    assert (answer.recommended, answer.best_set) == ("Q", ("Q",))
    assert answer.all_stages is not None
    assert set(answer.all_stages.standings) == set(permutations("DPQ"))
    assert answer.worth["Q"].behind > 4
    assert answer.worth["D"].behind == pytest.approx(0, abs=0.05)
    assert answer.regret is not None
    assert answer.regret.random_order == pytest.approx(2.0, abs=0.3)  # an order of all three stages


def test_an_order_that_is_first_at_every_seed_is_never_out() -> None:
    """Its neighbors lose: an odd order is believed, as the simplest comparison of means would."""
    for seed in range(5):
        truth = LATE.copy()
        truth[ORDERS.index("EPQD")] = LATE.max() + 1.5
        values = noisy(truth, 3, 0.25, seed)
        answer = answer_of(table(values), effort=QUICK)
        assert "EPQD" in answer.best_set


def test_runs_that_agree_have_an_rhat_near_one_and_runs_apart_do_not() -> None:
    rng = np.random.default_rng(0)
    rhat, effective = mixing(rng.standard_normal((4, 200)))
    assert rhat == pytest.approx(1.0, abs=0.02)
    assert 400 < effective < 1300
    apart = rng.standard_normal((4, 200)) + np.array([0, 0, 3, 3])[:, None]
    assert mixing(apart)[0] > 1.5
    slow = np.cumsum(rng.standard_normal((4, 200)), axis=1)
    assert mixing(slow)[1] < 60


@pytest.mark.integration
def test_the_recordings_hold_an_answer_at_every_loss() -> None:
    answer = derive_answer(load_recorded("fashion-mnist"), stages="DPQE", effort=Effort(chains=2, draws=60))
    assert [one.loss for one in answer.by_loss] == list(LOSSES)
    assert len(answer.by_setting) == 2
    assert answer.asked == answer.by_loss[LOSSES.index(0.02)]
    assert "DQPE" in answer.best_set
    assert {"PEQD", "QEPD"} <= set(answer.asked.excluded)
    told = encode(rounded(answer))
    assert set(told["excluded"]) | set(told["best_set"]) == set(told["orders"]) > set(ORDERS)
    assert len(told["orders"]) == 4 + 12 + 24 + 24
    assert set(told["all_stages"]["orders"]) == set(ORDERS)
    assert told["by_rung"][0]["rung"].startswith("D(depth=0.5)")


@pytest.mark.integration
def test_an_answer_is_written_and_read_back_whole() -> None:
    answer = rounded(
        derive_answer(load_recorded("fashion-mnist"), stages="DPQE", effort=Effort(chains=2, draws=60))
    )
    assert decode(json.loads(format_json(answer)), Answer, "answer") == answer


def test_whether_order_matters_is_a_number_where_rounding_alone_is_left() -> None:
    latin = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.3, 0.1]])  # no order is better than another
    assert order_matters(latin, np.ones(3)) == pytest.approx(1.0)
    assert order_matters(np.tile([0.1, 0.7, 0.2], (3, 1)), np.ones(3)) is None


def test_a_chain_that_a_copy_alone_speaks_for_competes_and_is_not_recommended() -> None:
    rng = np.random.default_rng(0)
    truth = rng.permutation(24.0 * np.arange(1, 25) / 24)
    rise = np.argsort(truth)
    ran, best = rise[:-1], rise[-1]
    values = (truth[:, None] + rng.normal(0, 0.2, (24, 3)))[ran]
    told = ValueTable("DPQE", tuple(ORDERS[k] for k in ran), (0, 1, 2), values, floor=None)
    hinted = told.hinted(Hint(dict(zip(ORDERS, truth + 10, strict=True))))
    answer = answer_of(hinted)
    assert answer.recommended == ORDERS[rise[-2]]
    assert answer.standings[ORDERS[best]].seeds == 0
    assert answer.probability_best[ORDERS[best]] > 0.5
    assert answer.regret is not None
    assert answer.regret.expected > 0.2  # the best may be the one that was not run
    assert told.hinted(Hint()) is told
