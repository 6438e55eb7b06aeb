"""Channel pruning by dependency groups, with the traps of Torch-Pruning handled in one place."""

import math
from typing import Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.knobs import exact
from ordercomp.networks.exits import channels_last, running_order, thawed
from ordercomp.networks.layers import QuantizedLayer, dorefa_weight
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import StageError
from ordercomp.stages.tracing import limited_tracing
from ordercomp.stages.verify import Cut, check_pruning

_TOO_MUCH = 0.1  # share of all channels by which more may go than was asked for
_SAID = 0.03  # share of all channels by which it may be off, rounding apart, without a notice
_LESS = (
    1e-9  # the library leaves int(width * (1 - ratio)): of a ratio less by this, the exact decimal's share
)


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
    network. Widths left are rounded to the nearest multiples of `round_to`, half up, but not below it, and a
    layer without room for that stays as it is; `global` cannot round. Outputs of classifiers are never
    pruned, and not counted. Raises StageError if the scope cannot round, if the module cannot be traced, if
    nothing could be removed, if a local ratio is missed by far, if the pruned module computes something else
    than the old one with those channels silenced, or if it could not be made again from its shapes.
    """
    if round_to > 1 and scope == "global":
        raise StageError(f"round_to={round_to} needs scope=local, as global ranks channels one by one")
    _refuse_tied(network)
    kept = classifiers(network)
    counted = [layer for layer in _running(network) if layer not in kept]
    names = [name for name, layer in network.module.named_modules() if layer in counted]
    widths = _widths(network.module, names)
    try:
        importance = _Importance(on_quantized=importance_on == "quantized")
        whole = network.copy()
        with limited_tracing():
            cuts = _prune(network, ratio, kept, importance, scope=scope, round_to=round_to)
            check_pruning(whole, cuts)
        _check_rebuilt(network)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = one_line(error)
        if not isinstance(error, StageError):  # whatever comes of a module that cannot be followed
            reason = f"Torch-Pruning cannot follow them ({type(error).__name__}: {reason})"
        raise StageError(f"channels of {network.architecture.model} cannot be pruned: {reason}") from error
    before, after = sum(widths), sum(_widths(network.module, names))
    if after == before:
        raise StageError(
            f"ratio {ratio:g} removes no channel of {network.architecture.model}, whose layers are too narrow"
        )
    achieved = 1 - after / before
    facts: dict[str, object] = {"ratio": round(achieved, 4), "channels": after}
    if scope == "local":
        facts |= _judge_kept(network, ratio, achieved, [width for width in widths if width > 1], round_to)
    return facts


def _refuse_tied(network: CompressedNetwork) -> None:
    """Raise StageError for layers that share a parameter, of which other channels would go in each."""
    owners: dict[int, str] = {}
    for path, layer in network.module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            owner = owners.setdefault(id(parameter), path)
            if owner != path:
                first, second = (place.removeprefix("body.") for place in (owner, path))
                raise StageError(
                    f"channels of {network.architecture.model} cannot be pruned: {first} and {second} share "
                    f"their {name}, and would lose different channels; give each its own"
                )


def _running(network: CompressedNetwork) -> list[nn.Module]:
    """The convolutions and linear layers that run."""
    return [
        network.module.get_submodule(name) for name in running_order(network.module, network.architecture)
    ]


def classifiers(network: CompressedNetwork) -> list[nn.Module]:
    """The layers that produce logits: the last one that runs in the body, and the last of each head."""
    ran = running_order(network.module, network.architecture)
    parts = ["body.", *(f"heads.{place}." for place in range(len(network.exits)))]
    last = [[name for name in ran if name.startswith(part)][-1] for part in parts]
    return [network.module.get_submodule(name) for name in last]


def _prune(
    network: CompressedNetwork,
    ratio: float,
    kept: list[nn.Module],
    importance: tp.importance.Importance,
    *,
    scope: str,
    round_to: int,
) -> list[Cut]:
    """Cut in place, and return what was cut."""
    module = network.module
    images = network.example(2)

    def pruner(ratios: dict[nn.Module, float]) -> tp.pruner.BasePruner:
        return tp.pruner.BasePruner(
            module,
            images,
            importance,
            pruning_ratio=ratio - _LESS,
            global_pruning=scope == "global",
            isomorphic=scope == "global",
            ignored_layers=kept,
            # The library's defaults are dictionaries shared by all pruners, which would keep modules alive.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
            channel_groups={},
            pruning_ratio_dict=ratios,
        )

    module.eval()
    with torch.enable_grad(), thawed(module):  # the tracer skips what is frozen, silently
        ratios = _of_odd_layers(module, ratio, round_to) if scope == "local" else {}
        made = pruner(ratios)
        rounds = scope == "local" and round_to == 1 and any(map(_has_groups, module.modules()))
        if rounds and (odd := _of_small_groups(made, ratio)):
            made = pruner({**ratios, **odd})
        made.step()
    channels_last(module).zero_grad(set_to_none=True)
    return [(name, outputs, list(channels)) for name, outputs, channels in made.pruning_history()]


def _of_odd_layers(module: nn.Module, ratio: float, round_to: int) -> dict[nn.Module, float]:
    """Ratios of the layers that are to keep more channels or fewer than `ratio` leaves.

    Where it would leave none, the library would leave them all.
    """
    widths = {
        layer: len(layer.weight) for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    }
    ratios: dict[nn.Module, float] = {}
    for layer, width in widths.items():
        wanted = _left(width, ratio, round_to)
        if wanted != _left(width, ratio, 0) and width > 1:
            ratios[layer] = 1 - (wanted + 0.5) / width if wanted < width else 0.0
    return ratios


def _left(width: int, ratio: float, round_to: int) -> int:
    """How many of `width` channels `ratio` leaves, rounded to the nearest `round_to`; for 0 maybe none."""
    left = math.floor(width * (1 - exact(ratio)))
    if round_to:
        left = min(width, max((left + round_to // 2) // round_to * round_to, round_to))
    return left


def _has_groups(layer: nn.Module) -> bool:
    """Whether the channels of a layer come in groups that must stay of one size."""
    groups = (layer.groups, layer.out_channels) if isinstance(layer, nn.Conv2d) else (1, 1)
    if isinstance(layer, nn.GroupNorm):
        groups = layer.num_groups, layer.num_channels
    return 1 < groups[0] < groups[1]


def _of_small_groups(pruner: tp.pruner.BasePruner, ratio: float) -> dict[nn.Module, float]:
    """Ratios, by the layer that makes the channels, where `ratio` leaves none of a group, and one is to stay.

    The library would leave them all.
    """
    ratios: dict[nn.Module, float] = {}
    for group in pruner.DG.get_all_groups(pruner.ignored_layers, pruner.root_module_types):
        count = pruner._get_channel_groups(group)
        size = len(group[0].idxs) // count
        if count > 1 and size > 1 and _left(size, ratio, 0) == 0:
            ratios[group[0].dep.target.module] = 1 - 1.5 / size
    return ratios


@torch.no_grad()
def _check_rebuilt(network: CompressedNetwork) -> None:
    """Raise StageError unless the network gives logits, and one rebuilt from its facts the same ones."""
    images = network.example(2)
    rebuilt = network.rebuild(seed=0).module
    rebuilt.load_state_dict(network.module.state_dict(), strict=True)
    rebuilt.to(network.device).eval()
    for logits, again in zip(network.module(images), rebuilt(images), strict=True):
        if logits.shape != (len(images), network.architecture.classes):
            raise StageError(f"pruning changes the shape of the logits to {tuple(logits.shape)}")
        if not torch.equal(logits, again):
            raise StageError("a network rebuilt from the pruned shapes computes something else")


def _judge_kept(
    network: CompressedNetwork, ratio: float, achieved: float, widths: list[int], round_to: int
) -> dict[str, str]:
    """A notice if what was removed is off by more than rounding, else nothing.

    Raises StageError if less than a third of `ratio` was removed, or far more, rounding apart.
    """
    total = max(sum(widths), 1)
    left = [_left(width, ratio, round_to) for width in widths]
    least, most = sorted((ratio, 1 - sum(left) / total))
    if achieved < least / 3 or achieved > most + _TOO_MUCH:
        raise StageError(
            f"a ratio of {ratio:g} removes {achieved:.0%} of the channels of {network.architecture.model}: "
            "layers that must stay as wide as others, or divisible into groups, do not follow the ratio"
        )
    if least - _SAID <= achieved <= most + _SAID:
        return {}
    return {"notice": f"removes {achieved:.0%} of the channels, where {ratio:.0%} were asked for"}


def _widths(module: nn.Module, names: list[str]) -> list[int]:
    """Numbers of output channels of layers."""
    return [module.get_parameter(f"{name}.weight").shape[0] for name in names]


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
                layer.weight.copy_(dorefa_weight(layer.weight, layer.weight_bits, layer.levels))
            importance: Tensor | None = super().__call__(group)
        finally:
            for layer, weight in zip(quantized, latent, strict=True):
                layer.weight.copy_(weight)
        return importance
