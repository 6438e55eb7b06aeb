"""The catalog of models: a text such as `resnet8(width=8)` becomes a network with fresh weights."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import nn

from ordercomp.errors import did_you_mean
from ordercomp.knobs import Knob, check_knobs
from ordercomp.models.builtin import ladder_resnet, mobilenet_v2, thin_resnet, vgg
from ordercomp.models.external import LIBRARIES, call_factory
from ordercomp.sequence import KnobValue, SequenceSyntaxError, parse_call


@dataclass(frozen=True, slots=True)
class Model:
    """A built-in network: its function, and what it can be told."""

    build: Callable[..., nn.Module]
    options: Mapping[str, Knob]


def _width(default: int) -> dict[str, Knob]:
    return {"width": Knob(default=default, low=1, high=4096, help="channels of the first stage")}


def _thin(depth: int) -> Model:
    stride = Knob(default=1, low=1, high=4, help="stride of the first layer; 2 leaves a quarter of the work")
    return Model(partial(thin_resnet, depth), {**_width(16), "stem_stride": stride})


def _ladder(blocks: int) -> Model:
    digits = Knob(default=blocks, low=1111, high=9999, help="residual blocks in each stage, a digit for each")
    return Model(ladder_resnet, {"blocks": digits, **_width(64)})


# Three-stage residual networks have 6n + 2 layers; ResNet-18 and -34 have four, wider stages.
MODELS: Mapping[str, Model] = {
    "resnet8": _thin(8),
    "resnet14": _thin(14),
    "resnet20": _thin(20),
    "resnet32": _thin(32),
    "resnet44": _thin(44),
    "resnet56": _thin(56),
    "resnet110": _thin(110),
    "resnet18": _ladder(2222),
    "resnet34": _ladder(3463),
    "vgg8": Model(partial(vgg, 8), _width(64)),
    "vgg11": Model(partial(vgg, 11), _width(64)),
    "vgg13": Model(partial(vgg, 13), _width(64)),
    "vgg16": Model(partial(vgg, 16), _width(64)),
    "vgg19": Model(partial(vgg, 19), _width(64)),
    "mobilenet_v2": Model(
        mobilenet_v2,
        {
            "width": Knob(default=1.0, low=0.05, high=4.0, help="factor on the channels"),
            "strides": Knob(default="kl", choices=("kl", "nac", "rd"), help="where the resolution is halved"),
        },
    ),
}


def build_model(spec: str, *, classes: int, channels: int = 3) -> nn.Module:
    """Build the network that `spec` names; it maps (n, channels, h, w) to logits (n, classes).

    Weights are fresh and come from torch's global generator; seed it before.

    Args:
        spec: a name of MODELS with its options, as in `resnet34(blocks=2222)`; `torchvision:resnet18`,
            `timm:resnet18` and the like; or `package.module:function(option=value)`, a function of yours that
            returns an nn.Module, from an installed package or the working directory. It gets `classes=` and
            `channels=` too, if it takes them.
        classes: number of logits, at least 1.
        channels: of the images: 1 or 3, as a rule.

    Raises:
        ValueError: the name is unknown, an option is unknown or out of range, or the function cannot be
            imported, fails, or makes no nn.Module.
    """
    for name, value in (("classes", classes), ("channels", channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    try:
        name, options = parse_call(spec)
    except SequenceSyntaxError as error:
        problem = str(error).partition(" of the sequence")[0]
        raise ValueError(f"model must be name or name(option=value,...), got {spec!r}: {problem}") from None
    package, colon, rest = name.partition(":")
    if package in LIBRARIES and colon:
        return LIBRARIES[package].build(rest, classes=classes, channels=channels, **options)
    if colon:
        return call_factory(name, options, classes=classes, channels=channels)
    if name not in MODELS:
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, torchvision:NAME, timm:NAME or "
            f"package.module:function, got {name!r}{did_you_mean(name, MODELS)}"
        )
    model = MODELS[name]
    settings = check_knobs(name, model.options, options)
    needed, there = 4 * _parameters(name, tuple(settings.items()), classes, channels), _memory_bytes()
    if needed > there / 2:
        raise ValueError(
            f"model {spec} has {needed // 4:,} parameters, {needed / 2**30:.1f} GiB; this machine has "
            f"{there / 2**30:.1f} GiB, of which training takes several times that"
        )
    return model.build(classes=classes, channels=channels, **settings)


@cache
def _parameters(name: str, settings: tuple[tuple[str, KnobValue], ...], classes: int, channels: int) -> int:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        network = MODELS[name].build(classes=classes, channels=channels, **dict(settings))
    return sum(parameter.numel() for parameter in network.parameters())


def _memory_bytes() -> float:
    """Of this machine; infinite where that is not told."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
