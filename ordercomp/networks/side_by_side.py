"""Several networks of one shape as one, whose channels lie side by side and share nothing.

Convolutions become grouped ones, so that one call does the work of several: small networks spend much of
their time on calls. The networks' own parameters and buffers become views into the joint ones, so that each
can be looked at, run or calibrated at any time.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ordercomp.networks.exits import blank_copy
from ordercomp.networks.held import is_shared, is_sparse
from ordercomp.networks.layers import (
    QuantConv2d,
    QuantizedLayer,
    QuantLinear,
    RoundedInput,
    has_plain_forward,
    linear_side_by_side,
)


class UnlikeError(ValueError):
    """Networks that cannot lie side by side."""


class _Linears(nn.Linear):
    """Linear layers side by side: (n, nets · in_features) to (n, nets · out_features)."""

    nets = 1

    def forward(self, values: Tensor) -> Tensor:
        return linear_side_by_side(values, self.weight, self.bias, nets=self.nets)


_KINDS = (nn.Conv2d, QuantConv2d, nn.Linear, QuantLinear, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
_WIDTHS = ("in_channels", "out_channels", "num_features", "num_channels", "groups", "num_groups")


def join(modules: Sequence[nn.Module]) -> nn.Module:
    """One module for all: inputs and outputs have theirs side by side in dimension 1, as (n, nets · c, …).

    The parameters and buffers of `modules` are views of the joint ones from then on, until `separate`. Try
    whether the joint module computes what they do: that depends on what forwards do beside calling layers.
    Raises UnlikeError where shapes or bits differ, or a layer is of a kind that cannot be joined.
    """
    first = modules[0]
    if any(structure(module) != structure(first) for module in modules[1:]):
        raise UnlikeError("networks side by side must have the same layers, widths and bits")
    joint: nn.Module = blank_copy(first)
    layers = [(name, layer) for name, layer in joint.named_modules() if _own_tensors(layer)]
    for _, layer in layers:
        plain = not isinstance(layer, nn.Conv2d | nn.Linear) or has_plain_forward(layer)
        if is_sparse(layer) or is_shared(layer):
            raise UnlikeError("weights whose zeros or shared values are held cannot lie beside others")
        if type(layer) not in _KINDS or not plain:
            raise UnlikeError(f"a {type(layer).__name__} cannot lie beside others of its kind")
    if sum(len(list(layer.parameters(recurse=False))) for _, layer in layers) > len(list(joint.parameters())):
        raise UnlikeError("layers that share a parameter cannot lie beside others")
    for name, layer in layers:
        _share(layer, [module.get_submodule(name) for module in modules])
        _widen(layer, len(modules))
    return joint


def separate(modules: Iterable[nn.Module]) -> None:
    """Give every module memory of its own again."""
    for module in modules:
        for tensor in _tensors(module):
            tensor.data = tensor.data.clone()


def levels_of(module: nn.Module) -> list[bool]:
    """Which quantized layers have levels below zero: a joint layer does not notice where that changes."""
    return [layer.signed for layer in module.modules() if isinstance(layer, RoundedInput)]


def structure(module: nn.Module) -> tuple[object, ...]:
    """What modules must have in common: layers with their settings, bits, shapes, and what is frozen."""
    return tuple(
        (
            *(name, type(layer), layer.extra_repr(), layer.training),
            *(getattr(layer, fact, None) for fact in ("weight_bits", "activation_bits", "levels", "signed")),
            *((key, tensor.shape, tensor.requires_grad) for key, tensor in _own_tensors(layer).items()),
        )
        for name, layer in module.named_modules()
    )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    return dict([*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)])


@torch.no_grad()
def _share(layer: nn.Module, twins: Sequence[nn.Module]) -> None:
    """Give a layer the tensors of its twins, one after the other, and the twins views of these."""
    each = [_own_tensors(twin) for twin in twins]
    for name, own in _own_tensors(layer).items():
        parts = [tensors[name] for tensors in each]
        joined = torch.cat([part.data for part in parts]) if own.dim() else torch.stack(parts)
        own.data = joined.detach()
        for place, part in enumerate(parts):
            part.data = own.data[place] if not part.dim() else own.data.chunk(len(parts))[place]


def _widen(layer: nn.Module, nets: int) -> None:
    if isinstance(layer, nn.Linear):
        if type(layer) is nn.Linear:
            layer.__class__ = _Linears  # in place, since it may have several names
        layer.nets = nets  # type: ignore[assignment]
        return
    for name in _WIDTHS:
        if hasattr(layer, name):
            setattr(layer, name, nets * getattr(layer, name))
    if isinstance(layer, QuantizedLayer):
        layer.nets = nets
