"""The model of a chain's value: its parts by hand, and what its draws say of planted tables."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from ordercomp.analysis.order_model import (
    PARTS,
    STRAYS,
    Effort,
    draw_tables,
    draw_values,
    draw_variance,
    pair_signs,
    parts_of,
)
from ordercomp.sequence import permutations

FloatArray = npt.NDArray[np.float64]
ORDERS = tuple(permutations("DPQE"))
CHAINS = tuple("".join(letters) for n in range(1, 5) for letters in itertools.permutations("DPQE", n))
BRIEF = Effort(chains=2, burn_in=30, draws=60)


def noisy(truth: FloatArray, seeds: int, noise: float, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return truth[:, None] + rng.standard_normal(seeds) + noise * rng.standard_normal((len(truth), seeds))


def test_the_parts_of_orders_of_all_stages_are_independent_of_each_other() -> None:
    parts = parts_of(ORDERS, "DPQE")
    assert {name: part.shape[1] for name, part in parts.items()} == {
        "stages": 0,  # every order holds all of them
        "pairs": 0,
        "scores": 3,
        "cycles": 3,
        "triplets": 12,
    }
    assert np.allclose(parts["scores"].T @ parts["cycles"], 0)
    assert np.allclose([(parts[name] ** 2).sum(axis=1).mean() for name in ("scores", "triplets")], 1)
    assert pair_signs(("DPQE",), "DPQE").tolist() == [[1.0] * 6]


def test_chains_differ_in_their_stages_too() -> None:
    parts = parts_of(CHAINS, "DPQE")
    assert tuple(parts) == PARTS
    assert [parts[name].shape[1] for name in PARTS] == [4, 6, 3, 3, 12]
    assert pair_signs(("QD", "E"), "DPQE").tolist() == [[0, -1, 0, 0, 0, 0], [0] * 6]


def test_ten_stages_have_no_triplets_and_are_drawn_from_all_the_same() -> None:
    stages, rng = "ABCDEGHIJK", np.random.default_rng(0)
    orders = sorted(
        {"".join(rng.permutation(list(stages))[:length]) for length in range(1, 11) for _ in range(4)}
    )
    assert parts_of(orders, stages)["triplets"].shape[1] == 0
    draws = draw_values(rng.standard_normal((len(orders), 3)), orders, stages, floor=None, effort=BRIEF)
    assert np.isfinite(draws.values).all()


def test_the_same_table_gives_the_same_draws() -> None:
    values = np.maximum(noisy(np.arange(24.0) - 12, 4, 0.5), 0.0)
    values[3:9, 2] = np.nan
    first, second = (draw_values(values, ORDERS, "DPQE", floor=0.0, effort=BRIEF) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.pooled.shape == (120, 24)
    assert np.isfinite(first.values).all()


def test_tables_fitted_together_say_what_they_say_alone() -> None:
    tables = np.stack([noisy(np.linspace(0, 5, 24), 4, 0.3, seed) for seed in range(3)])
    together = draw_tables(tables, ORDERS, "DPQE", floor=None, effort=BRIEF)
    for table, draws in zip(tables, together, strict=True):
        alone = draw_values(table, ORDERS, "DPQE", floor=None, effort=BRIEF)
        np.testing.assert_allclose(draws.pooled.mean(axis=0), alone.pooled.mean(axis=0), atol=0.4)


def test_a_table_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="tables must hold at least one value each"):
        draw_values(np.full((24, 3), np.nan), ORDERS, "DPQE", floor=None)


def test_a_chain_that_was_never_run_is_predicted_from_its_parts() -> None:
    truth = np.array([float(order.index("E")) for order in ORDERS])
    values = noisy(truth, 5, 0.2)
    values[ORDERS.index("DPQE")] = np.nan
    means = draw_values(values, ORDERS, "DPQE", floor=None, effort=BRIEF).pooled.mean(axis=0)
    assert means[ORDERS.index("DPQE")] - means.mean() == pytest.approx(1.5, abs=0.5)


def test_one_odd_chain_among_well_behaved_neighbors_is_believed() -> None:
    truth = np.array([float(order.index("E")) for order in ORDERS])
    odd = ORDERS.index("EPQD")  # the parts of its order alone would put it last
    truth[odd] = 5.0
    means = draw_values(noisy(truth, 3, 0.3), ORDERS, "DPQE", floor=None, effort=BRIEF).pooled.mean(axis=0)
    assert int(means.argmax()) == odd


def test_a_value_that_strays_at_one_seed_moves_little() -> None:
    truth = np.array([float(order.index("E")) for order in ORDERS])
    values = noisy(truth, 5, 0.2)
    stray = values.copy()
    stray[ORDERS.index("EPQD"), 2] += 20.0
    means = [
        draw_values(table, ORDERS, "DPQE", floor=None, effort=BRIEF).pooled.mean(axis=0)
        for table in (values, stray)
    ]
    assert means[1][ORDERS.index("EPQD")] - means[0][ORDERS.index("EPQD")] < 2.0  # its mean rose by 4


def test_on_a_cliff_the_chance_of_reaching_the_loss_counts() -> None:
    """Two chains are worth 8 where they reach the loss: one always does, the other at half of the seeds."""
    truth = np.array([7.0 + 0.3 * order.index("E") for order in ORDERS])
    values = noisy(truth, 8, 0.1)
    values[:12] = np.where(np.arange(8) % 2, values[:12], 0.0)
    draws = draw_values(values, ORDERS, "DPQE", floor=0.0, effort=BRIEF)
    means = draws.pooled.mean(axis=0)
    assert means[12:].min() > 6.0
    assert 1.5 < means[:12].mean() < 6.5
    assert (draws.values >= 0).all()


def test_what_never_reached_the_loss_is_no_candidate() -> None:
    values = noisy(np.full(24, 7.0), 4, 0.3)
    values[5:] = 0.0
    means = draw_values(values, ORDERS, "DPQE", floor=0.0, effort=BRIEF).pooled.mean(axis=0)
    assert means[:5].min() > means[5:].max()


def test_variances_follow_the_scaled_inverse_chi_square() -> None:
    """With many degrees of freedom it lies at the mean of prior and squares."""
    drawn = draw_variance(1.0, 2.0, np.full(2000, 998.0), 999, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(1000 / 998, rel=0.01)


def test_a_hint_tells_of_chains_that_were_never_run() -> None:
    rng = np.random.default_rng(3)
    orders = list(permutations("DPQE"))
    truth = rng.standard_normal(len(orders))  # of each order alone: no pair of stages tells of it
    values = truth[:, None] + rng.normal(0, 0.1, (len(orders), 3))
    values[8:] = np.nan
    unseen = slice(8, None)
    told, blind = (
        draw_values(values, orders, "DPQE", floor=None, hint=hint).pooled.mean(axis=0)[unseen]
        for hint in (5 * truth - 40, None)
    )
    assert np.corrcoef(told, truth[unseen])[0, 1] > 0.95
    assert np.corrcoef(blind, truth[unseen])[0, 1] < 0.7


def test_a_hint_without_sense_is_not_believed() -> None:
    rng = np.random.default_rng(4)
    orders = list(permutations("DPQE"))
    values = rng.standard_normal(len(orders))[:, None] + rng.normal(0, 0.1, (len(orders), 3))
    hint = rng.standard_normal(len(orders))
    means = draw_values(values, orders, "DPQE", floor=None, hint=hint).pooled.mean(axis=0)
    assert np.corrcoef(means, values.mean(axis=1))[0, 1] > 0.98


def test_doublings_of_a_copy_are_taken_for_doublings_until_data_say_otherwise() -> None:
    orders = tuple(permutations("DPQE"))
    rng = np.random.default_rng(6)
    truth = 8 + rng.standard_normal(len(orders))
    few = np.where(np.arange(len(orders)) < 4, truth, np.nan)[:, None]

    def error(hint: FloatArray, values: FloatArray, slope: float) -> float:
        draws = draw_values(values, orders, "DPQE", floor=None, hint=hint, slope=slope)
        return float(np.abs((draws.pooled.mean(axis=0) - truth)[4:]).mean())

    told, misled = truth + 0.1 * rng.standard_normal(len(orders)), -truth
    assert error(told, few, 1.0) < 0.2 < error(told, few, 0.0)
    many = truth[:, None] + 0.3 * rng.standard_normal((len(orders), 6))
    assert error(misled, many, 1.0) < 0.2


def test_before_much_is_trained_chains_stray_from_a_copy_as_recorded_ones_do() -> None:
    orders = tuple(permutations("DPQE"))
    truth = 8 + 2 * np.random.default_rng(6).standard_normal(len(orders))
    few = np.where(np.arange(len(orders)) < 4, truth, np.nan)[:, None]
    draws = draw_values(few, orders, "DPQE", floor=None, hint=truth, slope=1.0)
    assert 0.5 * STRAYS < draws.pooled.std(axis=0)[4:].mean() < 2 * STRAYS


def test_a_hint_may_know_nothing_of_some_orders() -> None:
    orders = list(permutations("DPQ"))
    values = np.arange(6.0)[:, None] + np.random.default_rng(5).normal(0, 0.1, (6, 3))
    hint = np.array([0.0, 1.0, np.nan, 3.0, np.nan, 5.0])
    means = draw_values(values, orders, "DPQ", floor=None, hint=hint).pooled.mean(axis=0)
    assert np.allclose(means, values.mean(axis=1), atol=0.2)
