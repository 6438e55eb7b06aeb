"""W: let the weights of a layer share a few values, by k-means, then train these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ordercomp.knobs import Knob
from ordercomp.networks.constraints import is_shared, is_sparse, mark, weight_layers
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.stored import index_bits
from ordercomp.stages.stage import EPOCHS, TEACHER, Granularity, StageError, finish, teacher_of
from ordercomp.training.trainer import Trainer

_ROUNDS = 100  # of k-means at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Weight sharing (Han et al. 2016): `values` shared values in each layer, which are trained together.

    k-means starts from values evenly spaced between the extremes. Weights that U has set to zero stay zero
    and have no part in it. Each shared value takes the mean step of its weights. Layers with no more weights
    than values stay as they are. On a quantized network the quantizer rounds the shared values.
    """

    letter: ClassVar[str] = "W"
    title: ClassVar[str] = "Share weights"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "sub-neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "values": Knob(default=16, low=2, high=4096, step=1, log=True, help="shared values in each layer"),
        "teacher": TEACHER,
        "epochs": EPOCHS,
    }

    values: int = 16
    teacher: Literal["none", "baseline"] = "none"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a copy with shared, trained weights.

        Raises StageError if no layer has more weights than values, or all have so few different ones before.
        """
        shared = network.copy()
        layers = 0
        for _, layer in weight_layers(shared.module):
            weight = layer.weight.detach()
            if int(weight.count_nonzero() if is_sparse(layer) else weight.numel()) <= self.values:
                continue
            if is_shared(layer) and len(torch.unique(weight)) <= self.values:
                continue
            share_values(weight, self.values, zeros=is_sparse(layer))
            mark(layer, sparse=is_sparse(layer), shared=True)
            layers += 1
        if not layers:
            raise StageError(
                f"W(values={self.values}) finds no layer of {network.architecture.model} with more weights "
                "than that, or with more different ones"
            )
        epochs = trainer.train(shared, fresh=False, teacher=teacher_of(self.teacher, trainer))
        return finish(shared, self, epochs, {"layers": layers, **self._saves_nothing(shared)})

    def _saves_nothing(self, network: CompressedNetwork) -> dict[str, object]:
        """A notice if quantized weights take no more bits than the number of a shared value."""
        bits = [layer.weight_bits for _, layer in network.quantized_layers()]
        if not bits or max(bits) > index_bits(self.values):
            return {}
        return {
            "notice": f"saves nothing: weights of {max(bits)} bits have no more than {2 ** max(bits)} values"
        }


@torch.no_grad()
def share_values(weight: Tensor, values: int, *, zeros: bool = False) -> None:
    """Replace weights by the nearest of `values` means, in place; with `zeros` those that are zero stay.

    Lloyd's k-means in one dimension, from evenly spaced values. A mean of no weights is lost. Takes
    O(n log n + values · log n) for each of at most 100 rounds.
    """
    flat = weight.flatten().clone()
    kept = flat != 0 if zeros else torch.ones_like(flat, dtype=torch.bool)
    ordered = flat[kept].double().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    means = torch.linspace(float(ordered[0]), float(ordered[-1]), values, dtype=torch.float64).to(ordered)
    for _ in range(_ROUNDS):
        edges = _edges(ordered, means)
        count = edges.diff()
        moved = torch.where(count > 0, sums[edges].diff() / count.clamp_min(1), means)
        if torch.equal(moved, means):
            break
        means = moved
    nearest = torch.bucketize(flat[kept].double(), (means[1:] + means[:-1]) / 2)
    flat[kept] = means[nearest].to(flat)
    weight.copy_(flat.view(weight.shape))


def _edges(ordered: Tensor, means: Tensor) -> Tensor:
    """Where the ordered weights of each mean begin and end, shape (means + 1,)."""
    inner = torch.searchsorted(ordered, (means[1:] + means[:-1]) / 2)
    return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])
