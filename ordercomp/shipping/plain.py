"""A network for use: quantized layers become plain ones whose weights are rounded once and for all."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ordercomp.networks.exits import MultiExit, blank_copy, replace_module
from ordercomp.networks.layers import FLOAT_BITS, QuantizedLayer, activation_range


class InputRounding(nn.Module):
    """Clip to a range and round to multiples of `scale`, as quantizers in training do, by plain operators."""

    def __init__(self, scale: float, low: int, high: int) -> None:
        super().__init__()
        self.scale, self.inverse = scale, 1 / scale
        self.low, self.high = low, high

    def forward(self, values: Tensor) -> Tensor:
        """Map any shape to the same shape, float32."""
        return (values.float() * self.inverse).clamp(self.low, self.high).round() * self.scale

    def extra_repr(self) -> str:
        """The levels in short."""
        return f"{self.scale:g} * [{self.low} … {self.high}]"


class RoundedConv2d(nn.Conv2d):
    """A convolution of weights that are rounded already; it rounds its input."""

    rounding: nn.Module

    def forward(self, values: Tensor) -> Tensor:
        """Map shape (n, in_channels, h, w) to (n, out_channels, h', w')."""
        return super().forward(self.rounding(values))


class RoundedLinear(nn.Linear):
    """A linear layer of weights that are rounded already; it rounds its input."""

    rounding: nn.Module

    def forward(self, values: Tensor) -> Tensor:
        """Map shape (..., in_features) to (..., out_features)."""
        return super().forward(self.rounding(values))


def plain_module(module: MultiExit, weights: Mapping[str, Tensor] | None = None) -> MultiExit:
    """A copy of `module` for evaluation, without quantizers; on the CPU with the same logits, bit for bit.

    `weights` may give rounded weights by the name of their layer; others are rounded from what the layer has.
    """
    twin: MultiExit = blank_copy(module).eval().requires_grad_(False)
    made: dict[int, nn.Module] = {}  # a layer that stands in several places stays one layer
    for name, layer in list(twin.named_modules(remove_duplicate=False)):
        if isinstance(layer, QuantizedLayer) and isinstance(layer, nn.Module):
            if id(layer) not in made:
                made[id(layer)] = _plain_layer(layer, (weights or {}).get(name))
            replace_module(twin, name, made[id(layer)])
    return twin


def _plain_layer(layer: QuantizedLayer, weight: Tensor | None) -> nn.Module:
    with torch.no_grad():
        weight = layer.rounded_weight().clone() if weight is None else weight
    plain = _same_shape(layer)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias  # type: ignore[attr-defined]
    plain.rounding = nn.Identity()
    if layer.activation_bits < FLOAT_BITS:
        low, high = activation_range(layer.activation_bits, signed=layer.signed)
        plain.rounding = InputRounding(float(layer.input_scale), low, high)
    return plain.eval()


def _same_shape(layer: QuantizedLayer) -> RoundedConv2d | RoundedLinear:
    if isinstance(layer, nn.Conv2d):
        return RoundedConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=layer.groups,
            bias=False,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    assert isinstance(layer, nn.Linear)
    return RoundedLinear(layer.in_features, layer.out_features, bias=False, device="meta")
