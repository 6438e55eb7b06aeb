"""Threshold sweeps against a slow loop, and the operating points chosen from them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_networks import apply, digits, tiny_network, tiny_trainer

from ordercomp.measuring.accuracy import ExitOutcome, accuracy, exit_outcome, measure, sweep_thresholds
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training.fit import DivergedError


@dataclass(frozen=True)
class SlowSweep:
    accuracy: list[float]
    shares: list[list[float]]


def slow_sweep(outcome: ExitOutcome, thresholds: list[float]) -> SlowSweep:
    """Send one image after the other through the exits, threshold by threshold."""
    exits, images = outcome.confidence.shape
    rights, shares = [], []
    for bar in thresholds:
        right, left = 0, [0] * exits
        for image in range(images):
            place = 0
            while place < exits - 1 and outcome.confidence[place, image] < bar:
                place += 1
            left[place] += 1
            right += bool(outcome.correct[place, image])
        rights.append(right / images)
        shares.append([count / images for count in left])
    return SlowSweep(rights, shares)


def made_up(exits: int, images: int, seed: int, *, levels: int | None = None) -> ExitOutcome:
    """Random outcomes; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.1, 1.0, size=(exits, images))
    if levels:
        confidence = np.round(confidence * levels) / levels
    return ExitOutcome(confidence, rng.random((exits, images)) < confidence)


def check(outcome: ExitOutcome, thresholds: list[float]) -> None:
    fast, slow = sweep_thresholds(outcome, thresholds), slow_sweep(outcome, thresholds)
    np.testing.assert_allclose(fast.accuracy, slow.accuracy, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.shares, slow.shares, rtol=0, atol=1e-12)


def test_a_thousand_thresholds_agree_with_the_slow_loop() -> None:
    check(made_up(3, 50, seed=0), np.linspace(0, 1.1, 1000).tolist())


@given(
    exits=st.integers(1, 4),
    images=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([None, 4, 10]),
    thresholds=st.lists(
        st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5, float("inf")]), min_size=1, max_size=6
    ),
)
def test_any_outcome_agrees_with_the_slow_loop(
    exits: int, images: int, seed: int, levels: int | None, thresholds: list[float]
) -> None:
    check(made_up(exits, images, seed, levels=levels), thresholds)


def by_hand() -> ExitOutcome:
    confidence = np.array([[0.9, 0.6, 0.3], [0.2, 0.7, 0.8], [0.5, 0.5, 0.5]])
    correct = np.array([[True, False, True], [False, True, False], [True, True, True]])
    return ExitOutcome(confidence, correct)


def test_a_sweep_worked_by_hand() -> None:
    sweep = sweep_thresholds(by_hand(), [0.0, 0.6, 0.65, 0.95])
    assert sweep.accuracy.tolist() == [2 / 3, 1 / 3, 2 / 3, 1]
    np.testing.assert_allclose(sweep.shares, np.array([[3, 0, 0], [2, 1, 0], [1, 2, 0], [0, 0, 3]]) / 3)


def test_an_image_leaves_where_its_confidence_equals_the_threshold() -> None:
    assert sweep_thresholds(by_hand(), [0.9]).shares[0, 0] == pytest.approx(1 / 3)


def test_a_threshold_above_one_sends_every_image_to_the_end() -> None:
    sweep = sweep_thresholds(by_hand(), [1.0 + 1e-9, np.inf])
    assert sweep.shares.tolist() == [[0, 0, 1]] * 2
    assert sweep.accuracy.tolist() == [1, 1]


def test_thresholds_may_come_in_any_order_and_rows_sum_to_one() -> None:
    bars = np.random.default_rng(0).uniform(0, 1, 200)
    sweep = sweep_thresholds(made_up(4, 300, seed=1), bars)
    np.testing.assert_allclose(sweep.shares.sum(axis=1), 1)
    ordered = sweep_thresholds(made_up(4, 300, seed=1), np.sort(bars))
    np.testing.assert_array_equal(sweep.accuracy[np.argsort(bars)], ordered.accuracy)


