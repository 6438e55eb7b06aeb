"""The value of an order: worked out by hand on a few points, and what takes no part in it."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.values import (
    ValueTable,
    chain_tables,
    chain_values,
    check_loss,
    front_reduction,
    networks_of,
    order_values,
    settings_of,
)
from ordercomp.records import OperatingPoint, Record


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
    with pytest.raises(ValueError, match="must be of the stages 'DP', each at most once, got 'DQ'"):
        ValueTable("DP", ("DP", "DQ"), (0,), np.zeros((2, 1)))


def test_prefixes_are_chains_that_compete_with_the_settings_of_their_own_stages() -> None:
    light = "D(depth=0.7) P(ratio=0.2)", "P(ratio=0.2) D(depth=0.7)"
    hard = "D(depth=0.7) P(ratio=0.6)", "P(ratio=0.6) D(depth=0.7)"
    whole = [
        replace(make_record(order, 0, 0.97, 8.0), sequence=text)
        for order, text in zip(("DP", "PD") * 2, (*light, *hard), strict=True)
    ]
    parts = [
        replace(make_record("D", 0, 0.97, 2.0), sequence="D(depth=0.7)"),  # one network serves both settings
        replace(make_record("P", 0, 0.97, 4.0), sequence="P(ratio=0.2)"),  # the harder one is missing
    ]
    table = chain_values(networks_of([*whole, *parts], "DP"), "DP", loss=0.05)
    assert table.orders == ("D", "DP", "PD")
    assert table.values[:, 0].tolist() == [1.0, 3.0, 3.0]
    assert table.whole == (1, 2)


def test_a_value_can_be_of_storage_or_of_multiplications() -> None:
    point = OperatingPoint(threshold=None, accuracy=0.97, test_accuracy=0.97, bitops_cr=256.0, cr=16.0)
    texts = "P(ratio=0.5) Q(weights=2,activations=4)", "Q(weights=2,activations=4) P(ratio=0.5)"
    records = [
        replace(make_record(order, 0, 0.97, 8.0), sequence=text, points=(point,))
        for order, text in zip(("PQ", "QP"), texts, strict=True)
    ]
    values = {
        cost: order_values(networks_of(records, "PQ", cost=cost), "PQ", loss=0.05).values.ravel().tolist()
        for cost in ("bitops", "storage", "macs")
    }
    # 2 by 4 bits instead of 32 by 32 are 128 times fewer bit operations; half of the multiplications are left
    assert values == {"bitops": [8.0, 8.0], "storage": [4.0, 4.0], "macs": [1.0, 1.0]}


def test_a_reduction_that_no_network_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a reduction must lie in \(0, 1e\+12\], got 1e\+30 in a record"):
        networks_of([make_record("DP", 0, 0.97, 1e30)], "DP")


def test_tables_at_several_losses_are_those_at_each() -> None:
    records = [
        make_record(order, seed, points=[(0.99 - 0.01 * seed, 4.0), (0.97, 9.0 + seed)][: 1 + seed % 2])
        for order in ("PQ", "QP", "P")
        for seed in range(3)
    ]
    networks, losses = networks_of(records, "PQ"), [0.01, 0.02, 0.05]
    for table, loss in zip(chain_tables(networks, "PQ", losses=losses), losses, strict=True):
        alone = chain_values(networks, "PQ", loss=loss)
        assert (table.orders, table.seeds, table.loss) == (alone.orders, alone.seeds, loss)
        assert table.values == pytest.approx(alone.values, nan_ok=True)
