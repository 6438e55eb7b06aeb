"""Pieces of known networks whose channels go apart and together, named in tests as `common_nets:NAME`."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ordercomp.models.builtin import InvertedResidual
from ordercomp.models.catalog import build_model

__all__ = [
    "chunked",
    "frozen_norm",
    "gated_mlp",
    "group_norm",
    "hierarchy",
    "inverted",
    "option_a",
    "shuffle_unit",
    "single_head",
    "spatial_gate",
    "split_by_number",
    "tied_branches",
    "viewed_shuffle",
    "vision_transformer",
    "with_backbone",
    "with_normalization",
]


class _Normalize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


def with_normalization(classes: int, channels: int) -> nn.Module:
    """A normalization in front of a whole network."""
    net = build_model("resnet14(width=4)", classes=classes, channels=channels)
    return nn.Sequential(_Normalize(), net)


def with_backbone(classes: int, channels: int) -> nn.Module:
    """A network up to its features, and a head of several layers."""
    net = build_model("resnet14(width=4)", classes=classes, channels=channels)
    features = nn.Sequential(*[*net.children()][:-2])
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12), nn.Linear(12, classes))
    return nn.Sequential(features, head)


def inverted(classes: int, channels: int) -> nn.Module:
    """The blocks of MobileNetV2: depthwise, linear at their end, with and without a shortcut."""
    blocks = [InvertedResidual(8, 8, expansion=2, stride=1), InvertedResidual(8, 12, expansion=6, stride=2)]
    stem = nn.Sequential(_conv(channels, 8), nn.BatchNorm2d(8), nn.ReLU6())
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes))


def _conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class _Net(nn.Module):
    """A stem, something that maps its 8 channels to `width`, and a classifier."""

    def __init__(self, classes: int, channels: int, width: int, **parts: nn.Module) -> None:
        super().__init__()
        self.stem = _conv(channels, 8)
        for name, part in parts.items():
            self.add_module(name, part)
        self.classifier = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(self.stem(x).relu()).mean((2, 3)))
        return out


class _OptionA(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.two = _conv(inputs, outputs, stride=outputs // inputs), _conv(outputs, outputs)
        self.more = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.more:
            shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return (shortcut + self.two(self.one(x).relu())).relu()


class _ResNet(_Net):
    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


def option_a(classes: int, channels: int) -> nn.Module:
    """Residual blocks, one of which fills up its shortcut with zeros (ResNet on CIFAR-10, He et al. 2016)."""
    return _ResNet(classes, channels, 16, blocks=nn.Sequential(_OptionA(8, 8), _OptionA(8, 16)))


class _C2f(_Net):
    by_number: bool

    def features(self, x: Tensor) -> Tensor:
        x = self.before(x)
        parts = [*(x.split((8, 8), 1) if self.by_number else x.chunk(2, 1))]
        parts.append(self.branch(parts[-1]))
        return torch.cat(parts, 1)


def _c2f(classes: int, channels: int, *, by_number: bool) -> nn.Module:
    branch = nn.Sequential(_conv(8, 8), _conv(8, 8))
    net = _C2f(classes, channels, 24, before=_conv(8, 16, 1), branch=branch)
    net.by_number = by_number
    return net


def chunked(classes: int, channels: int) -> nn.Module:
    """Halves of the channels by `chunk`, one of which goes on (C2f of YOLOv8)."""
    return _c2f(classes, channels, by_number=False)


def split_by_number(classes: int, channels: int) -> nn.Module:
    """The same by `split` with the numbers of channels written out."""
    return _c2f(classes, channels, by_number=True)


class _GatedMlp(_Net):
    def features(self, x: Tensor) -> Tensor:
        value, gate = self.both(x.permute(0, 2, 3, 1)).chunk(2, -1)
        out: Tensor = self.out(value * functional.silu(gate))
        return out.permute(0, 3, 1, 2)


def gated_mlp(classes: int, channels: int) -> nn.Module:
    """Half of the channels gates the other half (SwiGLU)."""
    return _GatedMlp(classes, channels, 8, both=nn.Linear(8, 32), out=nn.Linear(16, 8))


class _Res2Net(_Net):
    def features(self, x: Tensor) -> Tensor:
        parts = [*torch.split(self.before(x), 4, 1)]
        for place, layer in enumerate((self.a, self.b, self.c), start=1):
            parts[place] = layer(parts[place] + (parts[place - 1] if place > 1 else 0)).relu()
        out: Tensor = self.after(torch.cat(parts, 1))
        return out


def hierarchy(classes: int, channels: int) -> nn.Module:
    """Slices of the channels that take in one another (Res2Net)."""
    layers = {name: _conv(4, 4) for name in "abc"}
    return _Res2Net(classes, channels, 8, before=_conv(8, 16, 1), **layers, after=_conv(16, 8, 1))


class _FrozenNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, var = (one.view(1, -1, 1, 1) for one in self.buffers())
        return (x - mean) * var.rsqrt() * weight + bias


class _Chain(_Net):
    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)).relu()
        return out


def frozen_norm(classes: int, channels: int) -> nn.Module:
    """A batch normalization of buffers alone (FrozenBatchNorm2d of detectors)."""
    return _Chain(classes, channels, 16, conv=_conv(8, 16), norm=_FrozenNorm(16))


def group_norm(classes: int, channels: int, groups: int) -> nn.Module:
    """32 channels in groups."""
    tail = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
    return nn.Sequential(_conv(channels, 32), nn.GroupNorm(groups, 32), *tail)


class _Cbam(_Net):
    def features(self, x: Tensor) -> Tensor:
        x = x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        out: Tensor = self.conv(x * self.places(seen).sigmoid())
        return out


def spatial_gate(classes: int, channels: int) -> nn.Module:
    """Gates of channels and of places, the latter from the mean over the channels (CBAM)."""
    gate = {"down": _conv(8, 4, 1), "up": _conv(4, 8, 1), "places": _conv(2, 1)}
    return _Cbam(classes, channels, 16, **gate, conv=_conv(8, 16))


class _Shuffle(_Net):
    def features(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return functional.channel_shuffle(torch.cat([first, self.branch(second)], 1), 2)


def shuffle_unit(classes: int, channels: int) -> nn.Module:
    """Half of the channels goes through a branch, then all are shuffled (ShuffleNet v2)."""
    branch = nn.Sequential(_conv(4, 4, 1), _conv(4, 4, groups=4), _conv(4, 4, 1))
    return _Shuffle(classes, channels, 8, branch=branch)


class _ViewedShuffle(_Net):
    def features(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        first, second = x.chunk(2, 1)
        both = torch.cat([first, self.branch(second)], 1)
        return both.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def viewed_shuffle(classes: int, channels: int) -> nn.Module:
    """The same with the shuffle written out, as torchvision does."""
    branch = nn.Sequential(_conv(4, 4, 1), _conv(4, 4, groups=4), _conv(4, 4, 1))
    return _ViewedShuffle(classes, channels, 8, branch=branch)


class _SingleHead(_Net):
    def features(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        first, second = torch.split(x, [4, 4], 1)
        q, k, v = (one.flatten(2) for one in torch.split(self.qkv(first), [2, 2, 4], 1))
        first = (v @ (q.transpose(1, 2) @ k).softmax(-1).transpose(1, 2)).reshape(n, 4, h, w)
        x = self.out(torch.cat([first, second], 1).relu())
        out: Tensor = self.two(self.one(x).relu())
        return out


def single_head(classes: int, channels: int) -> nn.Module:
    """Attention on half of the channels (SHViT), then an MLP."""
    layers = {"qkv": _conv(4, 8, 1), "out": _conv(8, 8, 1), "one": _conv(8, 16, 1), "two": _conv(16, 8, 1)}
    return _SingleHead(classes, channels, 8, **layers)


class _Block(_Net):
    def features(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, 8)
        tokens = tokens + self.out(mixed)
        tokens = tokens + self.two(functional.gelu(self.one(self.norm(tokens))))
        return tokens.transpose(1, 2).reshape(n, 8, h, w)


def vision_transformer(classes: int, channels: int) -> nn.Module:
    """Attention of two heads whose width is written out, and an MLP behind it."""
    layers = {"qkv": nn.Linear(8, 24), "out": nn.Linear(8, 8), "norm": nn.LayerNorm(8)}
    return _Block(classes, channels, 8, **layers, one=nn.Linear(8, 16), two=nn.Linear(16, 8))


class _Branches(_Net):
    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.one(x) + self.two(x.flip(3)).flip(3)
        return out


def tied_branches(classes: int, channels: int) -> nn.Module:
    """Two branches that share their weights, and see the image from the left and from the right."""
    net = _Branches(classes, channels, 8, one=_conv(8, 8), two=_conv(8, 8))
    one, two = net.get_submodule("one"), net.get_submodule("two")
    two.weight, two.bias = one.weight, one.bias
    return net
