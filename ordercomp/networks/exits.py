"""Modules as stages shape them: a factory's body, heads after some of its parts, layers replaced in place.

Which heads are asked, and what lets an image leave, says a policy; one threshold in [0, 1] serves all:

- `confidence`: the largest softmax of a head reaches the threshold (Teerapittayanon et al. 2016).
- `patience`: so many heads in a row name the same class; the threshold is their share of all heads (PABEE,
  Zhou et al. 2020).
- `predictive`: as `confidence`, but after a head that was not sure the next one is asked where confidence,
  taken to rise in proportion to the number of heads, would reach the threshold; those between do not run.
  A near form of Predictive Exit (Li et al. 2023), whose forecast smooths logits instead.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ordercomp.errors import reraise_as
from ordercomp.models.catalog import build_model
from ordercomp.networks.compat import (
    Dropped,
    check_own_modules,
    kept_results,
    lay_out,
    mark_contiguous,
    marked_contiguous,
    needs_contiguous,
)
from ordercomp.networks.layers import (
    FLOAT_BITS,
    MOST_LEVEL_BITS,
    TENSOR_BITS,
    ExitHead,
    HeadKind,
    Levels,
    Placement,
    has_plain_forward,
    make_head,
    quantized_layer,
)

Policy = Literal["confidence", "patience", "predictive"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def agreeing(labels: Tensor) -> Tensor:
    """How many exits in a row before each exit name the same class: (e, n) from labels (e, n)."""
    streaks = [torch.zeros_like(labels[0])]
    for before, now in itertools.pairwise(labels):
        streaks.append((streaks[-1] + 1) * (before == now))
    return torch.stack(streaks)


def next_asked(confidence: Any, place: int, threshold: float, heads: int) -> NDArray[np.int64]:
    """Number of the head that a `predictive` network asks after the one at `place`; `heads`: none of them.

    `confidence` is a number or an array of any shape, like the result.
    """
    wanted = np.ceil(threshold * (place + 1) / np.maximum(confidence, 1e-12)) - 1
    chosen: NDArray[np.int64] = np.clip(wanted, place + 1, heads).astype(np.int64)
    return chosen


def predictive_exits(
    confidence: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where images leave, (n,), and which heads each was spared on its way, (e - 1, n).

    `confidence` has shape (e, n).
    """
    heads, images = len(confidence) - 1, confidence.shape[1]
    places = np.full(images, heads)
    asked_next = np.full(images, 0 if np.isfinite(threshold) else heads)
    asked = np.zeros((heads, images), dtype=bool)
    for place in range(heads):
        asked[place] = (asked_next == place) & (places == heads)
        sure = asked[place] & (confidence[place] >= threshold)
        places[sure] = place
        later = next_asked(confidence[place], place, threshold, heads) if np.isfinite(threshold) else heads
        asked_next = np.where(asked[place], later, asked_next)
    return places, ~asked & (np.arange(heads)[:, None] <= places)


class ExitRule:
    """Decides, head by head, where one image leaves; made anew for each image."""

    def __init__(self, policy: Policy, threshold: float | None, heads: int) -> None:
        self._policy, self._threshold, self._heads = policy, threshold, heads
        self._asked_next = 0 if policy != "predictive" or threshold is not None else heads
        self._labels: list[int] = []

    def asks(self, place: int) -> bool:
        """Whether the head at `place` runs at all."""
        return place >= self._asked_next

    def leaves(self, place: int, logits: Tensor) -> bool:
        """Whether the image leaves, given the logits (1, classes) of that head."""
        if self._threshold is None:
            return False
        sure = float(logits.float().softmax(dim=1).max())
        if self._policy == "patience":
            self._labels.append(int(logits.argmax()))
            sure = float(agreeing(torch.tensor(self._labels)[:, None])[-1]) / self._heads
        if self._policy == "predictive" and sure < self._threshold:
            self._asked_next = int(next_asked(sure, place, self._threshold, self._heads))
        return sure >= self._threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The factory of the uncompressed module and what it is called with."""

    model: str  # as build_model reads it
    classes: int
    channels: int
    size: tuple[int, int]  # height and width of an input image

    def build(self) -> nn.Module:
        """A module with fresh weights, drawn from torch's global generator.

        It is run once on an example. Raises ValueError if it fails there or gives no logits (n, classes).
        """
        body = build_model(self.model, classes=self.classes, channels=self.channels).eval()
        image = self.example(1)
        failure = f"model {self.model} fails on an image of shape {tuple(image.shape)}"
        with torch.no_grad(), reraise_as(ValueError, failure):
            logits = body(image)
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if came != (1, self.classes):
            raise ValueError(
                f"model {self.model} must map an image of shape {tuple(image.shape)} to logits of shape "
                f"{(1, self.classes)}, got {came}"
            )
        check_own_modules(body, self.model)
        if ":" in self.model and needs_contiguous(body, self.example(2)):
            mark_contiguous(body)
        return body.train()

    def example(self, count: int = 2) -> Tensor:
        """Random inputs of shape (count, channels, h, w) that leave the global generator alone."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, self.channels, *self.size, generator=generator)


