"""Networks as users write them, named in tests as `user_nets:NAME`."""

import torch
from torch import Tensor, nn

__all__ = [
    "channel_attention",
    "classifier_first",
    "dense_only",
    "flat",
    "frozen_filters",
    "grouped",
    "in_place_blocks",
    "normalized",
    "parameterless_norm",
    "shared_block",
    "tied_weights",
    "two_classifiers",
    "untraceable",
    "upsampling",
    "vector_attention",
    "vector_linear",
]


def flat(classes: int, channels: int) -> nn.Module:
    """A plain nn.Sequential without normalization and without blocks."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(inplace=True),
        nn.Linear(12, classes),
    )


def dense_only(classes: int, channels: int) -> nn.Module:
    """No convolution at all."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 16), nn.ReLU(), nn.Linear(16, classes))


def normalized(classes: int, channels: int) -> nn.Module:
    """One of each normalization whose size follows the channels, and a PReLU per channel."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.PReLU(8),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.LayerNorm(12),
        nn.ReLU(),
        nn.Linear(12, classes),
    )


def parameterless_norm(classes: int, channels: int) -> nn.Module:
    """Batch normalization that has statistics, but no weights."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def grouped(classes: int, channels: int) -> nn.Module:
    """A depthwise and a grouped convolution between plain ones."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


class _Frozen(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.blur = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        nn.init.constant_(self.blur.weight, 1 / 9)
        self.blur.weight.requires_grad_(False)
        self.blocks = nn.Sequential(*(_Residual(8) for _ in range(3)))
        for parameter in self.blocks[0].parameters():
            parameter.requires_grad_(False)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.blur(self.stem(x).relu()))
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def frozen_filters(classes: int, channels: int) -> nn.Module:
    """A filter against aliasing and a block that are not to be trained."""
    return _Frozen(classes, channels)


class _ClassifierFirst(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(8, classes)
        self.conv = nn.Conv2d(channels, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.conv(x).relu().mean((2, 3)))
        return out


def classifier_first(classes: int, channels: int) -> nn.Module:
    """Defines its classifier before the layer that reads the image."""
    return _ClassifierFirst(classes, channels)


class _Residual(nn.Module):
    """A pre-activation block: it starts in place on the output of the block before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(self.relu(x))
        return out


def in_place_blocks(classes: int, channels: int) -> nn.Module:
    """Blocks that change their input."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.Sequential(_Residual(8), _Residual(8), _Residual(8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def shared_block(classes: int, channels: int) -> nn.Module:
    """The same convolution in two places."""
    again = nn.Conv2d(8, 8, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        again,
        nn.ReLU(),
        again,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


class _Tied(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.two.weight = self.one.weight
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(self.stem(x)).relu()).relu()
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def tied_weights(classes: int, channels: int) -> nn.Module:
    """Two layers that share one weight tensor."""
    return _Tied(classes, channels)


class _TwoClassifiers(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3)
        self.one = nn.Linear(8, classes)
        self.two = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        out: Tensor = self.one(x) + self.two(x)
        return out


def two_classifiers(classes: int, channels: int) -> nn.Module:
    """Logits are the sum of two linear layers."""
    return _TwoClassifiers(classes, channels)


class _Untraceable(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        if torch.is_grad_enabled():
            raise RuntimeError("no gradients,\nplease")
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def untraceable(classes: int, channels: int) -> nn.Module:
    """Refuses to run where gradients are recorded, as a tracer needs it."""
    return _Untraceable(classes, channels)


def upsampling(classes: int, channels: int) -> nn.Module:
    """A transposed convolution, which no quantizer reaches."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ConvTranspose2d(8, 8, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


class _Extra(nn.Module):
    """Logits, and something beside them in training or always."""

    def __init__(self, classes: int, channels: int, *, always: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, classes, 3)
        self.always = always

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.conv(x)
        logits: Tensor = features.mean((2, 3))
        return (logits, features) if self.always or self.training else logits


def pair(classes: int, channels: int) -> nn.Module:
    """Gives a tuple."""
    return _Extra(classes, channels, always=True)


def pair_in_training(classes: int, channels: int) -> nn.Module:
    """Gives a tuple in training, as networks with auxiliary classifiers do."""
    return _Extra(classes, channels, always=False)


def map_of_logits(classes: int, channels: int) -> nn.Module:
    """Gives logits for every pixel."""
    return nn.Conv2d(channels, classes, 1)


