"""Fake-quantized layers and exit heads: the modules that quantization and early exit put into a network.

Quantizers follow DoReFa (Zhou et al. 2016), with one deviation: weights are multiplied back by their
range and activations are clipped to a calibrated range instead of 1, so that a trained network keeps its
scale when it is quantized. Levels, straight-through gradients and bit counts are those of the paper. All
rounding is done in float32, whatever the precision around it; under autocast, layers multiply whole numbers,
which bfloat16 holds exactly up to 8 bits, and scale the result.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

FLOAT_BITS = 32
MOST_LEVEL_BITS = 8  # of levels that are not evenly spaced
TENSOR_BITS = 8  # of a tensor that several parts read
CODEWORDS = 64
GRID = 4  # a head averages features to at most this many rows and columns before they are looked up

HeadKind = Literal["pool", "bof"]
Levels = Literal["uniform", "symmetric", "pot", "apot"]  # of weights of more than one bit
Placement = Literal["layer", "tensor"]  # of quantizers of activations
EVEN: tuple[Levels, ...] = ("uniform", "symmetric")  # those in even steps


def dorefa_weight(weight: Tensor, bits: int, levels: Levels = "uniform", nets: int = 1) -> Tensor:
    """Quantize weights of any shape to `bits` bits, keeping their scale; gradients pass straight through.

    Several `nets` have their weights one after the other along the first dimension, each its own range.

    More than one bit: 2^bits evenly spaced levels of tanh(w) on [-m, m], m = max |tanh(w)|; divided by m
    these are the levels of DoReFa, equation 9. There is no zero level. One bit: sign(w) · mean |w| with
    sign(0) = +1, equation 7. 32 bits: unchanged. m and the mean are constants to the gradient. Other `levels`
    have a zero: "symmetric" ones are one fewer, still evenly spaced; for the rest see `level_table`.
    """
    if bits >= FLOAT_BITS:
        return weight
    quantized: Tensor = _WeightQuantizer.apply(weight, bits, levels, nets)  # type: ignore[no-untyped-call]
    return quantized


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def level_table(bits: int, levels: Levels, device: torch.device | None = None) -> Tensor:
    """Rising levels on [-1, 1] that are symmetric around zero, at most 2^bits - 1 of them, float32.

    "pot": zero and powers of two (Zhou et al. 2017). "apot": sums of ⌈(bits - 1) / 2⌉ powers of two, two bits
    each and the last one bit where they do not share out evenly (Li et al. 2020).
    """
    magnitudes = {0.0}
    rest, terms = bits - 1, -(-(bits - 1) // 2)
    if levels == "pot":
        magnitudes |= {2.0**-power for power in range(2**rest - 1)}
    else:
        for term in range(terms):
            choices = 2 ** min(2, rest - 2 * term) - 1
            powers = (0.0, *(2.0 ** -(term + terms * step) for step in range(choices)))
            magnitudes = {sum(pair) for pair in itertools.product(magnitudes, powers)}
    rising = torch.tensor(sorted(magnitudes), dtype=torch.float64) / max(magnitudes)
    return torch.cat([-rising[1:].flip(0), rising]).float().to(device)


def weight_numbers(weight: Tensor, bits: int, levels: Levels = "uniform") -> tuple[Tensor, Tensor]:
    """The whole numbers 0 … 2^bits - 1 (as float32) that `dorefa_weight` makes of weights, and their range.

    Less than 32 bits. `weight_of_numbers` makes the quantized weights of both again, bit for bit.
    """
    weight = weight.detach().float()
    if bits == 1:
        return _signs(weight)
    return _bounded_numbers(weight.tanh(), bits, levels)


def _signs(weight: Tensor, nets: int = 1) -> tuple[Tensor, Tensor]:
    return (weight >= 0).float(), _of_each_net(torch.mean, weight.abs(), nets)


def _bounded_numbers(bounded: Tensor, bits: int, levels: Levels, nets: int = 1) -> tuple[Tensor, Tensor]:
    top = _of_each_net(torch.amax, bounded.abs(), nets).clamp_min(1e-12)
    if levels not in EVEN:
        table = level_table(bits, levels, bounded.device)
        nearest = torch.bucketize((bounded / top).contiguous(), (table[1:] + table[:-1]) / 2)
        return torch.empty_like(bounded).copy_(nearest), top
    return ((bounded / (2 * top) + 0.5) * even_steps(bits, levels)).round_(), top


def _of_each_net(reduce: Callable[..., Tensor], weight: Tensor, nets: int) -> Tensor:
    """One number for each of the nets whose weights lie one after the other, repeated for each of its rows.

    For one net shape (), for several (rows, 1, …), as many dimensions as the weight has.
    """
    if nets == 1:
        return reduce(weight, tuple(range(weight.dim())))
    each = reduce(weight.reshape(nets, -1, *weight.shape[1:]), tuple(range(1, weight.dim() + 1)))
    return spread_nets(each, weight, dim=0)


def spread_nets(each: Tensor, values: Tensor, *, dim: int) -> Tensor:
    """One number for each net, shape (nets,), so that it fits `values`, which hold the nets along `dim`.

    A number of one net, shape (), stays as it is.
    """
    if each.dim() == 0:
        return each
    shape = [1] * values.dim()
    shape[dim] = -1
    return each.repeat_interleave(values.shape[dim] // len(each)).view(shape)


def weight_of_numbers(numbers: Tensor, top: Tensor, bits: int, levels: Levels = "uniform") -> Tensor:
    """Quantized weights: levels on [-top, top], of which `numbers` counts from below."""
    if bits == 1:
        return (2 * numbers - 1) * top
    if levels not in EVEN:
        return level_table(bits, levels, top.device)[numbers.long()] * top
    weight: Tensor = numbers * (2 * top / even_steps(bits, levels))
    return weight.sub_(top)


def even_steps(bits: int, levels: Levels) -> int:
    """How many steps lie between the lowest and the highest of evenly spaced levels."""
    return (1 << bits) - (2 if levels == "symmetric" and bits > 1 else 1)


def dorefa_activation(
    values: Tensor, bits: int, scale: Tensor, *, signed: bool = False, whole: bool = False
) -> Tensor:
    """Round `values` to multiples of `scale`, clipped to 2^bits levels; result is float32.

    The scale has shape (), or one that broadcasts to that of the values.

    Unsigned levels are 0 … (2^bits - 1)·scale: DoReFa's equation 5 stretched from [0, 1]. Signed ones
    are symmetric around zero, 2^bits - 1 of them; one bit has no sign. The gradient is 1 inside the range
    and 0 outside. 32 bits: unchanged. If `whole`, levels are divided by the scale, in autocast's precision.
    """
    if bits >= FLOAT_BITS:
        return values
    low, high = activation_range(bits, signed=signed)
    if (
        values.device.type == "cpu" and scale.dim() == 0
    ):  # four vectorized passes take a quarter of the built-in's time
        return _ActivationQuantizer.apply(values, float(scale), low, high, whole)  # type: ignore
    return _ScaledQuantizer.apply(values, scale, low, high, whole)  # type: ignore


def levels_of(layer: nn.Module) -> Levels:
    """The levels of a layer's weights; "uniform" if it is not quantized."""
    return layer.levels if isinstance(layer, QuantizedLayer) else "uniform"


