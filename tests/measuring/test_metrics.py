"""Metrics against a slow reading of their definitions, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import apply, digits, tiny_network, tiny_trainer

from ordercomp.measuring.accuracy import (
    CLASS_METRICS,
    ExitOutcome,
    class_metric,
    exit_outcome,
    measure,
    number_metric,
    sweep_thresholds,
)
from ordercomp.measuring.cost import measure_cost

BARS = [0.0, 0.3, 0.45, 0.7, np.inf]


def leaving(confidence: np.ndarray, bar: float) -> list[int]:
    """The exit at which each image leaves."""
    last = len(confidence) - 1
    return [
        next((place for place in range(last) if confidence[place, image] >= bar), last)
        for image in range(confidence.shape[1])
    ]


def slow(name: str, outputs: torch.Tensor, labels: np.ndarray, places: list[int]) -> float:
    """The figure of one threshold, from the definition."""
    logits = np.array([outputs[place, image].numpy() for image, place in enumerate(places)])
    guesses = logits.argmax(axis=1)
    if name == "accuracy":
        return float((guesses == labels).mean())
    if name == "top-5":
        return float(
            np.mean([label in np.argsort(-row)[:5] for row, label in zip(logits, labels, strict=True)])
        )
    scores = []
    for label in sorted(set(labels.tolist())):
        hits = ((guesses == label) & (labels == label)).sum()
        if name == "balanced accuracy":
            scores.append(hits / (labels == label).sum())
        else:
            wrong = ((guesses == label) != (labels == label)).sum()
            scores.append(2 * hits / (2 * hits + wrong))
    return float(np.mean(scores))


@given(
    name=st.sampled_from(sorted(CLASS_METRICS)),
    exits=st.integers(1, 3),
    images=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_every_class_metric_agrees_with_its_definition(name: str, exits: int, images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(exits, images, 7, generator=generator)
    labels = torch.randint(0, 7, (images,), generator=generator)
    metric = class_metric(name)
    reading = metric.read(outputs, labels)
    confidence, guesses = reading.confidence.double().numpy(), reading.guesses.double().numpy()
    outcome = ExitOutcome(confidence, reading.right.numpy(), metric.figure(guesses, labels.double().numpy()))
    found = sweep_thresholds(outcome, BARS).accuracy
    expected = [slow(name, outputs, labels.numpy(), leaving(confidence, bar)) for bar in BARS]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


@given(exits=st.integers(1, 3), images=st.integers(2, 12), seed=st.integers(0, 10_000))
def test_metrics_of_numbers_agree_with_their_definitions(exits: int, images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(exits, images, 1, generator=generator)
    targets = 5 + 10 * torch.randn(images, generator=generator)
    for name in ("within", "r2"):
        metric = number_metric(name, within=8.0, center=5.0, spread=10.0)
        reading = metric.read(outputs, targets)
        confidence = reading.confidence.double().numpy()
        truth = targets.double().numpy()
        figure = metric.figure(reading.guesses.double().numpy(), truth)
        found = sweep_thresholds(ExitOutcome(confidence, reading.right.numpy(), figure), BARS).accuracy
        for bar, value in zip(BARS, found, strict=True):
            places = leaving(confidence, bar)
            told = 5 + 10 * np.array([float(outputs[place, k, 0]) for k, place in enumerate(places)])
            errors = np.abs(told - truth)
            explained = max(0.0, 1 - (errors**2).sum() / ((truth - truth.mean()) ** 2).sum())
            assert value == pytest.approx(explained if name == "r2" else (errors <= 8).mean(), abs=1e-9)


def test_an_image_leaves_where_two_consecutive_exits_agree() -> None:
    outputs = torch.tensor([[0.0, 0.0], [0.1, 2.0], [0.1, 1.0]])[..., None]
    reading = number_metric("r2", within=0.0, center=0.0, spread=1.0).read(outputs, torch.zeros(2))
    np.testing.assert_allclose(reading.confidence.numpy(), [[0, 0], [1 / 1.1, 1 / 3], [1, 1 / 2]], atol=1e-6)


def test_balanced_accuracy_of_a_network_that_sees_one_class_only() -> None:
    """Nine images in ten are of one class: guessing it always is nine tenths right, and worth a half."""
    outputs, labels = torch.zeros(1, 100, 2), torch.tensor([0] * 90 + [1] * 10)
    outputs[..., 0] = 1
    for name, expected in (("accuracy", 0.9), ("balanced accuracy", 0.5), ("macro F1", 0.9 / 1.9)):
        metric = class_metric(name)
        reading = metric.read(outputs, labels)
        figure = metric.figure(reading.guesses.double().numpy(), labels.double().numpy())
        outcome = ExitOutcome(reading.confidence.double().numpy(), reading.right.numpy(), figure)
        assert sweep_thresholds(outcome, [np.inf]).accuracy == pytest.approx([expected])


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(CLASS_METRICS))
def test_operating_points_hold_the_metric_on_both_held_out_parts(name: str) -> None:
    trainer = tiny_trainer(epochs=5, learning_rate=0.1)
    network = tiny_network()
    trainer.train(network, fresh=True)
    network = apply("E", network, trainer)
    metric, data = class_metric(name), digits()
    points = measure(
        network, validation=data.validation, test=data.test, baseline=measure_cost(network), metric=metric
    )
    bars = [np.inf if point.threshold is None else point.threshold for point in points]
    for split, found in (
        (data.validation, [point.accuracy for point in points]),
        (data.test, [point.test_accuracy for point in points]),
    ):
        outcome = exit_outcome(network, split, metric=metric)
        np.testing.assert_array_equal(sweep_thresholds(outcome, bars).accuracy, found)


def test_an_unknown_metric_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match="metric must be one of accuracy, balanced accuracy, top-5, macro F1"
    ):
        class_metric("acuracy")
