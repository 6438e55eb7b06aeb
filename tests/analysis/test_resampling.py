"""Small-sample statistics."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ordercomp.analysis.statistics import (
    Prior,
    estimate,
    holm,
    kendall_tau,
    row_scores,
    sign_flip_p,
    variance_prior,
)

NONE = Prior(0.0, 0.0)
NAN = float("nan")


def test_row_scores_average_what_is_there_and_drop_empty_rows() -> None:
    table = np.array([[1.0, 3.0], [NAN, 5.0], [NAN, NAN]])
    assert row_scores(table).tolist() == [2.0, 5.0]
    assert row_scores(np.empty((3, 0))).size == 0


def test_without_a_prior_the_interval_is_students() -> None:
    scores = np.array([0.1, 0.4, 0.3, 0.6])
    found = estimate(scores, prior=NONE, level=0.95, bound=10)
    expected = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.p_value == pytest.approx(stats.ttest_1samp(scores, 0).pvalue)
    assert found.probability == pytest.approx(1 - found.p_value / 2)


def test_one_score_leaves_everything_possible() -> None:
    found = estimate(np.array([0.7]), prior=NONE, level=0.95, bound=4)
    assert (found.mean, found.low, found.high, found.probability, found.p_value) == (0.7, -4, 4, 0.5, 1)
    assert np.isnan(found.error)


def test_no_score_says_nothing() -> None:
    found = estimate(np.empty(0), prior=NONE, level=0.95, bound=4)
    assert (found.mean, found.low, found.high, found.probability, found.p_value) == (0, -4, 4, 0.5, 1)


def test_an_interval_stays_within_what_is_possible() -> None:
    found = estimate(np.array([-3.0, 3.0]), prior=NONE, level=0.95, bound=4)
    assert (found.low, found.high) == (-4, 4)


def test_equal_scores_leave_no_doubt() -> None:
    found = estimate(np.array([0.5, 0.5, 0.5]), prior=NONE, level=0.95, bound=4)
    assert (found.low, found.high, found.probability, found.p_value) == (0.5, 0.5, 1, 0)
    zero = estimate(np.zeros(3), prior=NONE, level=0.95, bound=4)
    assert (zero.probability, zero.p_value) == (0.5, 1)


def test_a_prior_raises_small_variances_and_adds_freedom_and_leaves_wild_ones_alone() -> None:
    assert Prior(2.0, 4.0).moderate(0.5, 2) == pytest.approx(((2 * 0.5 + 4 * 2) / 6, 6))
    assert Prior(2.0, 4.0).moderate(8.0, 2) == (8.0, 2)


def test_like_variances_are_shared_up_to_the_cap() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 2, size=6) for _ in range(300)]
    found = variance_prior(samples, cap=4)
    assert found.dof == 4
    assert variance_prior(samples, cap=1e6).variance == pytest.approx(4, rel=0.1)


def test_unlike_variances_are_hardly_shared() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 10.0 ** rng.uniform(-2, 2), size=6) for _ in range(300)]
    assert variance_prior(samples, cap=4).dof < 1


def test_the_prior_recovers_its_own_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    scales = np.sqrt(5 / rng.chisquare(5, size=4000))
    samples = [rng.normal(0, scale, size=5) for scale in scales]
    found = variance_prior(samples, cap=100)
    assert found.dof == pytest.approx(5, rel=0.2)
    assert found.variance == pytest.approx(1, rel=0.1)


def test_two_samples_share_nothing() -> None:
    assert variance_prior([np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([1.0])], cap=4) == NONE


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_sign_flips_cannot_fall_below_their_floor(count: int) -> None:
    assert sign_flip_p(np.ones(count), rng=np.random.default_rng(0)) == pytest.approx(2.0 ** (1 - count))


def test_sign_flip_counts_patterns_as_extreme() -> None:
    scores = np.array([1.0, 2.0, -0.5, 3.0])
    sums = [abs(np.dot(signs, scores)) for signs in itertools.product((1, -1), repeat=4)]
    expected = np.mean([total >= 5.5 for total in sums])
    assert sign_flip_p(scores, rng=np.random.default_rng(0)) == pytest.approx(expected)
    assert sign_flip_p(np.empty(0), rng=np.random.default_rng(0)) == 1


def test_many_scores_are_flipped_by_lot() -> None:
    scores = np.random.default_rng(3).normal(0.3, 1, size=25)
    drawn = sign_flip_p(scores, rng=np.random.default_rng(0))
    assert drawn == pytest.approx(stats.ttest_1samp(scores, 0).pvalue, abs=0.03)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_treats_the_smallest_like_bonferroni(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= 1
    assert min(holm(p_values)) == pytest.approx(min(1, min(p_values) * len(p_values)))


def test_kendall_s_tau_is_that_of_scipy_with_ties_too() -> None:
    first, second = np.random.default_rng(0).integers(0, 6, (2, 24))
    assert kendall_tau(first, second) == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)
    assert np.isnan(kendall_tau([1.0, 1.0], [1.0, 2.0]))
