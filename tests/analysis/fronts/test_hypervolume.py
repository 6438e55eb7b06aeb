import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_hypervolume

from ordercomp.analysis.fronts.hypervolume import hypervolume
from ordercomp.analysis.fronts.pareto import FloatArray, is_nondominated


@st.composite
def few_costs(draw: st.DrawFn) -> FloatArray:
    """Up to nine rows of two or three small whole costs, with ties."""
    width = draw(st.integers(2, 3))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 5)] * width), max_size=9))
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def test_area_worked_by_hand() -> None:
    assert hypervolume([[1, 3], [2, 1]], [4, 4]) == 3 * 1 + 2 * 2


def test_volume_worked_by_hand() -> None:
    assert hypervolume([[0, 0, 1], [1, 1, 0]], [2, 2, 2]) == 4 + 2 - 1


def test_rows_at_or_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[1, 4], [5, 0], [np.inf, 0]], [4, 4]) == 0.0
    assert hypervolume([], [4, 4]) == 0.0
    assert hypervolume(np.empty((0, 3)), [4, 4, 4]) == 0.0


@given(costs=few_costs())
def test_volume_agrees_with_adding_up_cells(costs: FloatArray) -> None:
    reference = [4.0] * costs.shape[1]
    assert hypervolume(costs, reference) == pytest.approx(slow_hypervolume(costs.tolist(), reference))


@given(costs=few_costs(), seed=st.integers(0, 99))
def test_row_order_doubled_rows_and_swapped_objectives_change_nothing(costs: FloatArray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = np.array([4.0, 5.0, 6.0])[: costs.shape[1]]
    rows = np.concatenate([costs, costs])[rng.permutation(2 * len(costs))]
    swap = rng.permutation(costs.shape[1])
    assert hypervolume(rows[:, swap], reference[swap]) == pytest.approx(hypervolume(costs, reference))


@given(costs=few_costs(), row=st.tuples(*[st.integers(0, 5)] * 3))
def test_one_more_row_never_lowers_it(costs: FloatArray, row: tuple[int, ...]) -> None:
    width = costs.shape[1]
    more = np.concatenate([costs, np.array([row[:width]], dtype=np.float64)])
    assert hypervolume(more, [5.0] * width) >= hypervolume(costs, [5.0] * width)


@pytest.mark.parametrize("width", [2, 3])
def test_it_agrees_with_moocore(width: int) -> None:
    moocore = pytest.importorskip("moocore")
    costs = np.random.default_rng(width).random((500, width))
    assert hypervolume(costs, [0.9] * width) == pytest.approx(moocore.hypervolume(costs, ref=[0.9] * width))


@pytest.mark.parametrize("width", [2, 3])
def test_it_agrees_with_pymoo(width: int) -> None:
    indicators = pytest.importorskip("pymoo.indicators.hv")
    costs = np.random.default_rng(width).random((100, width))
    expected = indicators.HV(ref_point=np.ones(width))(costs)
    assert hypervolume(costs, np.ones(width)) == pytest.approx(expected)


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="reference must be 2 or 3 finite costs"):
        hypervolume([[1, 2, 3, 4]], [5, 5, 5, 5])
    with pytest.raises(ValueError, match="reference must be 2 or 3 finite costs"):
        hypervolume([[1, 2]], [5, np.inf])
    with pytest.raises(ValueError, match="costs must have 3 objectives like reference, got 2"):
        hypervolume([[1, 2]], [5, 5, 5])
    with pytest.raises(ValueError, match="costs must hold no NaN"):
        hypervolume([[np.nan, 2]], [5, 5])
    with pytest.raises(ValueError, match="got -inf"):
        hypervolume([[-np.inf, 2]], [5, 5])


@pytest.mark.parametrize("width", [2, 3])
def test_ten_thousand_rows_of_a_front_take_a_tenth_of_a_second(width: int) -> None:
    costs = np.abs(np.random.default_rng(0).normal(size=(10_000, width)))
    costs = 1 - costs / np.linalg.norm(costs, axis=1)[:, None]
    start = time.process_time()
    hypervolume(costs, np.ones(width))
    assert time.process_time() - start < 0.1


def test_a_million_points_take_less_than_a_second_for_front_and_hypervolume() -> None:
    costs = np.random.default_rng(0).random((1_000_000, 2))
    start = time.process_time()
    is_nondominated(costs)
    hypervolume(costs, (1.0, 1.0))
    assert time.process_time() - start < 1.0
