"""Networks that do what tracers and quantizers do not expect, named in tests as `odd_nets:NAME`."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

__all__ = [
    "attention",
    "barely_rolled",
    "cosine_classifier",
    "flipped",
    "float32_only",
    "functional_weights",
    "gained",
    "gated",
    "layer_read_by_its_parent",
    "layer_scale",
    "lora",
    "masked_weights",
    "mean_of_channels",
    "rolled",
    "shuffled",
    "sigmoids",
    "standardized",
    "token_norm",
    "torch_attention",
]


def _tail(width: int, classes: int) -> list[nn.Module]:
    return [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class _OwnWeight(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, padding=1)


def functional_weights(classes: int, channels: int) -> nn.Module:
    """A module that multiplies by a weight of its own."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), _OwnWeight(8, 16), *_tail(16, classes))


class _Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return self._conv_forward(x, weight, self.bias)


def standardized(classes: int, channels: int) -> nn.Module:
    """A convolution that standardizes its weights, between plain ones."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), _Standardized(8, 8, 3), *_tail(8, classes)
    )


class _Gained(_Standardized):
    def __init__(self, inputs: int, outputs: int, turned: int = 0) -> None:
        super().__init__(inputs, outputs, 3)
        self.gain, self.turned = nn.Parameter(torch.rand(1, outputs, 1, 1) + 0.5), turned

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.roll(self.turned, 1)) * self.gain


def gained(classes: int, channels: int, turned: int = 0) -> nn.Module:
    """A convolution that standardizes its weights, with a gain for each channel; it may roll its inputs."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), _Gained(8, 16, turned), *_tail(16, classes))


class _MaskedWeights(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)
        self.register_buffer("mask", (torch.rand(self.weight.shape) < 0.7).float())

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def masked_weights(classes: int, channels: int) -> nn.Module:
    """A convolution that leaves out weights by a mask of its own."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), _MaskedWeights(8, 16), *_tail(16, classes))


class _Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * functional.linear(functional.normalize(x), functional.normalize(self.weight))


def cosine_classifier(classes: int, channels: int) -> nn.Module:
    """Logits are cosines."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), *_tail(8, 8)[:-1], _Cosine(8, classes, bias=False)
    )


class _Move(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(3, 1) if self.how == "roll" else x.flip(1)


def _moved(move: nn.Module, classes: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        move,
        nn.Conv2d(8, 16, 3, padding=1),
        *_tail(16, classes),
    )


def shuffled(classes: int, channels: int) -> nn.Module:
    """Channels are shuffled between two convolutions."""
    return _moved(nn.ChannelShuffle(2), classes, channels)


def rolled(classes: int, channels: int) -> nn.Module:
    """Channels are rolled."""
    return _moved(_Move("roll"), classes, channels)


def flipped(classes: int, channels: int) -> nn.Module:
    """Channels are turned round."""
    return _moved(_Move("flip"), classes, channels)


class _BarelyMoved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-5 * x.roll(1, 1)


def barely_rolled(classes: int, channels: int) -> nn.Module:
    """Channels are rolled, but it makes less of a difference than rounding in float32 may."""
    return _moved(_BarelyMoved(), classes, channels)


class _InFloat32(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.float())


def float32_only(classes: int, channels: int) -> nn.Module:
    """Insists on float32."""
    return _moved(_InFloat32(), classes, channels)


class _Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))


def gated(classes: int, channels: int) -> nn.Module:
    """A gate for every channel."""
    return _moved(_Gate(8), classes, channels)


class _MeanGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean(1, keepdim=True))


def mean_of_channels(classes: int, channels: int) -> nn.Module:
    """A gate that depends on how many channels there are."""
    return _moved(_MeanGate(), classes, channels)


def sigmoids(classes: int, channels: int) -> nn.Module:
    """Activations that are not zero at zero."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.Sigmoid(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Softplus(),
        *_tail(16, classes),
    )


class _Tokens(nn.Module):
    def __init__(self, classes: int, channels: int, *, attends: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 4, stride=4)
        self.place = nn.Parameter(torch.randn(1, 4, 8))
        self.norm = nn.LayerNorm(8)
        self.attends = attends
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.place
        if self.attends:
            tokens = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        tokens = tokens + self.scale * self.two(functional.gelu(self.one(self.norm(tokens))))
        out: Tensor = self.classifier(tokens.mean(1))
        return out


def attention(classes: int, channels: int) -> nn.Module:
    """Multiplies activations by activations."""
    return _Tokens(classes, channels, attends=True)


class _TorchAttention(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        out: Tensor = self.classifier((tokens + mixed).mean(1))
        return out


def torch_attention(classes: int, channels: int) -> nn.Module:
    """torch's own attention, which reads its layers' weights and runs in one piece where it can."""
    return _TorchAttention(classes, channels)


def token_norm(classes: int, channels: int) -> nn.Module:
    """Normalizes over channels, adds places and scales channels."""
    return _Tokens(classes, channels, attends=False)


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.conv(x)


def layer_scale(classes: int, channels: int) -> nn.Module:
    """A weight for every channel of a residual branch."""
    return _moved(_LayerScale(8), classes, channels)


class _ReadByParent(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3)
        self.inner, self.unused = nn.Linear(8, 8), nn.Linear(8, 80)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        out: Tensor = self.classifier(functional.linear(x, self.inner.weight))
        return out


def layer_read_by_its_parent(classes: int, channels: int) -> nn.Module:
    """Multiplies by the weight of a layer that never runs itself; another layer is not used at all."""
    return _ReadByParent(classes, channels)


class _Lora(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.T @ self.up.T


def lora(classes: int, channels: int) -> nn.Module:
    """A linear layer that multiplies more than it shows."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3), *_tail(8, 8)[:-1], _Lora(8, classes))


