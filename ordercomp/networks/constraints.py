"""What U and W fix in the weights of layers: zeros that stay zero, and equal weights that stay equal.

Which zeros, and which weights are equal, is told by the weights themselves; a layer has two marks, `sparse`
and `shared`. So whatever cuts, quantizes, copies or saves weights keeps both, and training holds them.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


def weight_layers(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Names and modules of all convolutions and linear layers, each once."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield name, layer


def is_sparse(layer: nn.Module) -> bool:
    """Whether zeros among its weights stay zero."""
    return bool(getattr(layer, "sparse", False))


def is_shared(layer: nn.Module) -> bool:
    """Whether equal weights of it stay equal."""
    return bool(getattr(layer, "shared", False))


def mark(layer: nn.Module, *, sparse: bool, shared: bool) -> None:
    """Say what is to be held of a layer's weights from now on."""
    layer.sparse, layer.shared = sparse, shared  # type: ignore[assignment]


def marks(module: nn.Module) -> dict[str, list[bool]]:
    """Both marks of the layers that have one, by name, as JSON can hold them."""
    return {
        name: [is_sparse(layer), is_shared(layer)]
        for name, layer in module.named_modules(remove_duplicate=False)
        if is_sparse(layer) or is_shared(layer)
    }


class WeightConstraints:
    """Holds the weights of a module's marked layers while it trains."""

    def __init__(self, module: nn.Module) -> None:
        """Take what is equal from the weights as they are now."""
        layers = [layer for _, layer in weight_layers(module)]
        self._sparse = [layer.weight for layer in layers if is_sparse(layer)]
        self._groups = [(layer.weight, _evener(layer.weight)) for layer in layers if is_shared(layer)]

    @torch.no_grad()
    def over(self, step: Callable[[], object]) -> None:
        """Take a step of an optimizer: what was zero stays zero, what was equal takes its mean step."""
        kept = [weight != 0 for weight in self._sparse]
        step()
        for weight, even in self._groups:
            even(weight)
        for weight, mask in zip(self._sparse, kept, strict=True):
            weight.mul_(mask)


def _evener(weight: Tensor) -> Callable[[Tensor], object]:
    """What gives the weights that are equal now their mean, in place, in the same order of sums each time."""
    _, group, sizes = torch.unique(weight.detach(), return_inverse=True, return_counts=True)
    group = group.flatten()
    order = group.argsort(stable=True)

    def even(changed: Tensor) -> None:
        flat = changed.flatten()
        means = torch.segment_reduce(flat[order], "mean", lengths=sizes)
        changed.copy_(means[group].view(changed.shape))

    return even
