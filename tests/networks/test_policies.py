"""Exit policies by hand, and what a sweep says of them against a walk through every image alone."""

import numpy as np
import pytest
import torch
from tiny_networks import apply, digits, tiny_network, tiny_trainer

from ordercomp.measuring.accuracy import exit_outcome, measure, sweep_thresholds
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import ExitRule, Policy, agreeing, next_asked, predictive_exits, run_until
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.plain import ship
from ordercomp.stages.stage import StageError


def test_exits_that_agree_in_a_row_are_counted() -> None:
    labels = torch.tensor([[1, 1, 2], [1, 2, 2], [1, 2, 3], [1, 2, 3]])
    assert agreeing(labels).tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 2, 1]]


def test_the_next_head_is_where_confidence_in_proportion_would_suffice() -> None:
    # 0.3 at the first of four heads: 0.6 at the second, 0.9 at the third
    assert [int(next_asked(0.3, 0, bar, 4)) for bar in (0.5, 0.6, 0.85, 0.95, 1.3)] == [1, 1, 2, 3, 4]
    assert int(next_asked(0.99, 2, 0.995, 4)) == 3  # at least one on
    assert next_asked(np.array([0.0, 0.25, 0.5]), 0, 0.9, 4).tolist() == [4, 3, 1]


def test_heads_between_are_spared_by_hand() -> None:
    confidence = np.array([[0.3, 0.9, 0.6], [0.95, 0.1, 0.5], [0.9, 0.1, 0.2], [0.1, 0.1, 0.1]])
    places, spared = predictive_exits(confidence, 0.85)
    assert places.tolist() == [2, 0, 3]  # the first asks the third head, the last one the second, then none
    assert spared.tolist() == [[False] * 3, [True, False, False], [False, False, True]]
    places, spared = predictive_exits(confidence, np.inf)
    assert places.tolist() == [3, 3, 3]
    assert spared.all()


def with_exits(policy: Policy, order: str = "E") -> CompressedNetwork:
    network = tiny_network()
    for letter in order:
        knobs = {"policy": policy, "exits": 4} if letter == "E" else {}
        network = apply(letter, network, tiny_trainer(epochs=2), **knobs)
    return network


@pytest.mark.integration
@pytest.mark.parametrize("policy", ["confidence", "patience", "predictive"])
def test_a_sweep_tells_what_each_image_does_alone(policy: Policy) -> None:
    network, split = with_exits(policy), digits().validation
    cost, outcome, heads = measure_cost(network), exit_outcome(network, split), len(network.exits)
    early = outcome.confidence[:-1].max(axis=0)
    for threshold in (float(np.quantile(early, 0.3)), float(np.quantile(early, 0.7)), 0.5):
        sweep = sweep_thresholds(outcome, [threshold])
        left, right, spent = [0] * (heads + 1), 0, 0.0
        for batch in split.batches(1):
            asked: list[int] = []
            rule = ExitRule(policy, threshold, heads)

            def leaves(
                place: int, logits: torch.Tensor, rule: ExitRule = rule, asked: list[int] = asked
            ) -> bool:
                asked.append(place)
                return rule.leaves(place, logits)

            with torch.inference_mode():
                place, logits = run_until(network.module, batch.images, leaves, rule.asks)
            left[place] += 1
            right += int(logits.argmax() == batch.labels)
            spent += cost.bitops_by_exit()[place]
            spent -= sum(cost.bitops_of(f"heads.{k}") for k in range(min(place + 1, heads)) if k not in asked)
        assert sweep.shares[0] == pytest.approx(np.array(left) / len(split), abs=2 / len(split))
        assert sweep.accuracy[0] == pytest.approx(right / len(split), abs=2 / len(split))
        assert sweep.bitops(cost, "paper")[0] == pytest.approx(spent / len(split), rel=0.01)


@pytest.mark.integration
@pytest.mark.parametrize("policy", ["patience", "predictive"])
@pytest.mark.parametrize("order", ["E", "EP", "EQ", "ED", "QE"])
def test_a_policy_stays_through_later_stages_files_and_use(policy: Policy, order: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = with_exits(policy, order)
    network.save(tmp_path / "network")
    again = CompressedNetwork.load(tmp_path / "network")
    assert again.module.policy == network.module.policy == policy
    points = measure(
        network,
        validation=digits().validation,
        test=digits().test,
        baseline=measure_cost(tiny_network()),
    )
    assert points[0].threshold is None
    assert all(0 <= (point.threshold or 0) <= 1 for point in points)
    images = next(iter(digits().test.batches(8))).images
    shipped, outcome = ship(again), exit_outcome(again, digits().test)
    places = [shipped.predict(image, threshold=0.5).exit for image in images]
    for place, image in zip(places, range(8), strict=True):
        one = type(outcome)(
            outcome.confidence[:, [image]], outcome.correct[:, [image]], policy=outcome.policy
        )
        assert sweep_thresholds(one, [0.5]).shares[0, place] == 1


def test_policies_of_classes_are_refused_for_numbers() -> None:
    network = CompressedNetwork.create("resnet8(width=4)", classes=1, channels=1, size=(8, 8))
    with pytest.raises(StageError, match=r"E\(policy=patience\) needs classes"):
        apply("E", network, policy="patience")
