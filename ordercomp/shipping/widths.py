"""Widths that processors like: int8 kernels take channels in vectors of 16, a rest as long as a whole one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ordercomp.networks.network import CompressedNetwork

ALIGNED = 16  # channels; what `P(round_to=16)` and the target "cpu-int8" make widths multiples of


@dataclass(frozen=True, slots=True, kw_only=True)
class UnalignedLayer:
    """A convolution that reads or makes channels whose number is no multiple of 16."""

    name: str
    inputs: int
    outputs: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]  # height and width of what it reads

    @property
    def work(self) -> float:
        """Multiplications for each position of the output."""
        return self.inputs * self.outputs / self.groups * self.kernel[0] * self.kernel[1]

    @property
    def aligned(self) -> tuple[int, int, int]:
        """Inputs, outputs and groups at the next multiples of 16."""
        inputs, outputs = (-(-width // ALIGNED) * ALIGNED for width in (self.inputs, self.outputs))
        return inputs, outputs, inputs if self.groups > 1 else 1


def unaligned_layers(network: CompressedNetwork) -> tuple[list[UnalignedLayer], int]:
    """The convolutions of the body with unaligned widths, and the number of all convolutions.

    The first layer, which reads the channels of the image, counts by what it makes.
    """
    unaligned: dict[str, UnalignedLayer] = {}
    twin = network.copy()
    body = twin.module.eval()
    layers = {name: layer for name, layer in body.named_modules() if isinstance(layer, nn.Conv2d)}
    first = next(iter(layers), "")

    def note(name: str, layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        read = 0 if name == first else layer.in_channels
        if read % ALIGNED or layer.out_channels % ALIGNED:
            unaligned[name] = _facts(name, layer, inputs[0])

    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda module, inputs, name=name: note(name, module, inputs))
    with torch.no_grad():
        body(twin.example(1))
    return list(unaligned.values()), len(layers)


def _facts(name: str, layer: nn.Conv2d, values: Tensor) -> UnalignedLayer:
    height, width = values.shape[2:]
    return UnalignedLayer(
        name=name.removeprefix("body."),
        inputs=layer.in_channels,
        outputs=layer.out_channels,
        groups=layer.groups,
        kernel=(layer.kernel_size[0], layer.kernel_size[1]),
        stride=(layer.stride[0], layer.stride[1]),
        size=(height, width),
    )


def describe_widths(layers: Sequence[UnalignedLayer], total: int) -> str:
    """Say how many convolutions have unaligned widths, and what aligns them; empty if none has."""
    if not layers:
        return ""
    widths = sorted({layer.outputs for layer in layers if layer.outputs % ALIGNED})
    such = f", such as {', '.join(map(str, widths[:3]))}" if widths else ""
    return (
        f"{len(layers)} of {total} convolutions have widths that are no multiples of {ALIGNED}{such}: int8 "
        f"kernels run them no faster than wider ones. P(round_to={ALIGNED}), or the task's target = "
        '"cpu-int8", aligns them'
    )
