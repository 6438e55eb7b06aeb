"""MobileNetV2 for small images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ordercomp.models.initialize import initialize


@dataclass(frozen=True, slots=True)
class _Stage:
    expansion: int
    channels: int
    blocks: int


_STAGES = (
    _Stage(1, 16, 1),
    _Stage(6, 24, 2),
    _Stage(6, 32, 3),
    _Stage(6, 64, 4),
    _Stage(6, 96, 3),
    _Stage(6, 160, 3),
    _Stage(6, 320, 1),
)
_STEM, _LAST = 32, 1280
# Strides of the stem and of the stages; a 32x32 image ends as 4x4, 8x8 or 2x2.
_STRIDES = {
    "kl": (1, 1, 1, 2, 2, 1, 2, 1),
    "nac": (1, 1, 1, 1, 2, 1, 2, 1),
    "rd": (2, 1, 1, 2, 2, 1, 2, 1),
}


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution and 1x1 linear projection (Sandler et al. 2018).

    The input is added where shape and stride allow; such a block may be replaced by nn.Identity.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.expand = nn.Sequential() if expansion == 1 else _convolution(inputs, hidden, 1)
        self.depthwise = _convolution(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        out: Tensor = self.bn(self.project(self.depthwise(self.expand(x))))
        return x + out if self.adds else out


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residuals, a 1x1 convolution, average pooling, a linear classifier."""

    def __init__(self, *, classes: int, channels: int, width: float, strides: tuple[int, ...]) -> None:
        super().__init__()
        inputs = _rounded(_STEM * width, width)
        self.stem = _convolution(channels, inputs, 3, stride=strides[0])
        stages = []
        for stage, stride in zip(_STAGES, strides[1:], strict=True):
            outputs = _rounded(stage.channels * width, width)
            stages.append(_stage(stage, inputs, outputs, stride))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        last = _rounded(_LAST * max(1.0, width), width)
        self.last = _convolution(inputs, last, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, h, w) to logits (n, classes)."""
        x = self.last(self.stages(self.stem(x)))
        out: Tensor = self.classifier(torch.flatten(self.pool(x), 1))
        return out


def mobilenet_v2(*, classes: int, channels: int = 3, width: float = 1.0, strides: str = "kl") -> MobileNetV2:
    """MobileNetV2 (Sandler et al. 2018) with the strides reduced for 32x32 images.

    Args:
        classes: number of logits.
        channels: of the images.
        width: factor on the channels, which are rounded to multiples of 8 (of 4 up to a width of 0.1); the
            last convolution keeps 1280 channels for factors below 1.
        strides: "kl" halves the resolution three times, in stages 3, 4 and 6; "nac" only in stages 4 and 6;
            "rd" as "kl" and in the stem.
    """
    if strides not in _STRIDES:
        raise ValueError(f"strides must be one of {', '.join(_STRIDES)}, got {strides!r}")
    return MobileNetV2(classes=classes, channels=channels, width=width, strides=_STRIDES[strides])


def _stage(stage: _Stage, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(inputs, outputs, expansion=stage.expansion, stride=stride)
    rest = (
        InvertedResidual(outputs, outputs, expansion=stage.expansion, stride=1)
        for _ in range(stage.blocks - 1)
    )
    return nn.Sequential(first, *rest)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def _rounded(channels: float, width: float) -> int:
    """The nearest multiple of 8, or of 4 for very narrow networks, but not below 90 % of `channels`."""
    unit = 4 if width <= 0.1 else 8
    rounded = max(unit, int(channels + unit / 2) // unit * unit)
    return rounded + unit if rounded < 0.9 * channels else rounded
