"""Networks and a trainer so small that a test of a stage takes a few hundredths of a second."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ordercomp.data.catalog import load_data
from ordercomp.data.splits import ImageData
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import Step
from ordercomp.stages.catalog import make_stage
from ordercomp.training.recipe import Recipe
from ordercomp.training.trainer import DataTrainer, Trainer

__all__ = ["NoTrainer", "apply", "digits", "logits", "snapshot", "tiny_network", "tiny_trainer"]

RECIPE = Recipe(epochs=0.1, batch_size=32, learning_rate=0.05, precision="float32")
NETWORK = "resnet14(width=4)"


@dataclass(frozen=True)
class NoTrainer:
    """Leaves weights as they are: what a stage does to the structure alone."""

    seed: int = 0
    baseline: CompressedNetwork | None = None

    def train(self, network: CompressedNetwork, **_settings: Any) -> float:
        return 0.0

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        return 0.0

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        return None

    def sample(self, network: CompressedNetwork) -> Tensor:
        return network.example(2)


@functools.cache
def digits() -> ImageData:
    """The digits with few training images, kept for the next test."""
    return load_data("digits", train_limit=64)


def tiny_network(
    model: str = NETWORK, *, seed: int = 0, size: int = 8, channels: int = 1
) -> CompressedNetwork:
    """An untrained network for small images."""
    return CompressedNetwork.create(model, classes=10, channels=channels, size=(size, size), seed=seed)


def tiny_trainer(*, seed: int = 0, epochs: float = 0.1, **recipe: Any) -> DataTrainer:
    """One step of 32 images in float32, unless told otherwise."""
    return DataTrainer(
        data=digits(),
        recipe=replace(RECIPE, epochs=epochs, **recipe),
        seed=seed,
        device=torch.device("cpu"),
        precision=torch.float32,
        baseline=_baseline(),
    )


@functools.cache
def _baseline() -> CompressedNetwork:
    return tiny_network()


def apply(
    letter: str, network: CompressedNetwork, trainer: Trainer | None = None, **knobs: Any
) -> CompressedNetwork:
    """Apply one stage, without training if no trainer is given."""
    return make_stage(Step.of(letter, knobs)).apply(network, trainer=trainer or NoTrainer(baseline=network))


def logits(network: CompressedNetwork) -> tuple[Tensor, ...]:
    """Logits of all exits on example images; the network must be in evaluation mode."""
    assert not any(part.training for part in network.module.modules())
    outputs: tuple[Tensor, ...]
    with torch.no_grad():
        outputs = network.module(network.architecture.example(3))
    return outputs


def snapshot(network: CompressedNetwork) -> dict[str, Any]:
    """Everything that a stage must leave as it was in its input, tensors as copies."""
    module = network.module
    return {
        "facts": replace(network, module=None),  # type: ignore[arg-type]
        "structure": repr(module),
        "training": [part.training for part in module.modules()],
        "trainable": [parameter.requires_grad for parameter in module.parameters()],
        "layouts": [parameter.stride() for parameter in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
        "tensors": {name: tensor.clone() for name, tensor in module.state_dict().items()},
    }
