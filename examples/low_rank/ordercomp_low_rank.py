"""X: a convolution becomes two, of fewer filters and of 1x1, by singular values; an example of a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from ordercomp.knobs import Knob
from ordercomp.networks.exits import replace_module
from ordercomp.networks.network import CompressedNetwork, Rebuilt, channels_last
from ordercomp.stages import EPOCHS, Granularity, StageError, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Replace every k x k convolution of the body by one of `rank` of its filters and a 1x1 convolution."""

    letter: ClassVar[str] = "X"
    title: ClassVar[str] = "Factorize plainly"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "neuron"
    repeatable: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {
        "rank": Knob(default=0.5, low=0.05, high=1.0, step=0.05, help="share of the filters"),
        "epochs": EPOCHS,
    }
    rank: float = 0.5
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        low, made = network.copy(), []
        for name, layer in list(low.module.body.named_modules()):
            if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size != (1, 1):
                facts = {"rank": max(1, round(self.rank * layer.out_channels))}
                pair = self.rebuild(layer, facts)
                left, values, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
                rank = len(values[: facts["rank"]])
                pair[0].weight.data[:rank] = right[:rank].view(-1, *layer.weight.shape[1:])
                pair[1].weight.data[:, :rank] = (left[:, :rank] * values[:rank])[:, :, None, None]
                pair[1].bias = layer.bias
                replace_module(low.module.body, name, pair)
                made.append(Rebuilt("X", name, facts))
        if not made:
            raise StageError("X found no convolution of more than 1x1 to factorize")
        low = replace(low, module=channels_last(low.module), rebuilt=(*network.rebuilt, *made))
        low = low.quantized(network.bits) if network.bits else low
        trainer.calibrate(low)
        return finish(low, self, trainer.train(low, fresh=False), {"layers": len(made)})

    @staticmethod
    def rebuild(layer: nn.Module, facts: Mapping[str, Any]) -> nn.Sequential:
        assert isinstance(layer, nn.Conv2d)
        window = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        first = nn.Conv2d(layer.in_channels, facts["rank"], layer.kernel_size, bias=False, **window)
        second = nn.Conv2d(facts["rank"], layer.out_channels, 1, bias=layer.bias is not None)
        return nn.Sequential(first, second)
