"""E: add classifiers inside the network, so that easy images leave early."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from ordercomp.knobs import Knob
from ordercomp.networks.exits import POLICIES, Policy, attach_heads, quantize_layers
from ordercomp.networks.layers import HeadKind
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.blocks import Block, split_candidates
from ordercomp.stages.stage import EPOCHS, Granularity, StageError, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyExit:
    """Heads at equal shares of the body's cost; `policy` says what lets an image leave there.

    They train on a frozen body, or with `train=joint` together with it, all exits weighing the same.

    On a quantized network the heads are quantized from the start. Fewer split points than `exits` give
    fewer exits, which the lineage tells.
    """

    letter: ClassVar[str] = "E"
    title: ClassVar[str] = "Early exit"
    dynamic: ClassVar[bool] = True
    granularity: ClassVar[Granularity] = "architecture"
    repeatable: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {
        "exits": Knob(default=2, low=1, high=8, step=1, help="number of early exits"),
        "head": Knob(
            default="pool",
            choices=("pool", "bof"),
            searched=False,
            help="pool: global average and a linear layer; bof: a bag of features",
        ),
        "train": Knob(
            default="heads",
            choices=("heads", "joint"),
            searched=False,
            help="heads: the body stays as it is; joint: it trains with them",
        ),
        "policy": Knob(
            default="confidence",
            choices=POLICIES,
            searched=False,
            help="leave by the largest softmax, by exits that agree, or by softmax where it is foreseen",
        ),
        "epochs": EPOCHS,
    }

    exits: int = 2
    head: HeadKind = "pool"
    train: Literal["heads", "joint"] = "heads"
    policy: Policy = "confidence"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a copy with trained heads. Raises StageError if it has exits or nowhere to put one."""
        if network.exits:
            raise StageError("E cannot be applied to a network that has exits already")
        if self.policy != "confidence" and network.architecture.classes == 1:
            model = network.architecture.model
            raise StageError(f"E(policy={self.policy}) needs classes, and {model} tells a number")
        points = spread(split_candidates(network), self.exits)
        if not points:
            raise StageError(f"E found no place for an exit in {network.architecture.model}")
        grown = network.copy()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trainer.seed)
            module = attach_heads(
                grown.module.body, points, network.architecture, kind=self.head, policy=self.policy
            )
        module.round_outputs(dict(zip(grown.module.rounded, grown.module.roundings, strict=True)))
        if network.bits is not None:
            quantize_layers(module.heads, network.bits)
        grown = replace(grown, module=module)
        epochs = trainer.train_heads(grown, joint=self.train == "joint")
        achieved: dict[str, object] = {"exits": list(points)}
        if len(points) < self.exits:
            achieved["notice"] = f"finds room for {len(points)} of {self.exits} exits"
        return finish(grown, self, epochs, achieved)


def spread(candidates: list[Block], count: int) -> list[str]:
    """Names of `count` split points, fewer if there are fewer, in the order of execution.

    The candidates whose cost lies nearest to the shares 1/(count + 1), 2/(count + 1), … of the body.
    """
    free = list(candidates)
    chosen: list[Block] = []
    for place in range(1, min(count, len(candidates)) + 1):
        nearest = min(free, key=lambda block: abs(block.share - place / (count + 1)))
        free.remove(nearest)
        chosen.append(nearest)
    return [block.name for block in candidates if block in chosen]
