"""Networks of the kinds that were once refused or came out wrong, in tables that `cases` gives to a test."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

from ordercomp.models.catalog import build_model

__all__ = ["cases", "make"]

Forward = Callable[[Any, Tensor], Tensor]  # of (network, features of the stem)
Make = Callable[[int, int], nn.Module]  # of (classes, channels)


def _conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class _Net(nn.Module):
    """A stem of 8 channels, what `run` makes of them with `parts`, and a classifier."""

    def __init__(self, run: Forward, width: int, classes: int, channels: int, parts: Any) -> None:
        super().__init__()
        self.run, self.stem = run, _conv(channels, 8)
        for name, part in parts.items():
            setattr(self, name, part)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.run(self, self.stem(x).relu()).mean((2, 3)))
        return out


def _net(run: Forward, width: int, parts: Callable[[], dict[str, Any]]) -> Make:
    return lambda classes, channels: _Net(run, width, classes, channels, parts())


# Layers that no quantizer reaches, with the multiplications of each on 8 x 8 places


def _outside(layer: Callable[[], Any], run: Forward, width: int = 8) -> Make:
    return _net(
        lambda net, x: net.out(run(net.layer, x)), 6, lambda: {"layer": layer(), "out": _conv(width, 6, 1)}
    )


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / 4)


OUTSIDE: dict[str, tuple[Make, int, int]] = {  # with its multiplications, and those of the layer behind it
    "Conv1d along the places, in groups": (
        _outside(
            lambda: nn.Conv1d(8, 16, 3, padding=1, groups=4),
            lambda layer, x: layer(x.flatten(2)).unflatten(2, (8, 8)),
            16,
        ),
        64 * 16 * 2 * 3,
        64 * 16 * 6,
    ),
    "ConvTranspose1d": (
        _outside(
            lambda: nn.ConvTranspose1d(8, 8, 2, stride=2), lambda layer, x: layer(x.flatten(2)).unsqueeze(3)
        ),
        64 * 8 * 8 * 2,
        128 * 8 * 6,
    ),
    "ConvTranspose2d with a padded output": (
        _outside(
            lambda: nn.ConvTranspose2d(8, 16, 3, stride=2, padding=1, output_padding=1),
            lambda layer, x: layer(x),
            16,
        ),
        64 * 8 * 16 * 9,
        256 * 16 * 6,
    ),
    "Conv3d": (
        _outside(lambda: nn.Conv3d(1, 2, 3, padding=1), lambda layer, x: layer(x[:, None]).flatten(1, 2), 16),
        8 * 64 * 2 * 27,
        64 * 16 * 6,
    ),
    "a weight of its own by unfold": (
        _outside(
            lambda: _weight(16, 72),
            lambda weight, x: (weight @ functional.unfold(x, 3, padding=1)).unflatten(2, (8, 8)),
            16,
        ),
        64 * 16 * 72,
        64 * 16 * 6,
    ),
    "attention of queries that are no keys": (
        _outside(
            lambda: nn.MultiheadAttention(8, 2, batch_first=True),
            lambda layer, x: layer(x.flatten(2).mT + 1, x.flatten(2).mT + 1, x.flatten(2).mT)[0].mT.unflatten(
                2, (8, 8)
            ),
        ),
        4 * 64 * 64 + 2 * 64 * 64 * 8,
        64 * 8 * 6,
    ),
}

# Pieces of networks with what P leaves of their layers at a ratio of 0.5: outputs and inputs

PARTS: dict[str, tuple[Make, dict[str, tuple[int, int]]]] = {
    "groups of ResNeXt": (
        _net(
            lambda net, x: x + net.c(net.b(net.a(x).relu()).relu()),
            8,
            lambda: {"a": _conv(8, 16, 1), "b": _conv(16, 16, groups=4), "c": _conv(16, 8, 1)},
        ),
        {"stem": (4, 1), "a": (8, 4), "b": (8, 2), "c": (4, 8)},
    ),
    "both signs (CReLU)": (
        _net(lambda net, x: net.b(torch.cat([x, -x], 1).relu()), 6, lambda: {"b": _conv(16, 6)}),
        {"stem": (4, 1), "b": (3, 8)},
    ),
    "places that become channels": (
        _net(
            lambda net, x: net.b(functional.pixel_unshuffle(net.a(x), 2)),
            6,
            lambda: {"a": _conv(8, 4), "b": _conv(16, 6)},
        ),
        {"stem": (4, 1), "a": (4, 4), "b": (3, 16)},
    ),
    "scale and shift by another branch (FiLM)": (
        _net(
            lambda net, x: net.b(
                torch.addcmul(*net.film(x.mean((2, 3)))[..., None, None].chunk(2, 1)[::-1], net.a(x))
            ),
            6,
            lambda: {"film": nn.Linear(8, 24), "a": _conv(8, 12), "b": _conv(12, 6)},
        ),
        {"stem": (4, 1), "film": (12, 4), "a": (6, 4), "b": (3, 6)},
    ),
    "a blur of every channel by one kernel": (
        _net(
            lambda net, x: net.b(
                functional.conv2d(y := net.a(x), net.blur.expand(y.shape[1], 1, 3, 3), groups=y.shape[1])
            ),
            6,
            lambda: {"blur": nn.Buffer(torch.ones(1, 1, 3, 3) / 9), "a": _conv(8, 12), "b": _conv(12, 6)},
        ),
        {"stem": (4, 1), "a": (6, 4), "b": (3, 6)},
    ),
    "a sum over two sizes": (
        _net(
            lambda net, x: net.c(
                functional.interpolate(net.b(functional.max_pool2d(x, 2)), scale_factor=2) + net.a(x)
            ),
            6,
            lambda: {"a": _conv(8, 12, 1), "b": _conv(8, 12), "c": _conv(12, 6)},
        ),
        {"stem": (4, 1), "a": (6, 4), "b": (6, 4), "c": (3, 6)},
    ),
}

# A whole network in a container, with the name of the network in it


class _Normalize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


class _Wrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"normalize": _Normalize(), "model": model})
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(10))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.parts["model"](self.parts["normalize"](x))
        return out


def _around(wrap: Callable[[nn.Module], nn.Module]) -> Make:
    return lambda classes, channels: wrap(
        build_model("resnet14(width=4)", classes=classes, channels=channels)
    )


CONTAINERS: dict[str, tuple[Make, str]] = {
    "a sequence in a sequence": (
        _around(lambda net: nn.Sequential(_Normalize(), nn.Sequential(nn.Identity(), net))),
        "1.1.",
    ),
    "named parts": (
        _around(lambda net: nn.Sequential(OrderedDict(scale=nn.Upsample(scale_factor=2), net=net))),
        "net.",
    ),
    "a module with its loss": (_around(_Wrapper), "parts.model."),
    "DataParallel": (_around(nn.DataParallel), "module."),
    "an average of weights": (_around(AveragedModel), "module."),
}

# Weights that are computed from others, what is beside the tensors of a file, and outputs beside logits


def _changed(change: Callable[[nn.Sequential], Any]) -> Make:
    def make(classes: int, channels: int) -> nn.Module:
        tail = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
        net = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), *tail)
        change(net)
        return net

    return make


class _Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


COMPUTED: dict[str, Make] = {
    "whole filters": _changed(lambda net: prune.ln_structured(net[2], "weight", amount=0.5, n=2, dim=0)),
    "biases": _changed(lambda net: prune.random_unstructured(net[2], "bias", amount=3)),
    "over all layers": _changed(
        lambda net: prune.global_unstructured([(net[2], "weight")], prune.L1Unstructured, amount=0.3)
    ),
    "orthogonal": _changed(lambda net: parametrizations.orthogonal(net[2])),
    "a parametrization of the user's": _changed(
        lambda net: parametrize.register_parametrization(net[2], "weight", _Twice())
    ),
}


class _Adds(nn.Module):
    """Adds what it drew when it was made, which is not among its tensors."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "buffer":
            self.register_buffer("drawn", torch.randn(8, 1, 1), persistent=False)
        elif kind == "order":
            self.drawn = torch.randperm(8).tolist()
        else:
            self.drawn = torch.randn(8, 1, 1) if kind == "tensor" else float(torch.randn(()))

    def forward(self, x: Tensor) -> Tensor:
        drawn: Any = self.drawn
        return x[:, drawn] if self.kind == "order" else x + drawn

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.kind == "saved":
            destination[f"{prefix}drawn"] = torch.tensor(self.drawn)


