"""VGG with batch normalization, in the form usual for 32x32 images: one linear layer for a classifier."""

import torch
from torch import Tensor, nn

from ordercomp.models.initialize import initialize

# Convolutions in each of the five stages, by the number of layers with weights.
_DEPTHS = {
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
        self.stages = nn.Sequential(*map(_stage, _DEPTHS[depth], [channels, *widths[:-1]], widths))
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


def _stage(blocks: int, inputs: int, outputs: int) -> nn.Sequential:
    first = ConvBlock(inputs, outputs)
    rest = (ConvBlock(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest, nn.MaxPool2d(2, ceil_mode=True))
