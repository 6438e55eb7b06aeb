import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import slow_front

from ordercomp.analysis.fronts import FloatArray, check_costs, is_nondominated


@st.composite
def cost_matrices(draw: st.DrawFn, *, smallest: int = 0, width: int | None = None) -> FloatArray:
    """Small matrices with many ties, some infinite costs, one to four objectives."""
    rows = draw(st.integers(smallest, 12))
    columns = width or draw(st.integers(1, 4))
    costs = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf])
    return draw(arrays(np.float64, (rows, columns), elements=costs))


def test_front_worked_by_hand_keeps_equal_rows() -> None:
    costs = [[1, 5], [2, 2], [2, 2], [2, 3], [5, 1], [6, 1]]
    assert is_nondominated(costs).tolist() == [True, True, True, False, True, False]


def test_no_rows_give_an_empty_front() -> None:
    for empty in ([], np.empty((0, 3))):
        assert is_nondominated(empty).tolist() == []


@given(costs=cost_matrices())
def test_front_agrees_with_comparing_all_pairs(costs: FloatArray) -> None:
    assert is_nondominated(costs).tolist() == slow_front(costs.tolist())


@given(costs=cost_matrices(), seed=st.integers(0, 99))
def test_front_ignores_row_order(costs: FloatArray, seed: int) -> None:
    shuffle = np.random.default_rng(seed).permutation(len(costs))
    assert (is_nondominated(costs[shuffle]) == is_nondominated(costs)[shuffle]).all()


@given(costs=cost_matrices(smallest=1), seed=st.integers(0, 99))
def test_front_ignores_the_order_of_objectives(costs: FloatArray, seed: int) -> None:
    shuffle = np.random.default_rng(seed).permutation(costs.shape[1])
    assert (is_nondominated(costs[:, shuffle]) == is_nondominated(costs)).all()


def test_bad_costs_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"costs must hold no NaN, got 1 row"):
        is_nondominated([[1, np.nan], [1, 2]])
    with pytest.raises(ValueError, match=r"costs must have shape \(n, m\)"):
        is_nondominated([1, 2, 3])


def test_arguments_stay_as_they_were() -> None:
    costs = np.random.default_rng(0).random((20, 2))
    before = costs.copy()
    is_nondominated(costs)
    assert (costs == before).all()
    assert check_costs(costs) is costs


@pytest.mark.parametrize("width", [2, 3, 4])
def test_front_agrees_with_moocore(width: int) -> None:
    moocore = pytest.importorskip("moocore")
    rng = np.random.default_rng(width)
    a = rng.integers(0, 30, (200, width)).astype(float)
    assert (is_nondominated(a) == moocore.is_nondominated(a, keep_weakly=True)).all()


@pytest.mark.parametrize("kind", ["scattered", "all on the front", "all equal"])
def test_a_hundred_thousand_rows_take_a_tenth_of_a_second(kind: str) -> None:
    costs = np.random.default_rng(0).random((100_000, 2))
    if kind == "all on the front":
        costs[:, 1] = -costs[:, 0]
    if kind == "all equal":
        costs[:] = 1.0
    start = time.process_time()
    is_nondominated(costs)
    assert time.process_time() - start < 0.1