def large_images_only(classes: int, channels: int) -> nn.Module:
    """Has a kernel larger than small images."""
    return nn.Sequential(nn.Conv2d(channels, classes, 31), nn.Flatten())


def lazy(classes: int, channels: int) -> nn.Module:
    """Learns the width of its classifier when it first runs."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))


class _Stage(nn.Sequential):
    """A subclass of nn.Sequential around blocks, as some libraries have them."""


class _Basic(nn.Sequential):
    """A block that is itself an nn.Sequential."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def nested_stages(classes: int, channels: int) -> nn.Module:
    """Stages and blocks that are subclasses of nn.Sequential."""
    return nn.Sequential(
        nn.Sequential(_Stage(_Basic(channels, 8), _Basic(8, 8)), _Stage(_Basic(8, 8), _Basic(8, 8))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def repeated_block(classes: int, channels: int) -> nn.Module:
    """The same block in two places, and one of its own."""
    block = _Residual(8)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.Sequential(block, block, _Residual(8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


class _ChannelAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
        return x * gate[:, :, None, None]


def channel_attention(classes: int, channels: int) -> nn.Module:
    """Efficient channel attention: a Conv1d along the channels."""
    body = nn.Conv2d(channels, 8, 3, padding=1), _ChannelAttention(), nn.ReLU()
    return nn.Sequential(
        *body, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )


class _Vectors(nn.Module):
    """Tokens weighted by a vector, or by a layer of one output."""

    def __init__(self, classes: int, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.query = nn.Parameter(torch.linspace(-1, 1, 8))
        self.mix = nn.Bilinear(8, 8, 6) if kind == "bilinear" else nn.Identity()
        self.recurrent = nn.GRU(8, 6, batch_first=True) if kind == "recurrent" else nn.Identity()
        self.classifier = nn.Linear(6 if kind in ("bilinear", "recurrent") else 8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        if self.kind == "recurrent":
            features = self.recurrent(tokens)[0].mean(1)
        elif self.kind == "bilinear":
            features = self.mix(tokens.mean(1), tokens.amax(1))
        elif self.kind == "linear":
            weights = nn.functional.linear(tokens, self.query).softmax(1)
            features = (tokens * weights[:, :, None]).sum(1)
        else:
            weights = (tokens @ self.query).softmax(1)
            features = (weights[:, None] @ tokens)[:, 0]
        out: Tensor = self.classifier(features)
        return out


def vector_attention(classes: int, channels: int) -> nn.Module:
    """Attention by one vector: a matrix times a vector."""
    return _Vectors(classes, channels, "attention")


def vector_linear(classes: int, channels: int) -> nn.Module:
    """The same by F.linear with a vector for the weight."""
    return _Vectors(classes, channels, "linear")


def bilinear(classes: int, channels: int) -> nn.Module:
    """A bilinear layer."""
    return _Vectors(classes, channels, "bilinear")


def recurrent(classes: int, channels: int) -> nn.Module:
    """A recurrent layer along the pixels."""
    return _Vectors(classes, channels, "recurrent")


class _LearnedQuery(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3)
        self.query = nn.Parameter(torch.ones(1, 8))
        self.project = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.project(self.query.expand(x.shape[0], -1))  # a layer that reads a view of a parameter
        out: Tensor = self.classifier(self.stem(x).relu().mean((2, 3)) * gate)
        return out


def learned_query(classes: int, channels: int) -> nn.Module:
    """A layer that projects a learned vector, as attention pools do."""
    return _LearnedQuery(classes, channels)


class _UnusedHead(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3)
        self.classifier = nn.Linear(8, classes)
        self.old_classifier = nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.stem(x).relu().mean((2, 3)))
        return out


def unused_head(classes: int, channels: int) -> nn.Module:
    """Keeps a classifier of former classes that never runs."""
    return _UnusedHead(classes, channels)


def depthwise_upsampling(classes: int, channels: int) -> nn.Module:
    """A transposed convolution for each channel alone."""
    up = nn.Conv2d(channels, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8), nn.ReLU()
    return nn.Sequential(*up, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


class _Frames(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.across = nn.Conv3d(1, 1, 3, padding=1)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.across(self.stem(x).relu()[:, None])[:, 0]
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def frames(classes: int, channels: int) -> nn.Module:
    """Takes channels for a third dimension, as networks of videos do."""
    return _Frames(classes, channels)
