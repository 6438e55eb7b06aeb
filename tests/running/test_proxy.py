"""Proxies: cheaper copies of a task, their networks, images and names."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ordercomp.jobs.proxy import Proxy, proxy_task
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.jobs import NodeJob, node_key
from ordercomp.running.node import create_network, task_data, train_node
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.training.recipe import Recipe

TINY = Task(
    name="tiny",
    model="resnet14(width=4)",
    data="digits",
    recipe=Recipe(epochs=0.5, batch_size=32, learning_rate=0.05, precision="float32"),
    train_limit=64,
)


def job(order: str, folder: Path, task: Task) -> NodeJob:
    sequence = task.sequence(order) if order else StageSequence()
    parent = node_key(task.digest, StageSequence(sequence.steps[:-1]), 0) if order else None
    key = node_key(task.digest, sequence, 0)
    return NodeJob(task=task, sequence=sequence, seed=0, key=key, parent_key=parent, store_root=folder)


def test_a_proxy_that_changes_nothing_is_the_task() -> None:
    assert proxy_task(TINY, Proxy()) is TINY
    assert str(Proxy()) == "full"


def test_a_proxy_trains_as_much_shorter_as_it_says() -> None:
    task = replace(TINY, baseline_epochs=8.0)
    made = proxy_task(task, Proxy(epochs=0.25))
    assert (made.recipe.epochs, made.baseline_epochs) == (0.25 * TINY.recipe.epochs, 2.0)
    assert made.name == "tiny at epochs=0.25"
    assert made.digest != task.digest


@pytest.mark.parametrize(
    "proxy", [Proxy(depth=0.5), Proxy(width=0.5), Proxy(size=0.5), Proxy(depth=0.5, width=0.5)]
)
def test_a_smaller_network_or_image_saves_multiplications(proxy: Proxy) -> None:
    made = proxy_task(TINY, proxy)
    small, whole = (measure_cost(create_network(task, seed=0)).macs for task in (made, TINY))
    assert small < 0.9 * whole
    assert made.digest != TINY.digest


def test_images_become_means_of_areas() -> None:
    whole, small = task_data(TINY, 0).test.tensors()[0], task_data(proxy_task(TINY, Proxy(size=0.5)), 0).test
    pixels = torch.nn.functional.avg_pool2d(whole, 2)
    assert small.tensors()[0].shape[2:] == (4, 4)
    assert torch.allclose(small.tensors()[0], pixels, atol=1e-5)
    assert torch.equal(small.labels, task_data(TINY, 0).test.labels)


def test_fewer_images_are_of_every_class_alike() -> None:
    labels = task_data(proxy_task(replace(TINY, train_limit=200), Proxy(images=0.25)), 0).train.labels
    assert len(labels) == 50
    counts = torch.bincount(labels, minlength=10)
    assert counts.min() >= 4
    assert counts.max() <= 6


@pytest.mark.integration
def test_every_stage_works_on_a_smaller_network(tmp_path: Path) -> None:
    task = replace(
        proxy_task(replace(TINY, model="resnet20(width=8)"), Proxy(depth=0.8, width=0.5)), name="s"
    )
    records = [train_node(job("DPQE"[:length], tmp_path, task)) for length in range(5)]
    assert [record.error for record in records] == [None] * 5
    assert records[0].points[0].bitops_cr == 1.0
    reductions = [record.points[0].bitops_cr for record in records]
    assert reductions[:4] == sorted(reductions[:4])  # E adds heads
    assert reductions[1] > 1.0
    network = CompressedNetwork.load(tmp_path / f"{job('DPQE', tmp_path, task).key}.safetensors")
    assert network.architecture.model == task.model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0.0}, r"epochs of a proxy must be a share in \(0, 1\], got 0"),
        ({"width": 1.5}, r"width of a proxy must be a share"),
    ],
)
def test_shares_lie_between_nothing_and_all(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Proxy(**change)


def test_too_few_images_for_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves 13 images of digits for 10 classes; it takes at least two"):
        proxy_task(TINY, Proxy(images=0.2))


@pytest.mark.parametrize("shrink", [{"depth": 0.0}, {"colors": 0.5}])
def test_a_task_refuses_what_cannot_be_shrunk(shrink: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shrink must hold shares in \(0, 1\] of depth, width, size"):
        Task(name="t", model="resnet8", data="digits", shrink=shrink)


def test_trained_weights_do_not_fit_another_network() -> None:
    task = replace(TINY, weights="trained.pt", normalize="none", trained_on="elsewhere")
    with pytest.raises(ValueError, match="which weights do not fit"):
        proxy_task(task, Proxy(width=0.5))


@pytest.mark.parametrize("proxy", [Proxy(), Proxy(epochs=0.25, width=0.5), Proxy(images=0.125)])
def test_a_proxy_is_read_as_it_is_written(proxy: Proxy) -> None:
    assert Proxy.parse(str(proxy)) == proxy


def test_work_counts_what_training_multiplies() -> None:
    assert Proxy(epochs=0.5, width=0.5, size=0.5).work == 0.5 * 0.25 * 0.25


@pytest.mark.parametrize("text", ["epochs", "", "colors=0.5", "epochs:0.5"])
def test_a_text_that_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="epochs"):
        Proxy.parse(text)