@dataclass(frozen=True, slots=True)
class Bits:
    """Nominal bit widths of the whole network, and where levels of weights and roundings lie."""

    weights: int
    activations: int
    levels: Levels = "uniform"
    placement: Placement = "layer"

    def __post_init__(self) -> None:
        for name, value in (("weights", self.weights), ("activations", self.activations)):
            if type(value) is not int or not 1 <= value <= FLOAT_BITS:
                raise ValueError(
                    f"bits of {name} must be a whole number from 1 to {FLOAT_BITS}, got {value!r}"
                )
        if self.levels not in get_args(Levels):
            raise ValueError(f"levels must be one of {', '.join(get_args(Levels))}, got {self.levels!r}")
        if self.levels != "uniform" and MOST_LEVEL_BITS < self.weights < FLOAT_BITS:
            raise ValueError(
                f"levels={self.levels} takes weights of at most {MOST_LEVEL_BITS} bits, got {self.weights}"
            )
        if self.placement == "tensor" and max(self.weights, self.activations) > TENSOR_BITS:
            raise ValueError(
                f"placement=tensor takes weights and activations of at most {TENSOR_BITS} bits, "
                f"got {self.weights} and {self.activations}"
            )


class MultiExit(nn.Module):
    """A body with heads after some of its modules; without heads, just the body."""

    def __init__(
        self, body: nn.Module, exits: Mapping[str, nn.Module] | None = None, policy: Policy = "confidence"
    ) -> None:
        super().__init__()
        self.policy = policy
        exits = exits or {}
        self.body = body
        self.split_points = tuple(exits)  # names of modules of the body, in the order of execution
        self.heads = nn.ModuleList(exits.values())
        self.rounded: tuple[str, ...] = ()  # names of modules of the body whose outputs are rounded
        self.roundings = nn.ModuleList()

    def round_outputs(self, roundings: Mapping[str, nn.Module]) -> None:
        """Round, from now on, the outputs of these modules of the body and of no others."""
        self.rounded, self.roundings = tuple(roundings), nn.ModuleList(roundings.values())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of every exit, each of shape (n, classes), the body's own last."""
        early, final = self.run(images, list(self.heads))
        return (*early, final)

    def head_inputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """The part of each head's input that does not depend on its parameters: what it summarizes."""
        summaries, _ = self.run(images, [cast("ExitHead", head).summarize for head in self.heads])
        return tuple(summaries)

    def split(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features at the split points and the final logits."""
        return self.run(images, [torch.clone] * len(self.split_points))

    def run(
        self, images: Tensor, readers: Sequence[Callable[[Tensor], Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """What the reader of each split point makes of its features, and the final logits.

        A reader is called as soon as its split point is done: later layers may work in place on its features.
        """
        if marked_contiguous(self.body):
            images = images.clone(memory_format=torch.contiguous_format)  # also the strides of one channel
        read: dict[str, Tensor] = {}

        def note(name: str, reader: Callable[[Tensor], Tensor]) -> Callable[..., None]:
            return lambda _module, _inputs, features: read.__setitem__(name, reader(features))

        def rounded(rounding: nn.Module) -> Callable[..., Tensor]:
            return lambda _module, _inputs, output: rounding(output)

        with ExitStack() as hooks:
            for name, rounding in zip(self.rounded, self.roundings, strict=True):
                module = self.body.get_submodule(name)
                hooks.enter_context(module.register_forward_hook(rounded(rounding)))
            for name, reader in zip(self.split_points, readers, strict=True):
                module = self.body.get_submodule(name)
                hooks.enter_context(module.register_forward_hook(note(name, reader)))
            final = self.body(images)
        if not isinstance(final, Tensor):
            kind = type(final).__name__
            raise ValueError(
                f"{type(self.body).__name__} must give a tensor of logits in training, too, got {kind}"
            )
        return [read[name] for name in self.split_points], final


def attach_heads(
    body: nn.Module,
    split_points: Sequence[str],
    architecture: Architecture,
    *,
    kind: HeadKind = "pool",
    policy: Policy = "confidence",
) -> MultiExit:
    """A network of `body` with a new head after each split point, as wide as the features there."""
    probe = MultiExit(body, {name: nn.Identity() for name in split_points})
    training = body.training
    device = next(body.parameters()).device
    with torch.no_grad():
        features, _ = probe.eval().split(architecture.example(1).to(device))
    heads = [make_head(kind, feature.shape[1], architecture.classes).to(device) for feature in features]
    return MultiExit(body.train(training), dict(zip(split_points, heads, strict=True)), policy)


def replace_module(module: nn.Module, name: str, child: nn.Module) -> None:
    """Put `child` in the place of the submodule called `name`. Raises AttributeError if there is none."""
    module.get_submodule(name)
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, child)


def drop_module(module: nn.Module, name: str) -> None:
    """Let the submodule called `name` hand on what it is given. Raises AttributeError if there is none."""
    replace_module(module, name, Dropped(module.get_submodule(name)))


def quantize_layers(module: nn.Module, bits: Bits, *, image_reader: str | None = None) -> None:
    """Fake-quantize, in place, every Conv2d and Linear below `module`.

    A subclass with a forward of its own, which would be lost, stays as it is. The layer called
    `image_reader` takes its input, the image, as it is, or, where each tensor is rounded, in 8 bits.
    """
    image_bits = TENSOR_BITS if bits.placement == "tensor" else FLOAT_BITS
    widths = {
        name: (bits.weights, image_bits if name == image_reader else bits.activations, False, bits.levels)
        for name, layer in module.named_modules(remove_duplicate=False)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and has_plain_forward(layer)
    }
    quantize_named_layers(module, widths)


def quantize_named_layers(module: nn.Module, widths: Mapping[str, Sequence[Any]]) -> None:
    """Replace layers, by name, in place, by quantized ones of these bits of weights and activations.

    The third entry says whether inputs are signed, a fourth tells levels that are not uniform. A layer in
    several places stays one layer. Raises ValueError for modules that are neither convolutions nor linear,
    AttributeError if there is none.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for name, (weights, activations, signed, *levels) in widths.items():
        layer = module.get_submodule(name)
        if layer not in twins:
            twins[layer] = quantized_layer(
                layer, weights, activations, signed=signed, levels=levels[0] if levels else "uniform"
            )
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
    layout = torch.contiguous_format if marked_contiguous(module.body) else torch.channels_last
    lay_out(module, layout)
    return module


def blank_copy(module: nn.Module) -> Any:
    """A deep copy without gradients; frozen parameters stay frozen."""
    for parameter in module.parameters():
        parameter.grad = None
    return copy.deepcopy(module, kept_results(module))


@contextmanager
def thawed(module: nn.Module) -> Iterator[None]:
    """Let all parameters have gradients meanwhile; what was frozen is so again afterwards, by name."""
    frozen = frozen_names(module)
    module.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in frozen)


