import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_attainment

from ordercomp.analysis.fronts import FloatArray, attainment_surface

RUNS = [np.array([[1.0, 3.0], [3.0, 1.0]]), np.array([[2.0, 2.0]])]


@st.composite
def several_runs(draw: st.DrawFn) -> list[FloatArray]:
    """One to four runs of up to five rows of small whole costs."""
    rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5)
    return [
        np.array(run, dtype=np.float64).reshape(-1, 2) for run in draw(st.lists(rows, min_size=1, max_size=4))
    ]


def test_surfaces_worked_by_hand() -> None:
    assert attainment_surface(RUNS, 0.5).tolist() == [[1, 3], [2, 2], [3, 1]]
    assert attainment_surface(RUNS, 1.0).tolist() == [[2, 3], [3, 2]]


@given(runs=several_runs(), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_surface_bounds_what_its_share_of_runs_attains(runs: list[FloatArray], share: float) -> None:
    corners = attainment_surface(runs, share)
    points = np.array([(x, y) for x in range(6) for y in range(6)], dtype=float)
    below = [bool(((corners <= point).all(axis=1)).any()) for point in points]
    assert below == [slow_attainment(point, runs) >= share - 1e-9 for point in points]


def test_surface_of_runs_without_rows_is_empty() -> None:
    assert attainment_surface([[], RUNS[1]], 1.0).shape == (0, 2)
    assert attainment_surface([[], RUNS[1]], 0.5).tolist() == [[2, 2]]


def test_surfaces_agree_with_moocore() -> None:
    moocore = pytest.importorskip("moocore")
    rng = np.random.default_rng(0)
    runs = [rng.random((20, 2)) for _ in range(5)]
    sets = np.concatenate([np.full(20, index) for index in range(5)])
    levels = moocore.eaf(np.concatenate(runs), sets=sets)
    for level in range(1, 6):
        theirs = levels[levels[:, 2] == 20.0 * level][:, :2]
        assert attainment_surface(runs, level / 5) == pytest.approx(theirs[np.argsort(theirs[:, 0])])


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="runs must hold at least one run"):
        attainment_surface([], 0.5)
    with pytest.raises(ValueError, match="each run must have 2 objectives, got 3"):
        attainment_surface([[[1, 2, 3]]], 0.5)
    with pytest.raises(ValueError, match="each run must hold no NaN"):
        attainment_surface([[[1, np.nan]]], 0.5)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 0"):
        attainment_surface(RUNS, 0)
