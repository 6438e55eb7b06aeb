"""Risk control: bounds that hold as often as they promise, and the boldest threshold that does."""

import numpy as np
import pytest
from scipy import stats

from ordercomp.measuring.accuracy import THRESHOLDS, ExitOutcome, certified_threshold, threshold_p_values


def drawn(rng: np.random.Generator, images: int, early: float) -> tuple[ExitOutcome, np.ndarray]:
    """One early exit, right with probability 1 - `early` · (1 - confidence), before a perfect network."""
    confidence = np.stack([rng.random(images), np.ones(images)])
    right = rng.random(images) > early * (1 - confidence[0])
    return ExitOutcome(confidence, np.stack([right, np.ones(images, bool)])), np.ones(images, bool)


def true_loss(threshold: float, early: float) -> float:
    """Of such a network: the integral of early · (1 - c) over the confidences that leave."""
    return 0.0 if threshold > 1 else early * (1 - threshold) ** 2 / 2


def test_the_loss_exceeds_the_bound_in_at_most_one_of_twenty() -> None:
    exceeded, bold = 0, []
    for number in range(400):
        outcome, before = drawn(np.random.default_rng(number), 400, 0.4)
        threshold = certified_threshold(outcome, before, loss=0.05)
        assert threshold is not None
        exceeded += true_loss(threshold, 0.4) > 0.05
        bold.append(threshold)
    assert exceeded / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert np.median(bold) < 0.75  # it does leave early: 0.5 loses exactly 5 %


def test_the_sequence_stops_at_the_first_threshold_that_fails() -> None:
    outcome, before = drawn(np.random.default_rng(0), 300, 0.9)
    p_values = threshold_p_values(outcome, before, 0.05)
    first = int(np.argmax(p_values > 0.05))
    assert certified_threshold(outcome, before, loss=0.05) == THRESHOLDS[first - 1]


def test_p_values_are_binomial_tails_of_the_images_that_broke() -> None:
    correct = np.array([[True] * 90 + [False] * 10])
    before = np.array([True] * 95 + [False] * 5)
    outcome = ExitOutcome(np.ones((1, 100)), correct)
    assert threshold_p_values(outcome, before, 0.1)[0] == pytest.approx(stats.binom.cdf(5, 100, 0.1))


def test_a_network_that_loses_too_much_is_not_certified_and_one_without_exits_has_no_threshold() -> None:
    bad = ExitOutcome(np.ones((1, 100)), np.zeros((1, 100), bool))
    assert certified_threshold(bad, np.ones(100, bool), loss=0.05) is None
    good = ExitOutcome(np.ones((1, 100)), np.ones((1, 100), bool))
    assert certified_threshold(good, np.ones(100, bool), loss=0.05) == np.inf


@pytest.mark.parametrize(("loss", "error"), [(0.0, 0.05), (1.0, 0.05), (0.02, 0.0), (0.02, 1.5)])
def test_bounds_outside_of_0_to_1_are_refused(loss: float, error: float) -> None:
    good = ExitOutcome(np.ones((1, 10)), np.ones((1, 10), bool))
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
        certified_threshold(good, np.ones(10, bool), loss=loss, error=error)
    with pytest.raises(ValueError, match="right_before must have shape"):
        certified_threshold(good, np.ones(9, bool), loss=0.02)
