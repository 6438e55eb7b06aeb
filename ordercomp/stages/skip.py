"""S: gates on residual blocks, so that easy images skip some of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ordercomp.knobs import Knob
from ordercomp.networks.exits import channels_last, replace_module
from ordercomp.networks.gates import GatedBlock, gates
from ordercomp.networks.network import CompressedNetwork, Rebuilt
from ordercomp.stages.blocks import Block, find_blocks
from ordercomp.stages.stage import EPOCHS, Granularity, StageError, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Layer skipping at run time (as SkipNet, Wang et al. 2018): each residual block gets a gate of its own.

    `skip` is the share of the images that skip each block in training; other shares are measured, too, as
    thresholds are of exits. Blocks whose output has another shape than their input have no gate.
    """

    letter: ClassVar[str] = "S"
    title: ClassVar[str] = "Skip layers"
    dynamic: ClassVar[bool] = True
    granularity: ClassVar[Granularity] = "architecture"
    repeatable: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {
        "skip": Knob(
            default=0.5, low=0.05, high=0.95, step=0.05, help="share of the images that skip each block"
        ),
        "epochs": EPOCHS,
    }

    skip: float = 0.5
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a copy with gates that was trained with them. Raises StageError without residual blocks."""
        if gates(network.module):
            raise StageError("S cannot be applied to a network whose blocks have gates already")
        blocks = residual_blocks(network)
        if not blocks:
            raise StageError(
                f"S found no residual block in {network.architecture.model}: one that hands its input on, "
                "of the same shape, when its weights are zero"
            )
        gated = network.copy()
        made = [Rebuilt("S", block.name, {"channels": block.channels, "skip": self.skip}) for block in blocks]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trainer.seed)
            for part in made:
                block = gated.module.body.get_submodule(part.module)
                wrapped = GatedBlock.rebuild(block, part.facts).to(network.device)
                replace_module(gated.module.body, part.module, wrapped)
        gated.module.round_outputs({})  # until it is calibrated: parts have other names
        gated = replace(gated, module=channels_last(gated.module), rebuilt=(*network.rebuilt, *made))
        trainer.calibrate(gated, again=True)
        epochs = trainer.train(gated, fresh=False)
        return finish(gated, self, epochs, {"gates": [block.name for block in blocks]})


def residual_blocks(network: CompressedNetwork) -> list[Block]:
    """Blocks whose output is their input, of the same shape, when all their weights are zero."""
    body = network.copy().module.body.eval()
    residual = []
    for block in find_blocks(network):
        if not (block.droppable and block.features):
            continue
        seen: list[Tensor] = []
        module = body.get_submodule(block.name)
        hook = module.register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            body(network.example())
            hook.remove()
            if is_identity(module, seen[0]):
                residual.append(block)
    return residual


@torch.no_grad()
def is_identity(block: nn.Module, features: Tensor) -> bool:
    """Whether a block, whose weights become zero, maps features between 0 and 1 to themselves."""
    for parameter in block.parameters():
        parameter.zero_()
    positive = features.abs().clamp(max=1)
    return torch.allclose(block(positive), positive, atol=1e-6)
