import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_hypervolume

from ordercomp.analysis.fronts import FloatArray, hypervolume, is_nondominated


@st.composite
def few_costs(draw: st.DrawFn) -> FloatArray:
    """Up to nine rows of two small whole costs, with ties."""
    rows = draw(st.lists(st.tuples(*[st.integers(0, 5)] * 2), max_size=9))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def test_area_worked_by_hand() -> None:
    assert hypervolume([[1, 3], [2, 1]], [4, 4]) == 3 * 1 + 2 * 2


def test_rows_at_or_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[1, 4], [5, 0], [np.inf, 0]], [4, 4]) == 0.0
    assert hypervolume([], [4, 4]) == 0.0
    assert hypervolume(np.empty((0, 2)), [4, 4]) == 0.0


@given(costs=few_costs())
def test_area_agrees_with_adding_up_cells(costs: FloatArray) -> None:
    reference = [4.0, 4.0]
    assert hypervolume(costs, reference) == pytest.approx(slow_hypervolume(costs.tolist(), reference))


@given(costs=few_costs(), seed=st.integers(0, 99))
def test_row_order_doubled_rows_and_swapped_objectives_change_nothing(costs: FloatArray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = np.array([4.0, 5.0])
    rows = np.concatenate([costs, costs])[rng.permutation(2 * len(costs))]
    swap = rng.permutation(2)
    assert hypervolume(rows[:, swap], reference[swap]) == pytest.approx(hypervolume(costs, reference))


@given(costs=few_costs(), row=st.tuples(*[st.integers(0, 5)] * 2))
def test_one_more_row_never_lowers_it(costs: FloatArray, row: tuple[int, int]) -> None:
    more = np.concatenate([costs, np.array([row], dtype=np.float64)])
    assert hypervolume(more, [5.0, 5.0]) >= hypervolume(costs, [5.0, 5.0])


def test_it_agrees_with_moocore() -> None:
    moocore = pytest.importorskip("moocore")
    costs = np.random.default_rng(2).random((500, 2))
    assert hypervolume(costs, [0.9, 0.9]) == pytest.approx(moocore.hypervolume(costs, ref=[0.9, 0.9]))


def test_it_agrees_with_pymoo() -> None:
    indicators = pytest.importorskip("pymoo.indicators.hv")
    costs = np.random.default_rng(2).random((100, 2))
    expected = indicators.HV(ref_point=np.ones(2))(costs)
    assert hypervolume(costs, np.ones(2)) == pytest.approx(expected)


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="reference must be 2 finite costs"):
        hypervolume([[1, 2, 3]], [5, 5, 5])
    with pytest.raises(ValueError, match="reference must be 2 finite costs"):
        hypervolume([[1, 2]], [5, np.inf])
    with pytest.raises(ValueError, match="costs must have 2 objectives like reference, got 3"):
        hypervolume([[1, 2, 3]], [5, 5])
    with pytest.raises(ValueError, match="costs must hold no NaN"):
        hypervolume([[np.nan, 2]], [5, 5])
    with pytest.raises(ValueError, match="got -inf"):
        hypervolume([[-np.inf, 2]], [5, 5])


def test_ten_thousand_rows_of_a_front_take_a_tenth_of_a_second() -> None:
    costs = np.abs(np.random.default_rng(0).normal(size=(10_000, 2)))
    costs = 1 - costs / np.linalg.norm(costs, axis=1)[:, None]
    start = time.process_time()
    hypervolume(costs, np.ones(2))
    assert time.process_time() - start < 0.1


@pytest.mark.integration
def test_a_million_points_take_less_than_a_second_for_front_and_hypervolume() -> None:
    costs = np.random.default_rng(0).random((1_000_000, 2))
    start = time.process_time()
    is_nondominated(costs)
    hypervolume(costs, (1.0, 1.0))
    assert time.process_time() - start < 1.0
