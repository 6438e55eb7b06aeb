"""Networks for small images: residual ones, VGG and MobileNetV2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def initialize(module: nn.Module) -> None:
    """Draw the convolution weights in place from He's normal distribution, fan out (He et al. 2015).

    Linear layers and normalizations keep what torch gives them; biases of convolutions become zero.
    Draws from torch's global generator, as module constructors do: seed it before building. On the device
    "meta" there is nothing to draw, and torch would take seconds to load what pretends to.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# Residual networks: He's thin three-stage ones and the wide four-stage ResNet-18 and -34


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015), which is the identity where shapes allow.

    Elsewhere the shortcut is a 1x1 projection: channel pruning can follow it, while it cannot follow
    zero-padded channels. A block that keeps shape and stride may be replaced by nn.Identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            # A 1x1 convolution with a stride does the same, but on a CPU its backward pass writes out of
            # bounds with 2 to 15 input channels, channels last, from maps of 56x56 on (torch 2.13, oneDNN).
            skip = [nn.AvgPool2d(1, stride)] if stride != 1 else []
            projection = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(*skip, projection, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(residual + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A 3x3 stem without pooling, stages of residual blocks, global average pooling and a linear classifier.

    The first stage keeps the resolution of the stem's output, each further one halves it.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        classes: int,
        channels: int,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, stem_stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        inputs = [widths[0], *widths[:-1]]
        strides = [1] + [2] * (len(widths) - 1)
        self.stages = nn.Sequential(*map(_stage, blocks, inputs, widths, strides))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, h, w) to logits (n, classes)."""
        x = self.stages(self.relu(self.bn(self.conv(x))))
        out: Tensor = self.classifier(torch.flatten(self.pool(x), 1))
        return out


def thin_resnet(
    depth: int, *, classes: int, channels: int = 3, width: int = 16, stem_stride: int = 1
) -> ResNet:
    """ResNet with `depth` = 6n + 2 layers in three stages of n blocks and `width`, 2, 4 times it channels.

    Source: He et al. (2015), section 4.2, with projections for shortcuts where shapes change. A `stem_stride`
    of 2 halves the resolution at once: a quarter of the work, for images with pixels to spare.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth must be 6n + 2 with n of at least 1, got {depth}")
    widths = [width, 2 * width, 4 * width]
    return ResNet([blocks] * 3, widths, classes=classes, channels=channels, stem_stride=stem_stride)


def ladder_resnet(blocks: int, *, classes: int, channels: int = 3, width: int = 64) -> ResNet:
    """ResNet of four stages; `blocks` has a digit for each: 2222 is ResNet-18, and 3463 ResNet-34.

    The stages have `width`, 2, 4, 8 times it channels. Fewer blocks make the students of a depth ladder:
    1111, 1121, 1221, 1222, 2222, … (ResNet-10, -12, -14, -16, -18).
    """
    counts = [int(digit) for digit in str(blocks)]
    if len(counts) != 4 or min(counts) < 1:
        raise ValueError(f"blocks must be four digits of at least 1, such as 2222, got {blocks}")
    return ResNet(counts, [width, 2 * width, 4 * width, 8 * width], classes=classes, channels=channels)


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


# VGG with batch normalization, in the form usual for 32x32 images: one linear layer for a classifier

_DEPTHS = {  # convolutions in each of the five stages, by the number of layers with weights
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_RELATIVE_WIDTHS = (1, 2, 4, 8, 8)


class ConvBlock(nn.Module):
    """A biased 3x3 convolution, batch normalization and ReLU; droppable where it keeps the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h, w)."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class VGG(nn.Module):
    """Five stages of ConvBlocks, each closed by 2x2 max pooling; average pooling; a linear classifier.

    Pooling rounds sizes up, so that images smaller than 32x32 pass too.
    """

    def __init__(self, depth: int, *, classes: int, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * relative for relative in _RELATIVE_WIDTHS]
        self.stages = nn.Sequential(*map(_vgg_stage, _DEPTHS[depth], [channels, *widths[:-1]], widths))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, h, w) to logits (n, classes)."""
        out: Tensor = self.classifier(torch.flatten(self.pool(self.stages(x)), 1))
        return out


def vgg(depth: int, *, classes: int, channels: int = 3, width: int = 64) -> VGG:
    """VGG-8, -11, -13, -16 or -19 with `width`, 2, 4, 8, 8 times it channels in its stages.

    Source: Simonyan and Zisserman (2014), with the batch normalization and the classifier usual for CIFAR.
    """
    if depth not in _DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, _DEPTHS))}, got {depth}")
    return VGG(depth, classes=classes, channels=channels, width=width)


def _vgg_stage(blocks: int, inputs: int, outputs: int) -> nn.Sequential:
    first = ConvBlock(inputs, outputs)
    rest = (ConvBlock(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest, nn.MaxPool2d(2, ceil_mode=True))


# MobileNetV2

_STEM, _LAST = 32, 1280
_STAGES = (  # expansion, channels, blocks
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)
_STRIDES = {  # of the stem and of the stages; a 32x32 image ends as 4x4, 8x8 or 2x2
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
        for (expansion, relative, blocks), stride in zip(_STAGES, strides[1:], strict=True):
            outputs = _rounded(relative * width, width)
            stages.append(_mobilenet_stage(expansion, blocks, inputs, outputs, stride))
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


def _mobilenet_stage(expansion: int, blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(inputs, outputs, expansion=expansion, stride=stride)
    rest = (InvertedResidual(outputs, outputs, expansion=expansion, stride=1) for _ in range(blocks - 1))
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
