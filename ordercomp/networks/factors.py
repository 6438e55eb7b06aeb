"""Low-rank factors: two layers that multiply less than the one whose place they take.

A convolution is factored in one of two forms: `channels`, a convolution of fewer filters and one of 1x1
(Zhang et al. 2015), or `space`, a column of the window and then a row of it (Jaderberg et al. 2014). Linear
layers have the first form alone.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ordercomp.knobs import exact
from ordercomp.networks.constraints import Layer

Form = Literal["channels", "space"]


class Factors(nn.Sequential):
    """Two layers in the place of one; no block, and no place for an exit between them."""

    @property
    def pair(self) -> tuple[Layer, Layer]:
        """The layer that runs first, and the other."""
        first, second = self.children()
        assert isinstance(first, Layer)
        assert isinstance(second, Layer)
        return first, second


def form_of(layer: Layer, share: float) -> tuple[Form, int] | None:
    """The form, and its rank, of at most a `share` of the layer's multiplications that errs least.

    The error is that of the weights, summed squares. None if no form multiplies less than the layer.
    """
    best: tuple[float, Form, int] | None = None
    window = isinstance(layer, nn.Conv2d) and 1 not in layer.kernel_size and layer.padding != "same"
    forms: tuple[Form, ...] = ("channels", "space") if window else ("channels",)
    for form in forms:
        whole, each = layer.weight.numel(), _of_one_rank(layer, form)
        rank = max(1, math.floor(exact(share) * whole / each))
        if rank * each >= whole:
            continue
        values = torch.linalg.svdvals(_matrix(layer.weight.detach(), form))
        error = float(values[rank:].square().sum())
        if best is None or error < best[0]:
            best = error, form, min(rank, len(values))
    return best and best[1:]


def _of_one_rank(layer: Layer, form: Form) -> int:
    """Multiplications that one rank takes for each place of the output."""
    outputs = len(layer.weight)
    if isinstance(layer, nn.Linear) or form == "channels":
        return layer.weight[0].numel() + outputs
    height, width = layer.kernel_size
    return layer.in_channels * height * layer.stride[1] + width * outputs


def _matrix(weight: Tensor, form: Form) -> Tensor:
    """The weight as the matrix whose rank is cut: outputs by inputs, or rows of the window by columns."""
    if form == "channels":
        return weight.flatten(1)
    outputs, inputs, height, width = weight.shape
    return weight.permute(1, 2, 3, 0).reshape(inputs * height, width * outputs).T


def make_factors(layer: nn.Module, facts: Mapping[str, Any]) -> Factors:
    """Factors of the `form` and `rank` of the facts, with fresh weights, for a layer."""
    rank = int(facts["rank"])
    bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Linear):
        return Factors(
            nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)
        )
    if not isinstance(layer, nn.Conv2d):
        raise ValueError(f"a {type(layer).__name__} has no low-rank factors")
    options: dict[str, Any] = {"padding_mode": layer.padding_mode}
    whole = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    if facts["form"] == "channels":
        first = nn.Conv2d(layer.in_channels, rank, bias=False, **whole, **options)
        return Factors(first, nn.Conv2d(rank, layer.out_channels, 1, bias=bias))
    none = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    column: dict[str, Any] = {name: (own[0], none[name]) for name, own in whole.items()}
    row: dict[str, Any] = {name: (none[name], own[1]) for name, own in whole.items()}
    return Factors(
        nn.Conv2d(layer.in_channels, rank, bias=False, **column, **options),
        nn.Conv2d(rank, layer.out_channels, bias=bias, **row, **options),
    )


@torch.no_grad()
def fill_factors(pair: Factors, layer: Layer, form: Form) -> None:
    """Give factors the weights of the layer's truncated singular value decomposition, shared out evenly."""
    first, second = pair.pair
    left, values, right = torch.linalg.svd(_matrix(layer.weight.detach(), form), full_matrices=False)
    rank = len(first.weight)
    root = values[:rank].sqrt()
    right, left = root[:, None] * right[:rank], left[:, :rank] * root
    if form == "channels":
        first.weight.copy_(right.reshape(first.weight.shape))
        second.weight.copy_(left.reshape(second.weight.shape))
    else:
        _, inputs, height, _ = first.weight.shape
        first.weight.copy_(right.reshape(rank, inputs, height, 1))
        outputs, _, _, width = second.weight.shape
        second.weight.copy_(left.reshape(width, outputs, rank).permute(1, 2, 0)[:, :, None])
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
