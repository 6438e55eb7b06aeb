"""U: set the smallest weights to zero, more and more of them while the network trains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ordercomp.knobs import Knob, exact
from ordercomp.networks.constraints import is_shared, mark, weight_layers
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import EPOCHS, TEACHER, Granularity, StageError, finish, teacher_of
from ordercomp.training.trainer import Trainer

_RAMP = 0.5  # share of the training in which the sparsity rises
_STEPS = 20  # in which it rises
_FLOOR = 0.2  # of the share of weights that is kept: what each layer keeps at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsify:
    """Unstructured magnitude pruning (Zhu and Gupta 2017): a cubic ramp, then training with what is left.

    `sparsity` is the share of all weights that is zero in the end. Weights of convolutions and linear layers,
    heads included, are ranked over the whole network, where each layer keeps at least a fifth of the share
    that the network keeps, or within each layer. Zeros stay zero in whatever follows: quantizers keep them,
    P cuts them, a student that inherits has them at the same places.
    """

    letter: ClassVar[str] = "U"
    title: ClassVar[str] = "Sparsify"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "sub-neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "sparsity": Knob(
            default=0.8, low=0.05, high=0.99, step=0.01, help="share of the weights that is zero"
        ),
        "scope": Knob(
            default="global",
            choices=("global", "local"),
            searched=False,
            help="the smallest weights of the whole network, or the same share of every layer",
        ),
        "teacher": TEACHER,
        "epochs": EPOCHS,
    }

    sparsity: float = 0.8
    scope: Literal["global", "local"] = "global"
    teacher: Literal["none", "baseline"] = "none"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a sparse, trained copy. Raises StageError if as many weights are zero before."""
        sparse = network.copy()
        layers = [layer for _, layer in weight_layers(sparse.module)]
        weights = [layer.weight.detach() for layer in layers]
        start = zero_share(weights)
        if start >= self.sparsity:
            raise StageError(
                f"U(sparsity={self.sparsity}) leaves {network.architecture.model} as it is: {start:.1%} of "
                "its weights are zero before"
            )
        for layer in layers:
            mark(layer, sparse=True, shared=is_shared(layer))

        def thin(done: float) -> None:
            """Zero what the ramp asks for at this share of the training."""
            step = min(math.ceil(min(done / _RAMP, 1.0) * _STEPS), _STEPS)
            target = self.sparsity + (start - self.sparsity) * (1 - step / _STEPS) ** 3
            if target > zero_share(weights):
                zero_smallest(weights, target, together=self.scope == "global")

        epochs = trainer.train(
            sparse, fresh=False, teacher=teacher_of(self.teacher, trainer), before_step=thin
        )
        thin(1.0)
        left = sum(int(weight.count_nonzero()) for weight in weights)
        achieved = {"asked": self.sparsity, "sparsity": round(zero_share(weights), 4), "weights": left}
        return finish(sparse, self, epochs, achieved)


def zero_share(weights: Sequence[Tensor]) -> float:
    """The share of all weights that is zero."""
    return 1 - sum(int(weight.count_nonzero()) for weight in weights) / sum(map(Tensor.numel, weights))


@torch.no_grad()
def zero_smallest(weights: Sequence[Tensor], share: float, *, together: bool) -> None:
    """Set the smallest weights to zero, in place, until a `share` of them is; the first ones among equals.

    `together` ranks the weights of all tensors, of which each keeps a fifth of what is kept of all, at least
    one; else each is thinned by itself and keeps at least one.
    """
    kept = 1 - exact(share)
    if not together:
        for weight in weights:
            _zero(weight, weight.abs().flatten(), math.floor(weight.numel() * (1 - kept)))
        return
    sizes = []
    for weight in weights:
        size = weight.abs().flatten()
        least = max(1, math.ceil(weight.numel() * kept * exact(_FLOOR)))
        size[size.topk(least).indices] += math.inf
        sizes.append(size)
    every = torch.cat(sizes)
    limit = math.floor(len(every) * (1 - kept))
    smallest = every.argsort(stable=True)[:limit]
    gone = torch.zeros(len(every), dtype=torch.bool, device=every.device)
    gone[smallest] = True
    gone &= every.isfinite()
    for weight, mask in zip(weights, torch.split(gone, [len(size) for size in sizes]), strict=True):
        weight.mul_(~mask.view(weight.shape))


def _zero(weight: Tensor, sizes: Tensor, count: int) -> None:
    flat = torch.ones(len(sizes), dtype=torch.bool, device=weight.device)
    flat[sizes.argsort(stable=True)[: min(count, len(sizes) - 1)]] = False
    weight.mul_(flat.view(weight.shape))
