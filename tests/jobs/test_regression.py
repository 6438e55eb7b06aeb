"""Real targets from the data to a shipped network: every stage, order and command that classes have."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ordercomp import CompressedNetwork, load_network
from ordercomp.data.builtin import MOST_DEGREES, rotate
from ordercomp.data.catalog import load_data
from ordercomp.jobs.check import check_task
from ordercomp.jobs.compress import compress
from ordercomp.jobs.discover import discover
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.measuring.accuracy import exit_outcome, sweep_thresholds
from ordercomp.measuring.cost import counted_macs, measure_cost
from ordercomp.running.node import create_network, make_trainer, task_data, task_metric
from ordercomp.running.task import Task, load_task
from ordercomp.sequence import StageSequence
from ordercomp.shipping.onnx import export_onnx
from ordercomp.shipping.packed import save_packed
from ordercomp.shipping.plain import Estimate
from ordercomp.stages.catalog import apply_untrained, make_stage

pytestmark = pytest.mark.integration

TINY = replace(
    load_task("rotated-digits"),
    model="resnet8(width=4)",
    train_limit=128,
    recipe=replace(load_task("rotated-digits").recipe, epochs=0.5, batch_size=64),
)


def test_a_turned_image_is_what_numpy_turns_by_right_angles() -> None:
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8)).astype(float)
    for quarter in range(4):
        turned = rotate(images, np.full(3, 90.0 * quarter))
        expected = np.rot90(15 * images, quarter, axes=(1, 2))
        np.testing.assert_array_equal(turned[:, 2:-2, 2:-2], expected)
        assert turned.sum() == expected.sum()


def test_no_digit_stands_in_two_parts() -> None:
    """Training digits are seen at two angles; a held-out digit at none of them."""
    data = load_data("rotated-digits")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [2154, 360, 360]
    targets = [part.labels for part in (data.train, data.validation, data.test)]
    assert len(set(torch.cat(targets).tolist())) == 2874
    assert all(float(part.abs().max()) <= MOST_DEGREES for part in targets)
    assert load_data("rotated-digits").digest == data.digest


@pytest.mark.parametrize("criterion", ["mse", "huber"])
def test_a_network_learns_angles_and_its_quality_is_their_error(criterion: str) -> None:
    recipe = replace(TINY.recipe, epochs=6)
    task = replace(TINY, train_limit=None, criterion=criterion, recipe=recipe)  # type: ignore[arg-type]
    network = create_network(task, seed=0)
    make_trainer(task, seed=0).train(network, fresh=True)
    data = task_data(task, 0)
    found = {}
    for name, metric in (
        ("within", task_metric(task, data)),
        ("r2", task_metric(replace(task, metric="r2", within=0.0), data)),
    ):
        found[name] = float(
            sweep_thresholds(exit_outcome(network, data.test, metric=metric), [np.inf]).accuracy[0]
        )
    assert found["within"] > 0.5  # 0.22 by guessing the middle
    assert found["r2"] > 0.7


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("DPQE")])
def test_every_order_can_be_applied(order: str) -> None:
    sequence = TINY.sequence(order)
    network = apply_untrained(create_network(TINY, seed=0), sequence)
    assert (network.sequence.order, network.serving.scale[1] > 20) == (order, True)


def test_a_network_of_real_targets_costs_what_its_one_output_does() -> None:
    network = create_network(TINY, seed=0)
    dense = measure_cost(network)
    assert dense.macs == counted_macs(network)
    small = apply_untrained(network, TINY.sequence("DPQE"))
    cost = measure_cost(small)
    heads = [layer for layer in cost.layers if layer.name.endswith("classifier")]
    assert len(heads) == len(small.exits) + 1
    assert all(layer.macs == layer.weights for layer in heads)  # one output each
    assert all(layer.others == 1 for layer in heads)
    assert dense.bitops() / cost.bitops() > 128
    assert cost.bitops_by_exit()[0] < cost.bitops()


@pytest.mark.parametrize("order", ["DPQE", "EQPD"])
def test_every_stage_trains_and_distillation_is_of_outputs(order: str) -> None:
    network = create_network(TINY, seed=0)
    trainer = make_trainer(TINY, seed=0, baseline=network)
    for step in StageSequence.parse(str(TINY.sequence(order))).steps:
        network = make_stage(step).apply(network, trainer=trainer.for_stage(step.stage))
    outputs = network.module(network.architecture.example(3))
    assert [one.shape for one in outputs] == [(3, 1)] * (len(network.exits) + 1)
    assert all(bool(one.isfinite().all()) for one in outputs)


def test_shipped_networks_tell_numbers_in_units_of_the_targets(tmp_path: Path) -> None:
    done = compress("QE", TINY, out=tmp_path / "n.safetensors", loss=1.0, threshold=0.9)
    network = CompressedNetwork.load(done.path)
    data = task_data(TINY, 0)
    save_packed(network, tmp_path / "packed.safetensors")
    pixels = data.test.images[:8].permute(0, 3, 1, 2)  # type: ignore[attr-defined]
    for file in ("n", "packed"):
        shipped = load_network(tmp_path / f"{file}.safetensors")
        told = [shipped.predict(image) for image in pixels]
        outputs = torch.stack([one[:, 0] for one in shipped(pixels.float())])
        assert all(isinstance(one, Estimate) for one in told)
        for image, one in enumerate(told):
            assert isinstance(one, Estimate)
            assert one.value == pytest.approx(float(outputs[one.exit, image]), abs=1e-3)
            assert one.exit == len(network.exits) or one.agreement >= 0.9
    metric = task_metric(TINY, data)
    outcome = exit_outcome(network, data.test, metric=metric)
    places = [int(np.argmax([*(outcome.confidence[:-1, k] >= 0.9), True])) for k in range(8)]
    assert [one.exit for one in told] == places
    exported = export_onnx(network, tmp_path / "n.onnx")
    assert exported.largest_difference < 1.0  # degrees


def test_a_discovery_and_a_search_of_real_targets_end_with_networks(tmp_path: Path) -> None:
    found = discover(replace(TINY, stages="PE"), out=tmp_path / "out", seeds=1, workers=1)
    measured = [record for record in found.records if record.points]
    assert {record.metric for record in measured} == {"share within 10"}
    assert {record.order for record in measured} >= {"P", "E", "PE", "EP"}
    assert json.loads((tmp_path / "out" / "law.json").read_text())["metric"] == "share within 10"
    assert "tolerated loss of share within 10" in (tmp_path / "out" / "report.html").read_text()
    plan = SearchPlan(task=TINY, out=tmp_path / "search", stages="PQ", trials=2, sampler="random", workers=1)
    assert any(record.points for record in run_search(plan).records)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "accuracy", "within": 0.0}, "metric accuracy does not suit rotated-digits.*set within"),
        (
            {"criterion": "cross entropy"},
            "criterion cross entropy does not suit rotated-digits.*mse or huber",
        ),
        ({"data": "digits"}, "metric within does not suit digits, which has classes"),
        (
            {"data": "digits", "metric": "accuracy", "within": 0.0, "criterion": "mse"},
            "mse does not suit digits",
        ),
    ],
)
def test_what_does_not_suit_the_targets_is_refused_before_training(
    keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_task(replace(TINY, **keys))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"within": -1}, "within must be a positive error"),
        ({"within": "ten"}, "key 'within' must be a number, got 'ten'"),
        ({"metric": "within"}, "metric within needs within, an error"),
        ({"metric": "r2", "within": 5}, "metric r2 does not go with within, got within = 5"),
        ({"criterion": "l1"}, "key 'criterion' must be cross entropy or mse or huber, got 'l1'"),
        ({"metric": "r3"}, "metric must be one of accuracy"),
    ],
)
def test_unknown_aims_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task.from_mapping({"name": "x", "model": "resnet8", "data": "rotated-digits", **keys})