UNSAVED: dict[str, Make] = {
    kind: _changed(lambda net, kind=kind: net.insert(1, _Adds(kind)))
    for kind in ("buffer", "tensor", "number", "order", "saved")
}

_Outputs = namedtuple("_Outputs", "logits aux_logits")


class _Auxiliary(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any], classes: int, channels: int) -> None:
        super().__init__()
        self.give, self.conv, self.classifier = give, nn.Conv2d(channels, 8, 3), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Any:
        logits = self.classifier(self.conv(x).relu().mean((2, 3)))
        return self.give(logits) if self.training else logits


def _beside(give: Callable[[Tensor], Any]) -> Make:
    return lambda classes, channels: _Auxiliary(give, classes, channels)


AUXILIARY: dict[str, tuple[Make, str]] = {  # with what came, in words
    "a list": (_beside(lambda logits: [logits, logits]), "list"),
    "a dictionary": (_beside(lambda logits: {"out": logits, "aux": logits}), "dict"),
    "a named tuple": (_beside(lambda logits: _Outputs(logits, logits)), "_Outputs"),
    "stacked": (_beside(lambda logits: torch.stack([logits, logits])), "shape (2, 2, 10)"),
    "side by side": (_beside(lambda logits: torch.cat([logits, logits], 1)), "shape (2, 20)"),
}