class RoundedInput:
    """What rounds to levels of a range that it can choose: the input of a layer, or a tensor by itself."""

    activation_bits: int
    signed: bool  # whether inputs below zero were seen when the range was calibrated
    input_scale: Tensor  # width of one activation level, shape (), or (nets,); [0, 1] before calibration

    @torch.no_grad()
    def calibrate(self, values: Tensor, scales: Sequence[Tensor] = ()) -> None:
        """Choose the input range that rounds and clips this batch with the smallest squared error.

        One of the `scales` is taken if it changes nothing: what is rounded already is rounded as it was.
        """
        if self.activation_bits >= FLOAT_BITS:
            return
        values = values.float().flatten()
        self.signed = self.activation_bits > 1 and bool(values.min() < 0)
        top = values.abs().max().clamp_min(1e-6)
        levels = activation_range(self.activation_bits, signed=self.signed)[1]
        sample = values[:: max(1, len(values) // 16384)]
        candidates = top * torch.linspace(0.1, 1.0, 19, device=values.device) / max(levels, 1)
        candidates = next((step.reshape(1) for step in scales if not self._error(sample, step)), candidates)
        errors = [self._error(sample, scale) for scale in candidates]
        self.input_scale.copy_(candidates[int(torch.stack(errors).argmin())])

    def _error(self, values: Tensor, scale: Tensor) -> Tensor:
        rounded = dorefa_activation(values, self.activation_bits, scale, signed=self.signed)
        return (rounded - values).square().mean()


class Rounding(RoundedInput, nn.Module):
    """Rounds a tensor that several parts of a network read, to 8 bits; calibrate it before use."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.activation_bits, self.signed = TENSOR_BITS, False
        self.register_buffer("input_scale", torch.tensor(1 / 255, device=device))

    def forward(self, values: Tensor) -> Tensor:
        """Map any shape to the same shape, float32."""
        return dorefa_activation(values, self.activation_bits, self.input_scale, signed=self.signed)


class QuantizedLayer(RoundedInput):
    """What quantized convolutions and linear layers share: bit widths and the range of their input.

    A layer may hold several `nets` side by side, which share nothing: see `ordercomp.training.together`.
    """

    weight: Tensor
    bias: Any  # Tensor | None
    weight_bits: int
    levels: Levels = "uniform"
    nets: int = 1
    training: bool
    sparse: bool = False  # whether zeros among the weights are zero to the quantizer, too
    _kept: "_KeptWeight | None" = None

    def set_bits(self, weights: int, activations: int, *, signed: bool = False) -> None:
        """Set bit widths; an existing input range is kept and divided into the new number of levels."""
        if hasattr(self, "activation_bits"):
            before = activation_range(self.activation_bits, signed=self.signed)[1]
            self.input_scale.mul_(before / activation_range(activations, signed=self.signed)[1])
        self.weight_bits, self.activation_bits = weights, activations
        self.signed = signed or getattr(self, "signed", False)

    def quantized_operands(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The input and the weight as the hardware would see them."""
        scale = spread_nets(self.input_scale, values, dim=1)
        inputs = dorefa_activation(values, self.activation_bits, scale, signed=self.signed)
        return inputs, self.rounded_weight()

    def rounded_weight(self) -> Tensor:
        """The weight as quantized. In evaluation it is rounded once and kept until something changes it.

        What is kept is used without gradients only, and let go by `train`, since replayed graphs change
        weights unseen. Writing through `weight.data` is unseen, too: call `train` before, or `eval` after.
        """
        changing = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if changing or self.weight_bits >= FLOAT_BITS or self.weight.is_inference():
            return self._round(self.weight)
        if self._kept is None or not self._kept.fits(self.weight, self.weight_bits, self.levels):
            self._kept = _KeptWeight(self.weight, self.weight_bits, self.levels, self._round(self.weight))
        return self._kept.rounded

    def _round(self, weight: Tensor) -> Tensor:
        rounded = dorefa_weight(weight, self.weight_bits, self.levels, self.nets)
        if not self.sparse or self.weight_bits >= FLOAT_BITS:
            return rounded
        kept = weight != 0
        if self.weight_bits == 1:  # the mean of those that are left
            rounded = rounded * (kept.numel() / kept.sum().clamp_min(1))
        return rounded * kept

    def train(self, mode: bool = True) -> Any:
        """As of any module; lets go of the rounded weight."""
        self._kept = None
        return super().train(mode)  # type: ignore[misc]

    def multiply(
        self, values: Tensor, operation: Callable[..., Tensor], bias_shape: tuple[int, ...]
    ) -> Tensor:
        """What `operation(input, weight, bias)` makes of quantized operands; whole numbers under autocast."""
        if not torch.is_autocast_enabled(values.device.type):
            return operation(*self.quantized_operands(values), self.bias)
        inputs, weight, factor = self.whole_operands(values)
        product = operation(inputs, weight, None)
        scaled = product * spread_nets(factor, product, dim=1)
        return scaled if self.bias is None else scaled + self.bias.view(bias_shape)

    def whole_operands(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input and weight as whole numbers where they are quantized, and the factor of their product.

        Levels that are not evenly spaced are shares of the largest.
        """
        bits, weight = self.activation_bits, self.rounded_weight()
        factor = self.input_scale if bits < FLOAT_BITS else torch.ones((), device=values.device)
        scale = spread_nets(self.input_scale, values, dim=1)
        values = dorefa_activation(values, bits, scale, signed=self.signed, whole=True)
        if self.weight_bits < FLOAT_BITS:
            unit = _of_each_net(torch.amax, weight.detach().abs(), self.nets)
            if self.levels in EVEN:
                unit = unit / even_steps(self.weight_bits, self.levels)
            each = unit if self.nets == 1 else unit.flatten()[:: len(weight) // self.nets]
            weight, factor = weight / unit, factor * each
        return values, weight, factor


class _KeptWeight:
    """A rounded weight, and what tells that it is still that of its source; copies of a layer go without."""

    def __init__(self, source: Tensor, bits: int, levels: Levels, rounded: Tensor) -> None:
        self._source = source  # held, so that no other tensor takes its place in memory
        self._facts = self._read(source, bits, levels)
        self.rounded = rounded.detach()

    def fits(self, source: Tensor, bits: int, levels: Levels) -> bool:
        return source is self._source and self._facts == self._read(source, bits, levels)

    @staticmethod
    def _read(source: Tensor, bits: int, levels: Levels) -> tuple[Any, ...]:
        return bits, levels, source._version, source.data_ptr(), source.stride(), source.dtype, source.device

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class QuantConv2d(QuantizedLayer, nn.Conv2d):
    """A convolution whose input and weight are fake-quantized; the bias stays in float."""

    def forward(self, values: Tensor) -> Tensor:
        """Map shape (n, in_channels, h, w) to (n, out_channels, h', w')."""
        return self.multiply(values, self._conv_forward, (-1, 1, 1))


class QuantLinear(QuantizedLayer, nn.Linear):
    """A linear layer whose input and weight are fake-quantized; the bias stays in float."""

    def forward(self, values: Tensor) -> Tensor:
        """Map shape (..., in_features) to (..., out_features)."""
        return self.multiply(values, partial(linear_side_by_side, nets=self.nets), (-1,))


def linear_side_by_side(values: Tensor, weight: Tensor, bias: Tensor | None, *, nets: int) -> Tensor:
    """Linear layers beside each other: (n, nets · in) with weights (nets · out, in) to (n, nets · out)."""
    if nets == 1:
        return functional.linear(values, weight, bias)
    each = values.reshape(len(values), nets, -1).transpose(0, 1)  # (nets, n, in)
    product = (
        torch.bmm(each, weight.view(nets, -1, weight.shape[1]).transpose(1, 2)).transpose(0, 1).flatten(1)
    )
    return product if bias is None else product + bias


class ExitHead(nn.Module):
    """A classifier on the features of a split point: global average pooling, then one linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier: nn.Linear = nn.Linear(channels, classes)

    def summarize(self, features: Tensor) -> Tensor:
        """The part without parameters, which can be cached: (n, c, h, w) or (n, c) to (n, c)."""
        return features.flatten(2).mean(2) if features.dim() > 2 else features

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (n, channels, h, w) or (n, channels) to logits (n, classes)."""
        logits: Tensor = self.classifier(self.summarize(features))
        return logits


def quantized_layer(
    layer: nn.Module, weights: int, activations: int, *, signed: bool = False, levels: Levels = "uniform"
) -> nn.Module:
    """A quantized twin of a convolution or linear layer that shares its parameters.

    A layer that is quantized already gets the new bit widths, as a new object. Raises ValueError for
    modules of other kinds.
    """
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ValueError(f"layer must be a Conv2d or a Linear to be quantized, got {type(layer).__name__}")
    twin = _twin(QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear, layer)
    if "input_scale" in twin._buffers:
        twin._buffers["input_scale"] = twin._buffers["input_scale"].clone()
    else:
        top = activation_range(activations, signed=False)[1]
        twin.register_buffer("input_scale", torch.tensor(1 / top, device=layer.weight.device))
    twin.set_bits(weights, activations, signed=signed)
    twin.levels = levels
    quantized: nn.Module = twin
    return quantized


def has_plain_forward(layer: nn.Module) -> bool:
    """Whether a convolution or linear layer computes what its class in torch computes, quantized or not."""
    if isinstance(layer, QuantizedLayer):
        return True
    plain: type[nn.Conv2d | nn.Linear] = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    names = ("forward", "_conv_forward", "__call__")
    kept = all(getattr(type(layer), name, None) is getattr(plain, name, None) for name in names)
    return kept and "forward" not in vars(layer) and not layer._forward_hooks and not layer._forward_pre_hooks


def _twin(kind: type[Any], layer: nn.Module) -> Any:
    """An object of class `kind` with the same attributes, parameters shared, containers its own."""
    twin: Any = object.__new__(kind)
    twin.__dict__ = {
        name: value.copy() if isinstance(value, dict) else value for name, value in layer.__dict__.items()
    }
    return twin


def activation_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """The lowest and the highest whole number of an activation."""
    if bits >= FLOAT_BITS:
        return 0, 1
    if signed and bits > 1:
        top = 2 ** (bits - 1) - 1
        return -top, top
    return 0, 2**bits - 1


class _WeightQuantizer(torch.autograd.Function):
    """DoReFa weights forward, straight-through gradient backward."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int, levels: Levels, nets: int) -> Tensor:
        weight = weight.float()
        if bits == 1:
            ctx.slope = None
            return weight_of_numbers(*_signs(weight, nets), bits)
        bounded = weight.tanh()
        ctx.slope = 1 - bounded * bounded
        return weight_of_numbers(*_bounded_numbers(bounded, bits, levels, nets), bits, levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        return (gradient if ctx.slope is None else gradient * ctx.slope), None, None, None


class _ActivationQuantizer(torch.autograd.Function):
    """Clip and round forward, to levels or to their whole numbers; backward the clip's gradient alone."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float, low: int, high: int, whole: bool) -> Tensor:
        values = values.float()
        ctx.save_for_backward(values)
        ctx.range, ctx.unit = (low * scale, high * scale), scale if whole else None
        numbers = (values * (1 / scale)).clamp_(low, high).round_()
        return numbers.to(torch.get_autocast_dtype("cpu")) if whole else numbers.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (values,) = ctx.saved_tensors
        gradient = gradients[0] if ctx.unit is None else gradients[0].float() / ctx.unit
        clipped: Tensor = torch.ops.aten.hardtanh_backward(gradient, values, *ctx.range)
        return clipped, None, None, None, None


class _ScaledQuantizer(torch.autograd.Function):
    """The same where reading the scale would make the host wait: scaled first, then clipped and rounded."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, low: int, high: int, whole: bool) -> Tensor:
        scaled = values.float() / scale
        ctx.save_for_backward(scaled, scale)
        ctx.range, ctx.whole = (low, high), whole
        numbers = scaled.clamp(low, high).round_()
        return numbers.to(torch.get_autocast_dtype(values.device.type)) if whole else numbers.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        scaled, scale = ctx.saved_tensors
        gradient = gradients[0].float() / scale if ctx.whole else gradients[0]
        clipped: Tensor = torch.ops.aten.hardtanh_backward(gradient, scaled, *ctx.range)
        return clipped, None, None, None, None


class BagOfFeaturesHead(nn.Module):
    """A classifier on a histogram of codewords (Passalis et al. 2020).

    A 1x1 convolution compares every place with the codebook, (tanh + 1) / 2 makes similarities of it, which
    are shared out among the codewords and averaged over the places; one linear layer reads the histogram.
    """

    def __init__(self, channels: int, classes: int, codewords: int = CODEWORDS) -> None:
        super().__init__()
        self.codebook: nn.Conv2d = nn.Conv2d(channels, codewords, 1)
        self.classifier: nn.Linear = nn.Linear(codewords, classes)

    def summarize(self, features: Tensor) -> Tensor:
        """The part without parameters, which can be cached: (n, c, h, w) or (n, c) to (n, c, h', w').

        h' and w' are at most 4, so that the features of a whole data set fit into memory.
        """
        if features.dim() == 2:
            return features[:, :, None, None]
        height, width = features.shape[2:]
        if max(height, width) <= GRID:
            return features
        return functional.adaptive_avg_pool2d(features, (min(height, GRID), min(width, GRID)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (n, channels, h, w) or (n, channels) to logits (n, classes)."""
        similarity = (torch.tanh(self.codebook(self.summarize(features))) + 1) / 2
        histogram = functional.normalize(similarity, p=1.0, dim=1).mean((2, 3))
        logits: Tensor = self.classifier(histogram)
        return logits


def make_head(kind: HeadKind, channels: int, classes: int, *, codewords: int = CODEWORDS) -> nn.Module:
    """A head with fresh weights; `codewords` matters to "bof" alone."""
    if kind == "bof":
        return BagOfFeaturesHead(channels, classes, codewords)
    return ExitHead(channels, classes)


def head_kind(heads: nn.ModuleList) -> HeadKind:
    """The kind of a network's heads, which are all of one; "pool" if there are none."""
    return "bof" if any(isinstance(head, BagOfFeaturesHead) for head in heads) else "pool"
