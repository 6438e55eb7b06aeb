"""Small networks drawn at random from the habits of real ones, named in tests as `random_nets:draw(seed=N)`.

Each is a chain of pieces on feature maps: plain, grouped, depthwise and shared convolutions, residual,
concatenated and split branches, shuffles and gates, weights of a module's own, attention, normalizations.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Standardized", "draw"]

_ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Tanh, nn.Softplus, nn.Identity)


def _normalization(width: int, chance: random.Random) -> nn.Module:
    kind = chance.choice(("batch", "batch", "group", "instance", "none"))
    if kind == "batch":
        return nn.BatchNorm2d(width)
    if kind == "group":
        return nn.GroupNorm(chance.choice((1, 2)), width)
    return nn.InstanceNorm2d(width, affine=True) if kind == "instance" else nn.Identity()


def _unit(inputs: int, outputs: int, chance: random.Random, *, groups: int = 1) -> nn.Module:
    size = chance.choice((1, 3))
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=chance.random() < 0.5),
        _normalization(outputs, chance),
        chance.choice(_ACTIVATIONS)(),
    )


class _Residual(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.one, self.two = _unit(width, 2 * width, chance), _unit(2 * width, width, chance)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5)) if chance.random() < 0.3 else None

    def forward(self, x: Tensor) -> Tensor:
        branch = self.two(self.one(x))
        return x + (branch if self.scale is None else self.scale * branch)


class _Concat(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.one, self.two = _unit(width, width // 2, chance), _unit(width, width // 2, chance)
        self.dense = chance.random() < 0.3
        self.back = _unit(2 * width, width, chance) if self.dense else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.one(x), self.two(x)]
        out: Tensor = self.back(torch.cat([x, *parts] if self.dense else parts, 1))
        return out


class _Split(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.before = _unit(width, width, chance)
        self.one = _unit(width // 2, width // 2, chance)
        self.swap, self.product = chance.random() < 0.5, chance.random() < 0.3
        self.back = _unit(width // 2, width, chance) if self.product else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.before(x).chunk(2, 1)
        second = self.one(second)
        if self.product:
            out: Tensor = self.back(first * second)
            return out
        return torch.cat([second, first] if self.swap else [first, second], 1)


class _Grouped(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        groups = chance.choice((2, 4, width))
        self.one, self.two = _unit(width, width, chance, groups=groups), _unit(width, width, chance)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(self.one(x))
        return out


class _Moved(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.how = chance.choice(("shuffle", "roll", "flip", "pick", "reshape"))
        self.one, self.two = _unit(width, width, chance), _unit(width, width, chance)
        self.register_buffer("order", torch.randperm(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        n, c, h, w = x.shape
        if self.how == "shuffle":
            x = functional.channel_shuffle(x, 2) if c % 2 == 0 else x
        elif self.how == "roll":
            x = x.roll(1, 1)
        elif self.how == "flip":
            x = x.flip(1)
        elif self.how == "pick":
            x = x[:, self.order]
        elif c % 2 == 0:
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        out: Tensor = self.two(x)
        return out


class _Gate(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.kind = chance.choice(("channels", "channels", "places"))
        self.one = _unit(width, width, chance)
        self.down, self.up = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if self.kind == "places":
            return x * torch.sigmoid(x.mean(1, keepdim=True))
        return x * torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))


class _Shared(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.unit, self.times = _unit(width, width, chance), chance.choice((2, 3))
        self.tied = nn.Conv2d(width, width, 3, padding=1) if chance.random() < 0.3 else None
        self.other = nn.Conv2d(width, width, 3, padding=1)
        if self.tied is not None:
            self.other.weight = self.tied.weight

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.unit(x)
        out: Tensor = self.other(x if self.tied is None else self.tied(x).relu())
        return out


class Standardized(nn.Conv2d):
    """A convolution with weights of mean 0 and deviation 1."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class _OwnWeights(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.how = chance.choice(("conv", "einsum", "matmul", "read", "standardized", "scaled"))
        self.weight = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.layer: nn.Module = nn.Conv2d(width, width, 1)
        if self.how == "standardized":
            self.layer = Standardized(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "conv":
            return functional.conv2d(x, self.weight[:, :, None, None])
        if self.how == "einsum":
            return torch.einsum("nchw,dc->ndhw", x, self.weight)
        if self.how == "matmul":
            return (x.permute(0, 2, 3, 1) @ self.weight.T).permute(0, 3, 1, 2)
        if self.how == "read":
            return functional.conv2d(x, self.layer.weight, self.layer.bias)  # type: ignore[arg-type]
        out: Tensor = self.layer(x)
        return out * self.weight.mean() if self.how == "scaled" else out


class _Attention(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.fused, self.heads = chance.random() < 0.5, chance.choice((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        tokens = self.out(mixed.transpose(1, 2).reshape(n, h * w, -1))
        return x + tokens.transpose(1, 2).reshape(n, -1, h, w)


class _Plain(nn.Module):
    def __init__(self, width: int, chance: random.Random) -> None:
        super().__init__()
        self.unit = _unit(width, width, chance)
        self.pool = nn.MaxPool2d(3, 1, 1) if chance.random() < 0.3 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.unit(x))
        return out


_PIECES: tuple[Callable[[int, random.Random], nn.Module], ...] = (
    _Plain,
    _Residual,
    _Concat,
    _Split,
    _Grouped,
    _Moved,
    _Gate,
    _Shared,
    _OwnWeights,
    _Attention,
)


class _Flatten(nn.Module):
    def __init__(self, width: int, classes: int, *, hidden: bool) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden: nn.Module = nn.Linear(4 * width, 12) if hidden else nn.Identity()
        self.classifier = nn.Linear(12 if hidden else 4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.hidden(self.pool(x).flatten(1)))
        return out


def draw(seed: int, classes: int, channels: int) -> nn.Module:
    """The network of that seed: one to four pieces between a stem and a classifier."""
    chance = random.Random(seed)
    width = chance.choice((8, 12))
    pieces = [chance.choice(_PIECES)(width, chance) for _ in range(chance.randint(1, 4))]
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.Sequential(*pieces),
        _Flatten(width, classes, hidden=chance.random() < 0.5),
    )