# Weights that several layers share, with the parameters of each network, every one counted once


def _tie(net: nn.Module, one: str, *others: str) -> nn.Module:
    kept = net.get_parameter(one)
    for other in others:
        path, _, own = other.rpartition(".")
        setattr(net.get_submodule(path), own, kept)
    return net


def _tied(make: Make, *names: str) -> Make:
    return lambda classes, channels: _tie(make(classes, channels), *names)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = _conv(8, 8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.conv(x)).relu()
        return out


def _statistics() -> dict[str, Any]:
    parts = {"a": _conv(8, 12), "b": _conv(8, 12), "one": nn.BatchNorm2d(12), "two": nn.BatchNorm2d(12)}
    parts["two"].running_mean, parts["two"].running_var = parts["one"].running_mean, parts["one"].running_var
    return parts


def _sum(net: Any, x: Tensor) -> Tensor:
    return net.a(x).relu() + net.b(x.flip(3)).relu()


def _normalized_sum(net: Any, x: Tensor) -> Tensor:
    return net.one(net.a(x)).relu() + net.two(net.b(x)).relu()


_STEM, _CONV, _LAST = 80, 8 * 8 * 9, 90
TIED: dict[str, tuple[Make, int]] = {
    "a bias": (
        _tied(_net(_sum, 8, lambda: {"a": _conv(8, 8), "b": _conv(8, 8)}), "a.bias", "b.bias"),
        _STEM + 2 * _CONV + 8 + _LAST,
    ),
    "three weights": (
        _tied(
            _net(
                lambda net, x: _sum(net, x) + net.c(x.flip(2)).relu(),
                8,
                lambda: {name: _conv(8, 8) for name in "abc"},
            ),
            *(f"{name}.weight" for name in "abc"),
        ),
        _STEM + _CONV + 3 * 8 + _LAST,
    ),
    "depthwise weights": (
        _tied(
            _net(_sum, 8, lambda: {"a": _conv(8, 8, groups=8), "b": _conv(8, 8, groups=8)}),
            "a.weight",
            "b.weight",
        ),
        _STEM + 72 + 2 * 8 + _LAST,
    ),
    "a normalization": (
        _tied(
            _net(
                _normalized_sum,
                8,
                lambda: {
                    "a": _conv(8, 8),
                    "b": _conv(8, 8),
                    "one": nn.BatchNorm2d(8),
                    "two": nn.BatchNorm2d(8),
                },
            ),
            "one.weight",
            "two.weight",
        ),
        _STEM + 2 * (_CONV + 8) + 3 * 8 + _LAST,
    ),
    "statistics": (_net(_normalized_sum, 12, _statistics), _STEM + 2 * (864 + 12 + 24) + 130),
    "a block that runs again": (
        _net(lambda net, x: net.blocks(x), 8, lambda: {"blocks": nn.Sequential(*[_Residual()] * 3)}),
        _STEM + _CONV + 8 + 16 + _LAST,
    ),
}


def make(classes: int, channels: int, table: str, place: int) -> nn.Module:
    """The network at that place of a table."""
    found = [*globals()[table].values()][place]
    return (found[0] if isinstance(found, tuple) else found)(classes, channels)


def cases(table: str) -> list[Any]:
    """Of every entry of a table the model and what else stands there, as parameters of a test."""
    return [
        pytest.param(
            f"sibling_nets:make(table={table},place={place})",
            *(found[1:] if isinstance(found, tuple) else ()),
            id=name,
        )
        for place, (name, found) in enumerate(globals()[table].items())
    ]
