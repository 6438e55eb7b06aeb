"""Each network of the paper on each format of its data: one training step, and one short D P Q E sequence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_data import write_cifar10, write_cifar100, write_cinic10, write_imagenet, write_svhn

from ordercomp.data.catalog import load_data
from ordercomp.data.splits import ImageData
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import make_stage
from ordercomp.training.fit import label_loss
from ordercomp.training.recipe import Recipe
from ordercomp.training.trainer import DataTrainer

pytestmark = pytest.mark.integration

FORMATS: dict[str, Callable[[Path], None]] = {
    "cifar10": lambda root: write_cifar10(root, images=50),
    "cifar100": lambda root: write_cifar100(root, images=120),
    "svhn": lambda root: write_svhn(root, images=40),
    "cinic10": lambda root: write_cinic10(root, per_class=1),
    "imagenet": lambda root: write_imagenet(root, classes=2, per_class=2),
}
NETWORKS = ("resnet34(width=4)", "vgg19(width=4)", "mobilenet_v2(width=0.1)")
SEQUENCE = StageSequence.parse("D(depth=0.5) P(ratio=0.3) Q(weights=4,activations=4) E(exits=2)")


@pytest.fixture(scope="module", params=FORMATS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    root = tmp_path_factory.mktemp(request.param)
    FORMATS[request.param](root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 1)  # images are decoded in this process
        return load_data(request.param, root=root)


def create(model: str, data: ImageData) -> CompressedNetwork:
    return CompressedNetwork.create(model, classes=data.classes, channels=data.channels, size=data.size)


@pytest.mark.parametrize("model", NETWORKS)
def test_a_training_step_changes_every_weight(model: str, data: ImageData) -> None:
    module = create(model, data).module.train()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    batch = next(iter(data.train.batches(4, rng=torch.Generator().manual_seed(0), augment=True)))
    loss = label_loss(module(batch.images), batch.labels, smoothing=0.1)
    loss.backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    assert loss.isfinite()
    changed = [not torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True)]
    assert all(changed)


@pytest.mark.parametrize("model", NETWORKS)
def test_the_four_stages_run_one_after_another(model: str, data: ImageData) -> None:
    batch_size = max(2, len(data.train) // 2)
    trainer = DataTrainer(
        data=data,
        recipe=Recipe(epochs=1, batch_size=batch_size, augment=True),
        seed=0,
        device=torch.device("cpu"),
        precision=torch.float32,
    )
    network = create(model, data)
    for step in SEQUENCE.steps:
        network = make_stage(step).apply(network, trainer=trainer.for_stage(step.stage))
    batch = next(iter(data.test.batches(2)))
    logits = network.module(batch.images)
    assert [tuple(exit_.shape) for exit_ in logits] == [(2, data.classes)] * 3
    assert all(exit_.isfinite().all() for exit_ in logits)
    assert network.sequence.order == "DPQE"