def frozen_names(module: nn.Module) -> list[str]:
    """Names of the parameters that are not to be trained."""
    return [name for name, parameter in module.named_parameters() if not parameter.requires_grad]


# Early-exit inference: the part of the body behind the exit that an image takes does not run


def agreement(before: Tensor, now: Tensor) -> Tensor:
    """How much two consecutive exits agree on numbers: 1 / (1 + difference), which is 1 for the same number.

    Outputs come as the network gives them, where 1 is a standard deviation of the targets.
    """
    return 1 / (1 + (now - before).abs())


class _LeftError(Exception):
    """Raised inside the body when an image leaves, so that the rest of it does not run."""

    def __init__(self, place: int, logits: Tensor) -> None:
        super().__init__(place)
        self.place, self.logits = place, logits


def run_until(
    module: MultiExit,
    images: Tensor,
    done: Callable[[int, Tensor], bool],
    asks: Callable[[int], bool] = lambda _place: True,
) -> tuple[int, Tensor]:
    """Run `images` up to the first early exit for which `done(place, logits)`, and return place and logits.

    Places count from 0; the last exit takes whoever did not leave before. Heads for which `asks(place)` is
    false do not run. Images of one call leave together.
    """

    def leave(place: int, head: nn.Module, features: Tensor) -> Tensor:
        if not asks(place):
            return features
        logits: Tensor = head(features)
        if done(place, logits):
            raise _LeftError(place, logits)
        return logits

    try:
        _, final = module.run(images, [partial(leave, *entry) for entry in enumerate(module.heads)])
    except _LeftError as left:
        return left.place, left.logits
    return len(module.heads), final
