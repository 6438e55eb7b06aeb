"""Residual networks for small images: He's thin three-stage ones and the wide four-stage ResNet-18/34."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ordercomp.models.initialize import initialize


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
