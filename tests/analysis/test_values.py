"""The value of an order: worked out by hand on a few points, and what takes no part in it."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.values import (
    ValueTable,
    check_loss,
    front_reduction,
    networks_of,
    order_values,
    settings_of,
)
from ordercomp.records import Record


def test_a_point_counts_from_its_own_loss_on() -> None:
    losses, heights = np.array([0.02, 0.03]), np.array([4.0, 8.0])
    # window 1 % to 3 %: nothing until 2 %, then 4 doublings; what is reached at its very end has no width
    assert front_reduction(losses, heights, loss=0.02) == pytest.approx(2.0)
    assert front_reduction(losses, heights, loss=0.04) == pytest.approx(0.25 * 4 + 0.75 * 8)


def test_a_larger_reduction_at_less_loss_hides_a_smaller_one() -> None:
    assert front_reduction(np.array([0.0, 0.01]), np.array([6.0, 3.0]), loss=0.02) == pytest.approx(6.0)


def test_nothing_within_the_loss_is_worth_leaving_the_network_alone() -> None:
    assert front_reduction(np.array([0.2]), np.array([9.0]), loss=0.02) == 0.0
    assert front_reduction(np.zeros(0), np.zeros(0), loss=0.02) == 0.0
    assert front_reduction(np.array([0.0]), np.array([-2.0]), loss=0.02) == 0.0


def both(validation: float, test: float) -> Record:
    """A network of 6 doublings that loses this much on either half."""
    record = make_record("DP", 0, 0.9, 64.0)
    base = replace(record.baseline, accuracy=0.9, test_accuracy=0.9)
    point = replace(record.points[0], accuracy=0.9 - validation, test_accuracy=0.9 - test)
    return replace(record, baseline=base, points=(point,))


@pytest.mark.parametrize(
    ("validation", "test", "value"), [(0.0, 0.0, 6.0), (0.0, 0.5, 3.0), (0.5, 0.0, 3.0), (0.5, 0.5, 0.0)]
)
def test_both_halves_of_the_held_out_images_count_alike(validation: float, test: float, value: float) -> None:
    other = replace(make_record("PD", 0, 0.9, 2.0), baseline=both(0, 0).baseline)
    table = order_values(networks_of([both(validation, test), other], "DP"), "DP", loss=0.02)
    assert table.values[table.orders.index("DP"), 0] == pytest.approx(value)


def test_controls_repeats_and_subsets_are_no_orders() -> None:
    records = [make_record(order, 0, 0.97, 8.0) for order in ("DP", "PD", "DPF", "DPD", "P", "D")]
    assert order_values(networks_of(records, "DP"), "DP", loss=0.05).orders == ("DP", "PD")


def test_an_order_is_valued_only_where_it_was_run_with_all_settings() -> None:
    light = "D(depth=0.7) P(ratio=0.2)", "P(ratio=0.2) D(depth=0.7)"
    hard = "D(depth=0.5) P(ratio=0.6)", "P(ratio=0.6) D(depth=0.5)"
    records = [
        replace(make_record(order, seed, 0.97, 8.0), sequence=text)
        for seed in (0, 1)
        for order, text in zip(("DP", "PD") * 2, (*light, *hard), strict=True)
        if not (seed == 1 and text == hard[1])
    ]
    assert len(settings_of(networks_of(records, "DP"))) == 2
    table = order_values(networks_of(records, "DP"), "DP", loss=0.05)
    assert np.isfinite(table.values).tolist() == [[True, True], [True, False]]
    assert table.seeds_of == {"DP": 2, "PD": 1}
    assert not table.complete


def test_single_trials_of_a_sampler_are_no_setting() -> None:
    designed = [make_record(order, seed, 0.97, 8.0) for order in ("DP", "PD") for seed in range(4)]
    sampled = replace(make_record("DP", 9, 0.97, 8.0), sequence="D(depth=0.5) P(ratio=0.31)")
    assert len(settings_of(networks_of([*designed, sampled], "DP"))) == 1


@pytest.mark.parametrize("loss", [0.0, -0.1, 1.01, float("nan")])
def test_a_loss_that_is_none_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match=r"loss must lie in \(0, 100 %\], got"):
        check_loss(loss)


def test_a_table_must_fit_its_names() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(orders, seeds\) = \(2, 1\), got \(1, 1\)"):
        ValueTable("DP", ("DP", "PD"), (0,), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="must hold the stages 'DP' once, got 'DQ'"):
        ValueTable("DP", ("DP", "DQ"), (0,), np.zeros((2, 1)))
