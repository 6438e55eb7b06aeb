import math
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record, record_value
from hypothesis import given
from hypothesis import strategies as st

from ordercomp.analysis.fronts import (
    Scale,
    best_reductions,
    candidates,
    front,
    front_value,
)

SOFT = Scale(tolerance=0.1)
HARD = Scale(tolerance=0.1, shape="hard")
accuracies = st.floats(0.1, 1.0)
reductions = st.floats(1.0, 2000.0)
operating_points = st.lists(st.tuples(accuracies, reductions), min_size=1, max_size=6)


def test_lossless_network_is_worth_its_doublings() -> None:
    assert record_value(make_record("DP", accuracy=0.98, bitops_cr=64.0)) == pytest.approx(6.0)


def test_ten_points_of_loss_cost_a_factor_e_when_soft_and_everything_when_hard() -> None:
    record = make_record("DP", accuracy=0.88, bitops_cr=64.0)
    assert record_value(record, scale=SOFT) == pytest.approx(6.0 / math.e)
    assert record_value(record, scale=HARD) == pytest.approx(0.0)


def test_hard_value_is_the_hypervolume_of_the_box() -> None:
    record = make_record("DE", points=[(0.96, 8.0), (0.93, 32.0)])
    assert record_value(record, scale=HARD) == pytest.approx(0.8 * 3 + 0.5 * 2)


def test_soft_value_tells_networks_far_beyond_the_tolerance_apart() -> None:
    better, worse = make_record("DQ", accuracy=0.55), make_record("QD", accuracy=0.50)
    assert record_value(better) > record_value(worse) > 0


@pytest.mark.parametrize("scale", [SOFT, HARD])
def test_gain_is_worth_its_share_of_the_tolerance_and_no_more(scale: Scale) -> None:
    record = make_record("DP", accuracy=0.95, bitops_cr=16.0, baseline=0.80)
    assert record_value(record, scale=scale) == pytest.approx(4 * 2.5)


def test_gain_of_accuracy_is_worth_more_than_no_loss() -> None:
    assert record_value(make_record("D", accuracy=0.99)) > record_value(make_record("D", accuracy=0.98))


def test_failed_record_and_no_record_are_worth_nothing() -> None:
    assert record_value(make_record("DP", error="diverged")) == 0.0
    assert front_value([]) == 0.0
    assert front([]) == []


def test_reduction_below_one_adds_nothing() -> None:
    assert record_value(make_record("E", accuracy=0.98, bitops_cr=0.9)) == 0.0


def test_value_is_reported_on_test_data_but_selected_on_validation() -> None:
    record = make_record("DE", points=[(0.97, 8.0), (0.96, 8.0)])
    lucky = replace(record.points[1], test_accuracy=1.0)  # dominated on validation, best on test
    record = replace(record, points=(record.points[0], lucky))
    assert record_value(record, scale=SOFT) == pytest.approx(3 * math.exp(-0.1))
    assert [one.accuracy for one in front([record])] == [0.97]


def test_validation_split_ignores_test_accuracy() -> None:
    record = make_record("DP", accuracy=0.98, bitops_cr=16.0)
    record = replace(record, points=(replace(record.points[0], test_accuracy=0.5),))
    assert record_value(record, scale=Scale(split="validation")) == pytest.approx(4.0)


@given(points=operating_points, extra=st.tuples(accuracies, reductions))
def test_one_more_operating_point_never_lowers_the_validation_value(
    points: list[tuple[float, float]], extra: tuple[float, float]
) -> None:
    scale = Scale(split="validation")
    before = record_value(make_record("DE", points=points), scale=scale)
    assert record_value(make_record("DE", points=[*points, extra]), scale=scale) >= before - 1e-9


@given(points=operating_points, seed=st.integers(0, 99))
def test_value_ignores_the_order_of_points(points: list[tuple[float, float]], seed: int) -> None:
    shuffled = [points[i] for i in np.random.default_rng(seed).permutation(len(points))]
    one, other = (record_value(make_record("DE", points=some)) for some in (points, shuffled))
    assert one == pytest.approx(other)


@given(points=operating_points)
def test_soft_value_is_the_weighted_average_of_the_reduction_at_each_loss(
    points: list[tuple[float, float]],
) -> None:
    record = make_record("DE", points=points)
    weights = (np.arange(4000) + 0.5) / 4000 * 1.5  # every weight up to that of a gain of 5 points
    losses = np.where(weights > 1, 0.1 * (1 - weights), -0.1 * np.log(weights))
    within = [(0.98 - accuracy, math.log2(reduction)) for accuracy, reduction in points]
    reached = [max((up for lost, up in within if lost <= loss + 1e-12), default=0.0) for loss in losses]
    mean = float(np.mean(np.maximum(reached, 0.0))) * 1.5
    assert record_value(record, scale=SOFT) == pytest.approx(mean, abs=0.05)


def test_front_rises_in_reduction_and_keeps_equal_points() -> None:
    records = [
        make_record("DP", 0, 0.95, 8.0),
        make_record("PD", 1, 0.95, 8.0),
        make_record("Q", 0, 0.97, 4.0),
    ]
    chosen = front([*records, make_record("P", 0, 0.90, 2.0)])
    assert [one.record.order for one in chosen] == ["Q", "DP", "PD"]


def test_best_reduction_is_selected_on_validation_and_reported_on_test() -> None:
    record = make_record("DPQE", points=[(0.978, 100.0), (0.975, 400.0), (0.961, 900.0)], test_shift=-0.01)
    best = best_reductions([record])
    reached = {tolerance: one.bitops_cr for tolerance, one in best.items() if one}
    assert reached == {0.002: 100.0, 0.006: 400.0, 0.01: 400.0, 0.02: 900.0}
    assert best[0.002] is not None
    assert best[0.002].reported_accuracy == pytest.approx(0.968)


def test_best_reduction_is_none_where_nothing_is_good_enough() -> None:
    assert best_reductions([make_record("DP", accuracy=0.5)]) == dict.fromkeys((0.002, 0.006, 0.01, 0.02))


def test_ties_of_the_best_reduction_go_to_the_smaller_loss_then_the_earlier_record() -> None:
    records = [
        make_record("DP", 0, 0.970, 9.0),
        make_record("PD", 0, 0.975, 9.0),
        make_record("QD", 0, 0.975, 9.0),
    ]
    best = best_reductions(records, tolerances=[0.02])[0.02]
    assert best is not None
    assert best.record.order == "PD"


def test_conventions_are_never_mixed() -> None:
    full = make_record("DP", conventions={"honest": 0.5})
    scale = Scale(convention="honest")
    assert candidates([full], scale=scale)[0].bitops_cr == 32.0
    with pytest.raises(ValueError, match=r"convention 'honest' must be in every point, but record 'PD'"):
        candidates([full, make_record("PD")], scale=scale)


def test_impossible_reduction_is_refused_with_its_record() -> None:
    with pytest.raises(ValueError, match=r"point key 'bitops_cr' must be positive, got 0.0"):
        make_record("DP", bitops_cr=0.0)
    with pytest.raises(ValueError, match=r"bitops_cr must be positive and finite, got 0.0 in record 'DP'"):
        record_value(make_record("DP", conventions={"honest": 0.0}), scale=Scale(convention="honest"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must lie in"),
        ({"tolerance": math.nan}, "tolerance must lie in"),
        ({"shape": "round"}, "shape must be one of"),
        ({"split": "train"}, "split must be one of"),
        ({"convention": "mine"}, "convention must be one of"),
    ],
)
def test_scale_refuses_nonsense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scale(**wrong)  # type: ignore[arg-type]