def trained(order: str) -> CompressedNetwork:
    network = tiny_network()
    trainer = tiny_trainer(epochs=20, learning_rate=0.1)
    trainer.train(network, fresh=True)
    for letter in order:
        network = apply(letter, network, trainer)
    return network


@pytest.fixture(scope="module")
def with_exits() -> CompressedNetwork:
    return trained("E")


def points_of(network: CompressedNetwork, points: int = 20):  # type: ignore[no-untyped-def]
    data = digits()
    baseline = measure_cost(tiny_network())
    return measure(network, validation=data.validation, test=data.test, baseline=baseline, points=points)


def test_a_network_without_exits_has_one_point() -> None:
    (point,) = points_of(tiny_network())
    assert point.threshold is None
    assert (point.bitops_cr, point.cr) == (1, 1)
    assert point.extra["shares"] == [1.0]
    assert point.extra["honest"] == {"bitops_cr": 1, "cr": 1}


def test_the_first_point_sends_all_to_the_end_and_heads_cost(with_exits: CompressedNetwork) -> None:
    whole, *early = points_of(with_exits)
    assert whole.threshold is None
    assert whole.extra["shares"] == [0, 0, 1]
    assert 0.9 < whole.bitops_cr < 1
    assert len(early) > 3
    assert all(point.threshold is not None and point.threshold <= 1 for point in early)


def test_thresholds_are_chosen_on_validation_data_and_not_dominated(with_exits: CompressedNetwork) -> None:
    _, *early = points_of(with_exits)
    pairs = [(point.accuracy, point.bitops_cr) for point in early]
    for one in pairs:
        assert not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in pairs)
    outcome = exit_outcome(with_exits, digits().validation)
    sweep = sweep_thresholds(outcome, [point.threshold for point in early])
    assert [point.accuracy for point in early] == sweep.accuracy.tolist()


def test_test_accuracy_is_reported_at_the_same_thresholds(with_exits: CompressedNetwork) -> None:
    _, *early = points_of(with_exits)
    sweep = sweep_thresholds(exit_outcome(with_exits, digits().test), [point.threshold for point in early])
    assert [point.test_accuracy for point in early] == sweep.accuracy.tolist()


def test_reductions_are_expected_over_the_shares(with_exits: CompressedNetwork) -> None:
    dense, cost = measure_cost(tiny_network()), measure_cost(with_exits)
    for point in points_of(with_exits):
        shares = np.array(point.extra["shares"])
        expected = float(shares @ np.array(cost.bitops_by_exit("paper")))
        assert point.bitops_cr == pytest.approx(dense.bitops("paper") / expected, rel=1e-4)
        assert point.cr == pytest.approx(dense.bits("paper") / cost.bits("paper"))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_the_number_of_points_is_limited_beside_the_full_run(
    with_exits: CompressedNetwork, most: int
) -> None:
    assert 2 <= len(points_of(with_exits, most)) <= most + 1


def test_outcomes_have_a_row_for_each_exit_and_confidences_are_probabilities(
    with_exits: CompressedNetwork,
) -> None:
    outcome = exit_outcome(with_exits, digits().validation)
    assert outcome.confidence.shape == outcome.correct.shape == (3, len(digits().validation))
    assert outcome.confidence.dtype == np.float64
    assert ((outcome.confidence >= 0.1) & (outcome.confidence <= 1)).all()
    assert accuracy(with_exits, digits().validation) == outcome.correct[-1].mean()


def test_outcomes_are_those_of_the_network(with_exits: CompressedNetwork) -> None:
    outcome = exit_outcome(with_exits, digits().validation)
    images, labels = digits().validation.tensors()  # type: ignore[attr-defined]
    with torch.no_grad():
        for place, logits in enumerate(with_exits.module.eval()(images)):
            agreement: NDArray[np.bool_] = (logits.argmax(1) == labels).numpy()
            assert (agreement == outcome.correct[place]).mean() > 0.99  # batches round differently


def test_logits_that_are_no_numbers_are_an_error() -> None:
    network = tiny_network()
    with torch.no_grad():
        network.module.body.classifier.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match=r"the logits of .* images are no finite numbers"):
        exit_outcome(network, digits().validation)
