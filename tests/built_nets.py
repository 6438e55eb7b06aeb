"""Networks of one kind each, named in tests as `built_nets:product(kind=KIND)` and so on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FROZEN", "HEADS", "PRODUCTS", "chain", "frozen", "head", "product"]

# What a network multiplies outside of layers: shape of its weight, products, and what they make of 64 pixels
# (n, 64, 8), their mean (n, 8) and the weight


def _windows(pixels: Tensor, _mean: Tensor, weight: Tensor) -> Tensor:
    return (weight @ functional.unfold(pixels.mT.reshape(-1, 8, 8, 8), 3, padding=1)).mean(2)


PRODUCTS: dict[str, tuple[tuple[int, ...], int, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "einsum": ((16, 8), 16 * 8, lambda _pixels, mean, weight: torch.einsum("nc,oc->no", mean, weight)),
    "einsum-with-vector": ((8,), 64 * 8, lambda pixels, _, weight: torch.einsum("npc,c->np", pixels, weight)),
    "inner": ((64,), 64 * 8, lambda pixels, _mean, weight: torch.inner(pixels.mT.contiguous(), weight)),
    "tensordot": ((16, 8), 16 * 8, lambda _pixels, mean, weight: torch.tensordot(mean, weight, ([1], [1]))),
    "sum-of-batches": (
        (16, 8),
        16 * 8,
        lambda _pixels, mean, weight: torch.addbmm(mean.new_zeros(len(mean), 16), mean[None], weight.T[None]),
    ),
    "distances": ((16, 8), 16 * 8, lambda _pixels, mean, weight: torch.cdist(mean, weight)),
    "distances-of-pixels": (
        (30, 8),
        64 * 30 * 8,
        lambda pixels, _mean, weight: torch.cdist(pixels, weight[None]).mean(1),
    ),
    "windows": ((16, 72), 64 * 16 * 72, _windows),
    "gram": ((64,), 8 * 8 * 64, lambda pixels, _, weight: (pixels.mT @ pixels).flatten(1) * weight),
    "power": ((8, 8), 2 * 8**3 + 64, lambda _, mean, weight: mean @ torch.matrix_power(weight, 3)),
    "sparse": ((16, 8), 16 * 8, lambda _, mean, weight: torch.sparse.mm(weight.to_sparse(), mean.T).T),
}


class _Product(nn.Module):
    def __init__(self, classes: int, channels: int, kind: str) -> None:
        super().__init__()
        shape, _, self._make = PRODUCTS[kind]
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(shape) / 10)
        width = self._make(torch.zeros(2, 64, 8), torch.zeros(2, 8), self.weight.detach()).shape[1]
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.stem(x).relu().flatten(2).transpose(1, 2)
        out: Tensor = self.classifier(self._make(pixels, pixels.mean(1), self.weight))
        return out


def product(classes: int, channels: int, kind: str) -> nn.Module:
    """Multiplies by a weight in a way of its own, between a convolution and a classifier."""
    return _Product(classes, channels, kind)


# What makes logits of 8 features; widths of its layers, which all stay

HEADS: dict[str, tuple[tuple[int, ...], Callable[[Tensor, nn.ModuleList], Tensor]]] = {
    "maximum": ((10, 10), lambda x, layers: torch.maximum(layers[0](x), layers[1](x))),
    "side-by-side": ((4, 6), lambda x, layers: torch.cat([layer(x) for layer in layers], 1)),
    "mean-of-three": ((10, 10, 10), lambda x, layers: torch.stack([one(x) for one in layers]).mean(0)),
    "weighted": ((10, 1), lambda x, layers: layers[0](x) * layers[1](x).sigmoid()),
    "scaled": ((10,), lambda x, layers: layers[0](x).log_softmax(1) * 2),
    "first-of-two": ((10, 7), lambda x, layers: layers[0](x)),
}


class _Head(nn.Module):
    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        widths, self._make = HEADS[kind]
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Linear(8, width) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        return self._make(self.stem(x).relu().mean((2, 3)), self.layers)


def head(classes: int, channels: int, kind: str) -> nn.Module:
    """Makes logits of several layers, for ten classes."""
    assert classes == 10
    return _Head(channels, kind)


# What is frozen of a small residual network, by the names of its parameters

FROZEN: dict[str, Callable[[str], bool]] = {
    "backbone": lambda name: not name.startswith("classifier"),
    "norms": lambda name: ".norm." in name,
    "biases": lambda name: name.endswith("conv.bias"),
    "classifier": lambda name: name.startswith("classifier"),
    "positions": lambda name: name == "positions",
    "tied": lambda name: name == "blocks.0.conv.weight",
}


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.conv(x)).relu()
        return out


class _Frozen(nn.Module):
    def __init__(self, classes: int, channels: int, kind: str) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.rand(1, 1, 8, 8))
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block() for _ in range(3)))
        self.classifier = nn.Linear(8, classes)
        if kind == "tied":
            self.blocks[1].conv.weight = self.blocks[0].conv.weight
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not FROZEN[kind](name))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x + self.positions).relu())
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def frozen(classes: int, channels: int, kind: str) -> nn.Module:
    """Has parameters that are not to be trained."""
    return _Frozen(classes, channels, kind)


def chain(classes: int, channels: int, width: int, groups: int) -> nn.Module:
    """A convolution of a width, normalized in groups, and a classifier."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1),
        nn.GroupNorm(groups, width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )
