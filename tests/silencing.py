"""What a network computes whose cut channels are silenced, by another way than the product's own check."""

import torch
from random_nets import Standardized
from tiny_networks import tiny_network
from torch import Tensor, nn

from ordercomp.networks.network import CompressedNetwork

__all__ = ["close", "exact", "silenced", "unique_network"]

QUIET = 1e-9  # of the largest logit, in float64


def unique_network(model: str, *, seed: int = 1, size: int = 8) -> CompressedNetwork:
    """A network in evaluation no two weights of which are the same, so that values tell channels."""
    network = tiny_network(model, seed=seed, size=size)
    _make_unique(network.module, seed)
    network.module.eval()
    return network


@torch.no_grad()
def _make_unique(module: nn.Module, seed: int) -> None:
    """No two weights of a parameter are the same, and none is 0 or 1, as normalizations are at first."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        places = torch.randperm(tensor.numel(), generator=generator).view(tensor.shape)
        shares = (places + 0.5) / tensor.numel()
        if tensor.dim() == 1 or name.endswith("scale"):
            tensor.copy_(shares + 0.5)
        else:
            tensor.copy_((2 * shares - 1) * tensor.abs().max())


@torch.no_grad()
def exact(network: CompressedNetwork) -> tuple[Tensor, ...]:
    """Logits in float64, in which rounding hides nothing."""
    found: tuple[Tensor, ...] = (
        network.copy().module.eval().double()(network.architecture.example(3).double())
    )
    return found


def close(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(bool((a - b).abs().max() <= QUIET * a.abs().max()) for a, b in zip(one, other, strict=True))


@torch.no_grad()
def silenced(network: CompressedNetwork, pruned: CompressedNetwork) -> tuple[Tensor, ...]:
    """Logits of the old network, all of whose weights are zero that the pruned one has not.

    No two weights are the same, so that their values tell which are left. A layer that reads its inputs in
    other places than the old one gives other logits. Normalizations, of weights as well, take in the channels
    that are left.
    """
    whole = network.copy()
    whole.module.eval().double()
    left = dict(pruned.copy().module.eval().double().named_modules())
    for name, layer in whole.module.named_modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm | Standardized):
            _normalize_rest(layer, left[name])
            continue
        for key, parameter in layer.named_parameters(recurse=False):
            parameter.mul_(torch.isin(parameter, left[name].get_parameter(key)))
    found: tuple[Tensor, ...] = whole.module(network.architecture.example(3).double())
    return found


def _normalize_rest(layer: nn.Module, left: nn.Module) -> None:
    kept = torch.isin(layer.weight, left.get_parameter("weight"))  # type: ignore[arg-type]
    outputs = kept.flatten(1).any(1) if kept.dim() > 1 else kept
    inputs = kept.transpose(0, 1).flatten(1).any(1) if kept.dim() > 1 else kept
    dim = -1 if isinstance(layer, nn.LayerNorm) else 1

    def hook(_layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rest: Tensor = left(given[0].index_select(dim, inputs.nonzero().flatten()))
        return torch.zeros_like(output).index_copy(dim, outputs.nonzero().flatten(), rest)

    layer.register_forward_hook(hook)