class _Views(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.next = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.classifier = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.next(self.conv(x).relu()).relu()
        out: Tensor = self.classifier(x.view(x.size(0), -1))
        return out


def views(classes: int, channels: int) -> nn.Module:
    """Flattens by `view`, which needs rows one after the other."""
    return _Views(classes, channels)


class _Remembers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stride = 1
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.features = [self.norm(self.conv(x))]
        return x + self.features[0].relu()


class _Keyworded(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.blocks = nn.ModuleList([_Remembers(8) for _ in range(4)])
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            assert block.stride == 1
            x = block(x=x, mask=None)
        self.embedding = x.mean((2, 3))
        print("embedding of", len(x))
        out: Tensor = self.classifier(self.embedding)
        return out


def keyworded(classes: int, channels: int) -> nn.Module:
    """Calls blocks by keyword, asks them for attributes, keeps features in itself, and prints."""
    return _Keyworded(classes, channels)


def weight_norm(classes: int, channels: int) -> nn.Module:
    """A layer with a weight that is computed."""
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(channels, 8, 3))
    return nn.Sequential(layer, *_tail(8, classes))


def spectral_norm(classes: int, channels: int) -> nn.Module:
    """The same in the old way, by a hook."""
    layer = nn.utils.spectral_norm(nn.Conv2d(channels, 8, 3))
    return nn.Sequential(layer, *_tail(8, classes))


def masked(classes: int, channels: int) -> nn.Module:
    """A layer with a mask beside its weight, which a hook multiplies."""
    layer = nn.Conv2d(channels, 8, 3)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return nn.Sequential(layer, *_tail(8, classes))


class _Counting(nn.Conv2d):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def extra_state(classes: int, channels: int) -> nn.Module:
    """A layer that keeps more than tensors."""
    return nn.Sequential(_Counting(channels, 8, 3), *_tail(8, classes))


def scripted(classes: int, channels: int) -> nn.Module:
    """A part that is no Python any more."""
    return nn.Sequential(torch.jit.script(nn.Conv2d(channels, 8, 3)), *_tail(8, classes))


class _FailsInTraining(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise KeyError("epoch")
        return super().forward(x)


def fails_in_training(classes: int, channels: int) -> nn.Module:
    """Works in evaluation only."""
    return nn.Sequential(_FailsInTraining(channels, 8, 3), *_tail(8, classes))


class _Stuck(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(channels, 8, 3), nn.Conv2d(8, 4, 1)
        self.wide = nn.Conv2d(4, 32 * classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(self.inner(self.conv(x).relu()).relu())
        return x.mean((2, 3)).unflatten(1, (-1, 32)).sum(2)


def stuck(classes: int, channels: int) -> nn.Module:
    """Most of its channels are logits."""
    return nn.Sequential(_Stuck(classes, channels), nn.Linear(classes, classes))


class _Hidden(nn.Module):
    def __init__(self, width: int, *, first: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(width // 2, width, 2, stride=2) if first else nn.Identity()
        for place in range(3):
            self.add_module(f"b{place}", _Remembers(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        for place in range(3):
            x = self.get_submodule(f"b{place}")(x)
        return x


def hidden_blocks(classes: int, channels: int) -> nn.Module:
    """Blocks that stand in no container, in stages of which one keeps the shape."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.Sequential(_Hidden(8, first=False), _Hidden(16, first=True)),
        *_tail(16, classes),
    )


def norms_between(classes: int, channels: int) -> nn.Module:
    """All that keeps its shape is next to nothing."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3),
        nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 8, 1, groups=8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 64, 3), nn.ReLU()),
            nn.Sequential(nn.Sequential(nn.BatchNorm2d(64), nn.ReLU())),
        ),
        *_tail(64, classes),
    )
