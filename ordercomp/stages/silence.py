"""Silenced channels: a network whose cut channels are still there, but say nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ordercomp.networks.layers import BagOfFeaturesHead

_NEVER_ALIKE = -1e4  # to a codeword, so that its share of the histogram is zero
_NOT_ZERO_AT_ZERO = frozenset(
    {
        torch.sigmoid,
        Tensor.sigmoid,
        torch.nn.functional.sigmoid,
        functional.hardsigmoid,
        functional.softplus,
        functional.logsigmoid,
        torch._C._nn.hardsigmoid,
        torch._C._nn.softplus,
        torch._C._nn.log_sigmoid,
        torch.exp,
        Tensor.exp,
        torch.cos,
        Tensor.cos,
    }
)


class Quiet(TorchFunctionMode):
    """Activations that make something of nothing keep channels that are zero everywhere at zero."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, then silence what was silent."""
        output = func(*args, **(kwargs or {}))
        if func not in _NOT_ZERO_AT_ZERO or not args or not isinstance(args[0], Tensor):
            return output
        for dim in {1, args[0].dim() - 1} - {0}:
            others = [one for one in range(args[0].dim()) if one != dim]
            output = output * (args[0] != 0).float().amax(others, keepdim=True)
        return output


@torch.no_grad()
def silence(whole: nn.Module, cut: nn.Module, removed: Mapping[str, Sequence[int]]) -> None:
    """Let the outputs `removed`, by module or parameter of `whole`, be zero from now on, in place.

    Layers that normalize over channels take in those that `cut` has left. Raises ValueError if their weights
    are not those of the channels left.
    """
    modules, parameters = dict(whole.named_modules()), dict(whole.named_parameters())
    codebooks = [one.codebook for one in modules.values() if isinstance(one, BagOfFeaturesHead)]
    for name, channels in removed.items():
        if name in modules:
            layer = modules[name]
            if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
                _normalize_rest(name, layer, cut.get_submodule(name), channels)
            else:
                _silence_outputs(layer, channels, _NEVER_ALIKE if layer in codebooks else 0.0)
        else:
            _silence_parameter(parameters[name], cut.get_parameter(name), channels)


def _silence_outputs(layer: nn.Module, channels: Sequence[int], value: float) -> None:
    index = torch.tensor(channels)

    def hook(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"a {type(layer).__name__} has more than one output, whose channels are not known"
            )
        dim = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        return output.index_fill(dim, index.to(output.device), value)

    layer.register_forward_hook(hook)


def _normalize_rest(name: str, layer: nn.Module, left: nn.Module, channels: Sequence[int]) -> None:
    """Normalize over the channels left, as the layer `left` does."""
    weight, width = layer.weight, int(layer.weight.shape[0])  # type: ignore[index]
    index = torch.tensor([one for one in range(width) if one not in set(channels)])
    assert isinstance(weight, Tensor)
    assert isinstance(left.weight, Tensor)
    if not torch.equal(weight[index.to(weight.device)], left.weight):
        raise ValueError(f"{name} has weights of other channels than those that are left")

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        last = isinstance(layer, nn.LayerNorm) and output.shape[-1] == width
        dim, kept = output.dim() - 1 if last else 1, index.to(output.device)
        rest: Tensor = left(inputs[0].index_select(dim, kept))
        return torch.zeros_like(output).index_copy(dim, kept, rest)

    layer.register_forward_hook(hook)


def _silence_parameter(whole: nn.Parameter, cut: nn.Parameter, channels: Sequence[int]) -> None:
    """Zero the part of a parameter that is cut, along the dimension in which the two differ."""
    dims = [dim for dim, (one, other) in enumerate(zip(whole.shape, cut.shape, strict=True)) if one != other]
    for dim in dims:
        whole.index_fill_(dim, torch.tensor(channels).to(whole.device), 0.0)
