"""Exit heads other than the plain one, and the choice among them by name."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ordercomp.networks.layers import ExitHead

HeadKind = Literal["pool", "bof"]

CODEWORDS = 64
GRID = 4  # features are averaged to at most this many rows and columns before they are looked up


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
