"""Modules as stages shape them: a factory's body, heads after some of its parts, layers replaced in place."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ordercomp.errors import is_out_of_memory
from ordercomp.models.catalog import build_model
from ordercomp.networks.layers import (
    FLOAT_BITS,
    ExitHead,
    HeadKind,
    has_plain_forward,
    make_head,
    quantized_layer,
)

# What networks of users do that ours do not, and what is done so that they work all the same.


_ROWS = "_ordercomp_keeps_rows"


class Dropped(nn.Identity):
    """In the place of a block: hands on its first input, called as the block was; keeps plain attributes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        own = vars(self)
        for name, value in vars(block).items():
            if name not in own and not name.startswith("_") and _is_plain(value):
                own[name] = value

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the first of what it is given."""
        return next(iter((*inputs, *named.values())))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def check_own_modules(body: nn.Module, model: str) -> None:
    """Raise ValueError for modules whose weights are not their own: scripted or reparametrized ones."""
    for name, module in body.named_modules():
        where = f"{name} of {model}" if name else model
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{where} is scripted, so that no stage can change it; return it unscripted")
        old = [one for one in module._forward_pre_hooks.values() if _is_reparametrization(one)]
        if parametrize.is_parametrized(module) or old:
            raise ValueError(
                f"{where} computes its weight from others (weight_norm, spectral_norm or the like), which no "
                "stage can cut or round; remove that before you return the network, "
                "for example by torch.nn.utils.parametrize.remove_parametrizations"
            )


def _is_reparametrization(hook: object) -> bool:
    return type(hook).__module__ in ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")


@torch.no_grad()
def needs_rows(body: nn.Module, images: Tensor) -> bool:
    """Whether `body` in evaluation mode runs, but not with its weights and images laid out channels last."""
    last = torch.channels_last
    twin: nn.Module = copy.deepcopy(body, kept_results(body))
    twin.to(memory_format=last)  # type: ignore[call-overload]
    try:
        twin(images.contiguous(memory_format=last))
    except RuntimeError as error:
        return "view size is not compatible" in str(error)
    return False


def keep_rows(body: nn.Module) -> None:
    """Remember that `body` needs them; copies know it, too."""
    setattr(body, _ROWS, True)


def keeps_rows(body: nn.Module) -> bool:
    """Whether `body` was found to need its images and weights in rows."""
    return bool(getattr(body, _ROWS, False))


def kept_results(module: nn.Module) -> dict[int, Any]:
    """For copy.deepcopy: results of the last run that a forward kept in `self`, without their history."""
    return {
        id(one): one.detach().clone()
        for part in module.modules()
        for name, value in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules")
        for one in _tensors(value)
        if one.grad_fn is not None
    }


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The factory of the uncompressed module and what it is called with."""

    model: str  # as build_model reads it
    classes: int
    channels: int
    size: tuple[int, int]  # height and width of an input image

    def to_facts(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "model": self.model,
            "classes": self.classes,
            "channels": self.channels,
            "size": list(self.size),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Architecture":
        """Read what `to_facts` made. Raises ValueError, KeyError or TypeError if it is something else."""
        height, width = facts["size"]
        return cls(
            model=facts["model"], classes=facts["classes"], channels=facts["channels"], size=(height, width)
        )

    def build(self) -> nn.Module:
        """A module with fresh weights, drawn from torch's global generator.

        It is run once on an example. Raises ValueError if it fails there or gives no logits (n, classes).
        """
        body = build_model(self.model, classes=self.classes, channels=self.channels).eval()
        image = self.example(1)
        try:
            with torch.no_grad():
                logits = body(image)
        except Exception as error:  # whatever the module of a user raises
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(
                f"model {self.model} fails on an image of shape {tuple(image.shape)}: {reason}"
            ) from error
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if came != (1, self.classes):
            raise ValueError(
                f"model {self.model} must map an image of shape {tuple(image.shape)} to logits of shape "
                f"{(1, self.classes)}, got {came}"
            )
        check_own_modules(body, self.model)
        if ":" in self.model and needs_rows(body, self.example(2)):
            keep_rows(body)
        return body.train()

    def example(self, count: int = 2) -> Tensor:
        """Random inputs of shape (count, channels, h, w) that leave the global generator alone."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, self.channels, *self.size, generator=generator)


@dataclass(frozen=True, slots=True)
class Bits:
    """Nominal bit widths of the whole network."""

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for name, value in (("weights", self.weights), ("activations", self.activations)):
            if type(value) is not int or not 1 <= value <= FLOAT_BITS:
                raise ValueError(
                    f"bits of {name} must be a whole number from 1 to {FLOAT_BITS}, got {value!r}"
                )


class MultiExit(nn.Module):
    """A body with heads after some of its modules; without heads, just the body."""

    def __init__(self, body: nn.Module, exits: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        exits = exits or {}
        self.body = body
        self.split_points = tuple(exits)  # names of modules of the body, in the order of execution
        self.heads = nn.ModuleList(exits.values())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of every exit, each of shape (n, classes), the body's own last."""
        early, final = self._run(images, list(self.heads))
        return (*early, final)

    def head_inputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """The part of each head's input that does not depend on its parameters: what it summarizes."""
        summaries, _ = self._run(images, [cast("ExitHead", head).summarize for head in self.heads])
        return tuple(summaries)

    def split(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features at the split points and the final logits."""
        return self._run(images, [torch.clone] * len(self.split_points))

    def _run(
        self, images: Tensor, readers: Sequence[Callable[[Tensor], Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """Run the body and, as soon as a split point is done, the reader of its features.

        At once, as at run time: a later layer may work in place on the same features.
        """
        if keeps_rows(self.body):
            images = images.clone(memory_format=torch.contiguous_format)  # also the strides of one channel
        if not self.split_points:
            return [], _tensor(self.body(images))
        read: dict[str, Tensor] = {}
        hooks = [
            self.body.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, name=name, reader=reader: read.__setitem__(
                    name, reader(output)
                )
            )
            for name, reader in zip(self.split_points, readers, strict=True)
        ]
        try:
            final = self.body(images)
        finally:
            for hook in hooks:
                hook.remove()
        return [read[name] for name in self.split_points], _tensor(final)


def _tensor(logits: Any) -> Tensor:
    if not isinstance(logits, Tensor):
        raise ValueError(f"a model must give a tensor of logits in training too, got {type(logits).__name__}")
    return logits


def attach_heads(
    body: nn.Module, split_points: Sequence[str], architecture: Architecture, *, kind: HeadKind = "pool"
) -> MultiExit:
    """A network of `body` with a new head after each split point, as wide as the features there."""
    probe = MultiExit(body, {name: nn.Identity() for name in split_points})
    training = body.training
    device = next(body.parameters()).device
    with torch.no_grad():
        features, _ = probe.eval().split(architecture.example(1).to(device))
    heads = [make_head(kind, feature.shape[1], architecture.classes).to(device) for feature in features]
    return MultiExit(body.train(training), dict(zip(split_points, heads, strict=True)))


def replace_module(module: nn.Module, name: str, child: nn.Module) -> None:
    """Put `child` in the place of the submodule called `name`. Raises AttributeError if there is none."""
    module.get_submodule(name)
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, child)


def drop_module(module: nn.Module, name: str) -> None:
    """Let the submodule called `name` hand on what it is given. Raises AttributeError if there is none."""
    replace_module(module, name, Dropped(module.get_submodule(name)))


def quantize_layers(module: nn.Module, bits: Bits, *, image_reader: str | None = None) -> None:
    """Replace, in place, every Conv2d and Linear below `module` by its quantized twin.

    A subclass with a forward of its own, which the twin would lose, stays as it is. The layer called
    `image_reader` takes its input, the image, as it is. A layer in several places stays one layer.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and has_plain_forward(layer):
            if layer not in twins:
                activations = FLOAT_BITS if name == image_reader else bits.activations
                twins[layer] = quantized_layer(layer, bits.weights, activations)
            replace_module(module, name, twins[layer])


def running_order(module: MultiExit, architecture: Architecture) -> list[str]:
    """Names of the convolutions and linear layers in the order in which they run, heads last."""
    twin = blank_copy(module).eval()
    ran: dict[str, None] = {}
    for name, layer in twin.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda _module, _inputs, _output, name=name: ran.setdefault(name))
    with torch.no_grad():
        twin(architecture.example(1).to(next(twin.parameters()).device))
    return sorted(ran, key=lambda name: name.startswith("heads."))


def channels_last(module: MultiExit) -> MultiExit:
    """The same module with its weights laid out channels last, in place; the layout shapes rounding.

    A body that needs rows laid out one after the other, as `x.view(n, -1)` does, keeps them.
    """
    layout = torch.contiguous_format if keeps_rows(module.body) else torch.channels_last
    return module.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def blank_copy(module: nn.Module) -> Any:
    """A deep copy without gradients, all parameters trainable."""
    for parameter in module.parameters():
        parameter.grad = None
    twin = copy.deepcopy(module, kept_results(module))
    return twin.requires_grad_(True)


# Leaving a network early: the part of the body behind the exit that an image takes does not run.


def agreement(before: Tensor, now: Tensor) -> Tensor:
    """How much two consecutive exits agree on numbers: 1 / (1 + difference), which is 1 for the same number.

    Outputs come as the network gives them, where 1 is a standard deviation of the targets.
    """
    return 1 / (1 + (now - before).abs())


class _LeftError(Exception):
    """Raised inside the body when an image leaves, so that the rest of it does not run."""


def run_until(module: MultiExit, images: Tensor, done: Callable[[int, Tensor], bool]) -> tuple[int, Tensor]:
    """Run `images` up to the first early exit for which `done(place, logits)`, and return place and logits.

    Places count from 0; the last exit takes whoever did not leave before. Images of one call leave together.
    """
    left: list[tuple[int, Tensor]] = []

    def leave(place: int, head: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_block: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> None:
            logits = head(features)
            if done(place, logits):
                left.append((place, logits))
                raise _LeftError

        return hook

    hooks = [
        module.body.get_submodule(name).register_forward_hook(leave(place, head))
        for place, (name, head) in enumerate(zip(module.split_points, module.heads, strict=True))
    ]
    try:
        final: Tensor = module.body(images)
    except _LeftError:
        return left[0]
    finally:
        for hook in hooks:
            hook.remove()
    return len(module.split_points), final
