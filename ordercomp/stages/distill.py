"""D: train a smaller student with fresh weights from the current network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from ordercomp.knobs import Knob, exact
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.constraints import is_sparse, mark, weight_layers
from ordercomp.networks.exits import drop_module
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.blocks import blocks_to_drop, find_blocks
from ordercomp.stages.channels import narrow_channels
from ordercomp.stages.stage import EPOCHS, Granularity, StageError, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """Architecture swap: drop blocks or narrow channels, then learn from the current network (Hinton 2015).

    `student="inherit"` keeps what earlier stages did: pruned widths, quantizers, exits. `"fresh"` takes
    the original widths in float, so that pruning and quantization before it act on the teacher alone;
    blocks that an earlier D dropped stay dropped and exits stay. The inheriting student of a sparse network
    is sparse at the same places; shared values are lost with the weights.
    """

    letter: ClassVar[str] = "D"
    title: ClassVar[str] = "Distill"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "architecture"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "depth": Knob(default=0.5, low=0.1, high=1.0, step=0.1, help="share of the blocks that is kept"),
        "width": Knob(
            default=1.0, low=0.1, high=1.0, searched=False, help="share of the channels that is kept"
        ),
        "student": Knob(
            default="inherit",
            choices=("inherit", "fresh"),
            searched=False,
            help="what the student starts from",
        ),
        "epochs": EPOCHS,
    }

    depth: float = 0.5
    width: float = 1.0
    student: Literal["inherit", "fresh"] = "inherit"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a trained student of `network`.

        Raises StageError if there is no block to drop, or if it saves less than a tenth of what is asked for.
        """
        whole = network.rebuild(seed=trainer.seed, original=self.student == "fresh")
        _keep_frozen(network, whole)
        _keep_zeros(network, whole)
        blocks = find_blocks(whole)
        student, notice = shrink(whole, depth=self.depth, width=self.width)
        dropped = list(student.dropped[len(whole.dropped) :])
        notices = [notice]
        _check_saved(whole, student, asked=1 - self.depth * self.width)
        trainer.calibrate(student)
        epochs = trainer.train(student, fresh=True, teacher=network)
        left = len(blocks) - len(dropped)
        achieved: dict[str, object] = {"dropped": dropped, "blocks": left}
        if left > math.ceil(exact(self.depth) * len(blocks)):
            notices.append(f"keeps {left} of {len(blocks)} blocks, as the others change the shape")
        if any(notices):
            achieved["notice"] = "; ".join(filter(None, notices))
        return finish(student, self, epochs, achieved)


def shrink(
    network: CompressedNetwork, *, depth: float = 1.0, width: float = 1.0
) -> tuple[CompressedNetwork, str]:
    """A copy of the network with a share of its blocks and of the channels of each layer, untrained.

    And what is to be told of channels that cannot be followed; mostly nothing.

    Raises StageError if there is no block to drop, or if channels cannot be followed.
    """
    smaller = network.copy()
    blocks = find_blocks(smaller)
    dropped = blocks_to_drop(blocks, depth)
    rounded = math.ceil(exact(depth) * len(blocks))
    if depth < 1 and rounded == len(blocks) and any(block.droppable for block in blocks):
        raise StageError(f"D(depth={depth}) keeps all {rounded} blocks, rounded up; take less")
    if depth < 1 and not dropped:
        raise StageError(
            f"D(depth={depth}) found no droppable block among the {len(blocks)} blocks of "
            f"{network.architecture.model}: a block must map features to the same shape; "
            "try D(depth=1.0,width=0.5)"
        )
    smaller.module.round_outputs({})  # until it is calibrated
    for name in dropped:
        drop_module(smaller.module.body, name)
    smaller = replace(smaller, dropped=(*smaller.dropped, *dropped))
    facts = narrow_channels(smaller, float(1 - exact(width))) if width < 1 else {}
    return smaller, str(facts.get("notice", ""))


@torch.no_grad()
def _keep_frozen(network: CompressedNetwork, student: CompressedNetwork) -> None:
    """Give frozen parameters of the student, which nothing trains, their values. Raises StageError."""
    values = dict(network.module.named_parameters())
    for name, parameter in student.module.named_parameters():
        if parameter.requires_grad:
            continue
        if name not in values or values[name].shape != parameter.shape:
            raise StageError(
                f"D cannot give a fresh student the frozen parameter {name.removeprefix('body.')}, as it is "
                "of another width now; student=inherit keeps it"
            )
        parameter.copy_(values[name])


@torch.no_grad()
def _keep_zeros(network: CompressedNetwork, student: CompressedNetwork) -> None:
    """Let a student that inherits be sparse at the same places; no new weights are equal, to be shared."""
    before = dict(weight_layers(network.module))
    for name, layer in weight_layers(student.module):
        if is_sparse(layer):
            layer.weight.mul_(before[name].weight != 0)
        mark(layer, sparse=is_sparse(layer), shared=False)


def _check_saved(whole: CompressedNetwork, student: CompressedNetwork, *, asked: float) -> None:
    """Raise StageError if neither MACs nor parameters fall by a tenth of the share `asked`."""
    try:
        before, after = measure_cost(whole), measure_cost(student)
    except ValueError:  # what cannot be counted is refused where its cost is asked for
        return
    saved = 1 - min(after.macs / before.macs, after.parameters / before.parameters)
    if saved < asked / 10:
        raise StageError(
            f"D was to save {asked:.0%} of {whole.architecture.model} and saves {saved:.1%}: what it can "
            "drop there is next to nothing; try D(depth=1.0,width=0.5)"
        )
