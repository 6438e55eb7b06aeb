"""Channel pruning: which channels are the weakest, of all that can be followed, and how far that goes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ordercomp.knobs import exact
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import channels_last, running_order, thawed
from ordercomp.networks.layers import QuantizedLayer
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import StageError
from ordercomp.stages.tracing import Cut, Tracer, apply_cuts, reason_lost
from ordercomp.stages.verify import sound_cuts

_SAID = 0.03  # share of all channels by which it may be off, rounding apart, without a notice
_NEARLY_ALL = 0.95  # share of the multiply-accumulates; where P reaches less there is a notice


def narrow_channels(
    network: CompressedNetwork,
    ratio: float,
    *,
    scope: Literal["local", "global"] = "local",
    importance_on: Literal["latent", "quantized"] = "latent",
    round_to: int = 1,
) -> dict[str, object]:
    """Remove, in place, a `ratio` of the channels of what is left and return what was achieved.

    Importance is the group's L2 norm (DepGraph, Fang et al. 2023). `local` removes the same ratio in every
    group, the channels left rounded down, but at least one; `global` takes the weakest channels of the whole
    network. Widths left are rounded to the nearest multiples of `round_to`, and of the groups that a layer
    has, half up, but not below it, and a layer without room for that stays as it is; `global` cannot round.
    Outputs of classifiers, and of layers that go with them, are never pruned, and not counted. Channels that
    cannot be followed stay: those that the tracer loses, and those without which the module computes
    something else than with them silenced, or could not be made again from its shapes. A notice tells what
    share of the multiplications is reached.

    Raises StageError if the scope cannot round, if the module cannot be traced, and if no channel goes.
    """
    if round_to > 1 and scope == "global":
        raise StageError(f"round_to={round_to} needs scope=local, as global ranks channels one by one")
    importance = _Importance(on_quantized=importance_on == "quantized")
    cuts, kept = _sound_cuts(network, importance, ratio, scope=scope, round_to=round_to)
    names = [name for name in running_order(network.module, network.architecture) if name not in kept]
    before = _widths(network.module, names)
    facts = _reach(network, cuts)
    with thawed(network.module):
        apply_cuts(network.module, cuts)
    channels_last(network.module)
    after = _widths(network.module, names)
    left = sum(after.values())
    facts = {"ratio": round(1 - left / sum(before.values()), 4), "channels": left, **facts}
    if scope == "local" and (missed := _missed(before, after, ratio, round_to)):
        facts["notice"] = "; ".join(filter(None, (missed, facts.get("notice"))))
    return facts


def classifiers(network: CompressedNetwork) -> list[nn.Module]:
    """The layers that produce logits: the last one that runs in the body, and the last of each head."""
    ran = running_order(network.module, network.architecture)
    parts = ["body.", *(f"heads.{place}." for place in range(len(network.exits)))]
    last = [[name for name in ran if name.startswith(part)][-1] for part in parts]
    return [network.module.get_submodule(name) for name in last]


def _sound_cuts(
    network: CompressedNetwork,
    importance: tp.importance.Importance,
    ratio: float,
    *,
    scope: str,
    round_to: int,
) -> tuple[list[Cut], set[str]]:
    """The cuts that make `ratio` of the channels go, of those that can be followed, and logits' layers."""
    model = network.architecture.model
    network.module.eval()
    try:
        with torch.enable_grad(), thawed(network.module):  # the tracer skips what is frozen, silently
            tracer = Tracer(network.module, network.example(2))
            kept = classifiers(network)
            ranked = [*_rank(tracer, kept, importance)]
            if scope == "local":
                followed = [group.weakest(tracer, ratio, round_to) for group in ranked]
            else:
                followed = [cut for same in _scopes(ranked) for cut in _weakest_of_all(tracer, same, ratio)]
    except Exception as error:
        raise StageError(f"channels of {model} cannot be pruned: {reason_lost(error)}") from error
    network.module.zero_grad(set_to_none=True)
    cuts = [cut for cut in followed if cut]
    sound, wrong = sound_cuts(network, cuts)
    if not sound:
        reasons = [*tracer.lost.values(), *wrong.values()]
        raise StageError(
            f"channels of {model} cannot be pruned: {reasons[0]}"
            if reasons
            else f"ratio {ratio:g} removes no channel of {model}, whose layers are too narrow"
        )
    return sound, tracer.bound | {tracer.name_of(layer) for layer in kept}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A group of channels, and how important they are, shape (channels of a part,)."""

    group: tp.Group
    parts: int  # of one size, of which each loses the same channels
    importance: Tensor

    def weakest(self, tracer: Tracer, ratio: float, round_to: int) -> Cut:
        """The cut that leaves of the group what `ratio` leaves of its channels, rounded."""
        width = self.parts * len(self.importance)
        left = _left(width, ratio, math.lcm(self.parts, round_to)) // self.parts
        return self.cut(tracer, len(self.importance) - left)

    def cut(self, tracer: Tracer, count: int) -> Cut:
        """The cut of the weakest channels of a part, and of those in the same places of the others."""
        size = len(self.importance)
        weakest = self.importance.topk(count, largest=False).indices.tolist()
        return tracer.cut(self.group, [range(place, size * self.parts, size) for place in weakest])


def _rank(
    tracer: Tracer, kept: Sequence[nn.Module], importance: tp.importance.Importance
) -> Iterator[_Ranked]:
    for group in tracer.groups(kept):
        try:
            parts = tracer.parts(group)
            values = importance(group)
            if values is not None:
                yield _Ranked(group, parts, values.view(parts, -1).mean(0).cpu())
        except Exception as error:
            tracer.lose(group[0].dep.target.module, error)


def _left(width: int, ratio: float, step: int) -> int:
    """How many of `width` channels `ratio` leaves, rounded to the nearest `step`; for 0 maybe none."""
    left = math.floor(width * (1 - exact(ratio)))
    if step:
        left = min(width, max((left + step // 2) // step * step, step))
    return left


def _scopes(ranked: Sequence[_Ranked]) -> list[list[_Ranked]]:
    """Groups in which the same kinds of layers follow one another, whose channels can be compared."""
    scopes: dict[tuple[object, ...], list[_Ranked]] = {}
    for entry in ranked:
        kinds = ((type(dep.source.module), type(dep.target.module), dep.handler) for dep, _ in entry.group)
        scopes.setdefault((*kinds,), []).append(entry)
    return [*scopes.values()]


def _weakest_of_all(tracer: Tracer, scope: Sequence[_Ranked], ratio: float) -> list[Cut]:
    """Cuts of the weakest channels of several groups together."""
    values = torch.cat([group.importance for group in scope])
    count = len(values) - _left(len(values), ratio, 0)
    if not count:
        return []
    threshold = values.topk(count, largest=False).values[-1]
    return [group.cut(tracer, int((group.importance <= threshold).sum())) for group in scope]


def _reach(network: CompressedNetwork, cuts: Sequence[Cut]) -> dict[str, Any]:
    """The share of the multiply-accumulates in layers of which channels go, with a notice if it is low."""
    try:
        cost = measure_cost(network)
    except ValueError:  # what cannot be counted is refused where its cost is asked for
        return {}
    touched = {edit.name for cut in cuts for edit in cut}
    whole = {
        layer.name: layer.macs
        for layer in cost.layers
        if not layer.normalization and layer.name not in touched
    }
    if not sum(whole.values()):
        return {}
    reached = 1 - sum(whole.values()) / cost.macs
    facts: dict[str, Any] = {"reached": round(reached, 4)}
    if reached < _NEARLY_ALL:
        most = max(whole, key=lambda name: whole[name]).removeprefix("body.")
        facts["notice"] = (
            f"reaches {reached:.0%} of the multiplications; the others stay as they are, most in {most}"
        )
    return facts


def _missed(before: Mapping[str, int], after: Mapping[str, int], ratio: float, round_to: int) -> str:
    """That the share of the channels that was removed is off by more than rounding, in words."""
    names = [name for name, width in before.items() if width > 1]
    total = max(sum(before[name] for name in names), 1)
    achieved = 1 - sum(after[name] for name in names) / total
    left = sum(_left(before[name], ratio, round_to) for name in names)
    least, most = sorted((ratio, 1 - left / total))
    if least - _SAID <= achieved <= most + _SAID:
        return ""
    return f"removes {achieved:.0%} of the channels, where {ratio:.0%} were asked for"


def _widths(module: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """Numbers of output channels of layers."""
    return {name: module.get_parameter(f"{name}.weight").shape[0] for name in names}


class _Importance(tp.importance.GroupMagnitudeImportance):  # type: ignore[misc]
    """Group L2 norm of the latent float weights, or of the weights as quantized."""

    def __init__(self, *, on_quantized: bool) -> None:
        super().__init__(p=2)
        self._on_quantized = on_quantized

    @torch.no_grad()
    def __call__(self, group: tp.Group) -> Tensor | None:
        layers = {dependency.target.module for dependency, _ in group}
        quantized = [layer for layer in layers if self._on_quantized and isinstance(layer, QuantizedLayer)]
        latent = [layer.weight.detach().clone() for layer in quantized]
        try:
            for layer in quantized:
                layer.weight.copy_(layer.rounded_weight())
            importance: Tensor | None = super().__call__(group)
        finally:
            for layer, weight in zip(quantized, latent, strict=True):
                layer.weight.copy_(weight)
        return importance
