"""A network for use: quantized layers become plain ones whose weights are rounded once and for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ordercomp.data.splits import Split
from ordercomp.networks.exits import ExitRule, MultiExit, agreement, blank_copy, replace_module, run_until
from ordercomp.networks.layers import FLOAT_BITS, QuantizedLayer, activation_range
from ordercomp.networks.network import CompressedNetwork, Serving


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
    copy: MultiExit = blank_copy(module).eval().requires_grad_(False)
    plain_layers: dict[int, nn.Module] = {}  # a layer that stands in several places stays one layer
    for name, layer in list(copy.named_modules(remove_duplicate=False)):
        if isinstance(layer, QuantizedLayer) and isinstance(layer, nn.Module):
            if id(layer) not in plain_layers:
                plain_layers[id(layer)] = _plain_layer(layer, (weights or {}).get(name))
            replace_module(copy, name, plain_layers[id(layer)])
    copy.round_outputs(
        {name: _plain_rounding(rounding) for name, rounding in zip(copy.rounded, copy.roundings, strict=True)}
    )
    return copy


def _plain_rounding(quantizer: Any) -> InputRounding:
    low, high = activation_range(quantizer.activation_bits, signed=quantizer.signed)
    return InputRounding(float(quantizer.input_scale), low, high)


def _plain_layer(layer: QuantizedLayer, weight: Tensor | None) -> nn.Module:
    with torch.no_grad():
        weight = layer.rounded_weight().clone() if weight is None else weight
    plain = _same_shape(layer)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias
    plain.rounding = nn.Identity()
    if layer.activation_bits < FLOAT_BITS:
        plain.rounding = _plain_rounding(layer)
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


# A network in use: a plain module that knows its normalization and lets images leave early.


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one image."""

    label: int  # number of the class
    confidence: float  # the largest softmax
    exit: int  # where the image left, from 0; the last exit has the largest number
    logits: tuple[float, ...]
    name: str = ""  # of the class; empty where the network was not told them


@dataclass(frozen=True, slots=True)
class Estimate:
    """The number that a network tells of one image."""

    value: float  # in units of the targets
    agreement: float  # of the exit with the one before, from 0 to 1; 0 at the first
    exit: int  # where the image left, from 0


class ShippedNetwork(nn.Module):
    """Normalization, a plain body and plain heads; made by `load_network` or `ship`."""

    def __init__(self, network: MultiExit, *, serving: Serving, shape: tuple[int, int, int]) -> None:
        """Take a module without quantizers, see `plain_module`, for images of shape (c, h, w)."""
        super().__init__()
        self.network = network
        self.serving = serving
        self.shape = shape
        for name, values in _constants(serving).items():
            self.register_buffer(name, values, persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits (n, classes) of every exit, the last one last, for stored pixel values (n, c, h, w).

        Where targets are real, numbers (n, 1) in their units.
        """
        outputs: tuple[Tensor, ...] = self.network(self.normalize(images))
        if not self.serving.scale:
            return outputs
        center, spread = self.serving.scale
        return tuple(output * spread + center for output in outputs)

    def normalize(self, images: Tensor) -> Tensor:
        """Inputs of the body: float32, normalized."""
        if not self.serving.mean:
            return images.float()
        return torch.addcmul(self.get_buffer("shift"), images.float(), self.get_buffer("factor"))

    @torch.inference_mode()
    def predict(self, image: Any, *, threshold: float | None = None) -> Prediction | Estimate:
        """Classify one image, which leaves at the first exit that is sure enough; the rest does not run.

        Where targets are real, tell its number; it leaves at the first exit that agrees enough with the one
        before.

        Args:
            image: stored pixel values, as a rule 0 to 255: a tensor (c, h, w), (1, c, h, w) or, for one
                channel, (h, w); or an array or a picture (h, w, c), which a PIL image becomes.
            threshold: in place of the stored one; without any the image goes to the last exit.

        Raises ValueError if the image does not have the shape that the network was made for.
        """
        threshold = self.serving.threshold if threshold is None else threshold
        pixels = self._batch_of_one(image)
        if self.serving.scale:
            return self._estimate(pixels, threshold)

        rule = ExitRule(self.network.policy, threshold, len(self.network.heads))
        place, logits = run_until(self.network, self.normalize(pixels), rule.leaves, rule.asks)
        chances = logits[0].float().softmax(dim=0)
        label = int(chances.argmax())
        name = self.serving.names[label] if self.serving.names else ""
        return Prediction(label, float(chances[label]), place, tuple(logits[0].tolist()), name)

    def _estimate(self, pixels: Tensor, threshold: float | None) -> Estimate:
        outputs: list[Tensor] = []
        agreements: list[float] = []

        def sure(_place: int, output: Tensor) -> bool:
            outputs.append(output[0, 0].float())
            agreements.append(float(agreement(*outputs[-2:])) if len(outputs) > 1 else 0.0)
            return threshold is not None and agreements[-1] >= threshold

        place, output = run_until(self.network, self.normalize(pixels), sure)
        if place == len(agreements):  # the last exit, which nobody asks
            sure(place, output)
        center, spread = self.serving.scale
        return Estimate(float(output[0, 0]) * spread + center, agreements[-1], place)

    def _batch_of_one(self, image: Any) -> Tensor:
        if isinstance(image, Tensor):
            pixels = image.reshape(1, *image.shape) if image.dim() == 2 else image
        else:
            array = np.ascontiguousarray(image)
            pixels = torch.from_numpy(array[:, :, None] if array.ndim == 2 else array)
            pixels = pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels
        if pixels.dim() == 4 and len(pixels) == 1:
            pixels = pixels[0]
        if tuple(pixels.shape) != self.shape:
            raise ValueError(
                f"image must be one of shape {self.shape} (channels, height, width), "
                f"got {tuple(pixels.shape)}"
            )
        device = next(self.network.parameters()).device
        return pixels.unsqueeze(0).to(device).contiguous(memory_format=torch.channels_last)


def stored_images(network: CompressedNetwork, split: Split, count: int) -> tuple[Tensor, Tensor]:
    """The first images of a split as a shipped network takes them, (n, c, h, w), and their labels (n,)."""
    images, labels, total = [], [], 0
    for batch in split.batches(min(count, 128)):
        images.append(batch.images)
        labels.append(split.labels[batch.index])
        total += len(batch.index)
        if total >= count:
            break
    pixels = torch.cat(images)[:count]
    serving = network.serving
    if serving.mean:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (serving.mean, serving.std))
        pixels = pixels * std + mean
    return pixels.contiguous(), torch.cat(labels)[:count]


def ship(network: CompressedNetwork) -> ShippedNetwork:
    """The network as a plain module for use."""
    architecture = network.architecture
    return ShippedNetwork(
        plain_module(network.module),
        serving=network.serving,
        shape=(architecture.channels, *architecture.size),
    )


def _constants(serving: Serving) -> dict[str, Tensor]:
    """Factors and summands that normalize, made as a data set makes them."""
    if not serving.mean:
        return {}
    factors = [1 / std for std in serving.std]
    shifts = [-mean / std for mean, std in zip(serving.mean, serving.std, strict=True)]
    return {
        "factor": torch.tensor(factors).view(-1, 1, 1),
        "shift": torch.tensor(shifts).view(-1, 1, 1),
    }
