"""Which channels of a network go together, as Torch-Pruning follows them, and cuts of them as plain data."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch_pruning.pruner.function import PrunerBox

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.networks.layers import has_plain_forward
from ordercomp.stages.torch_pruning_compat import FrozenNormPruner, is_frozen_norm, limited_lists, without

Cut = tuple["Edit", ...]  # channels that go together; the first edit is of the layer that makes them


@dataclass(frozen=True, slots=True)
class Edit:
    """Channels that go from one layer, or from a parameter that belongs to none."""

    name: str  # of the module or parameter
    outputs: bool  # whether they are its outputs; else its inputs
    channels: tuple[int, ...]


class Tracer:
    """The groups of channels of a network that must be cut together; those that are lost sight of are told.

    The module must be in evaluation mode, with gradients for all parameters. Raises whatever tracing it does.
    """

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        self._names: dict[int, str] = {
            id(part): name for name, part in (*module.named_modules(), *module.named_parameters())
        }
        frozen = {type(part) for part in module.modules() if is_frozen_norm(part)}
        pruners = {kind: FrozenNormPruner() for kind in frozen}
        self._graph = tp.DependencyGraph().build_dependency(
            module, images, customized_pruners=pruners, verbose=False
        )
        self.bound: set[str] = set()  # names of layers whose outputs must stay, as they go with a kept one's
        self.lost: dict[str, str] = {}  # why, by the name of a layer whose outputs cannot be followed

    def groups(self, kept: Collection[nn.Module]) -> Iterator[tp.Group]:
        """Each group with all of its channels, but those of a layer in `kept` and of a single channel."""
        seen: set[nn.Module] = set(kept)
        for layer in [*self._graph.module2node]:
            if layer in seen or not isinstance(layer, (_ConvNd, nn.Linear)):
                continue
            width = self._graph.get_out_channels(layer)
            if width == 1:
                continue
            try:
                group = self._from(layer, range(width))
            except Exception as error:
                self.lose(layer, error)
                continue
            made = {
                dep.target.module for dep, _ in group if self._graph.is_out_channel_pruning_fn(dep.handler)
            }
            seen |= made
            if not made.isdisjoint(kept):
                self.bound |= {self._names[id(part)] for part in made if id(part) in self._names}
                continue
            if any(self._width(dep) == 1 for dep, _ in group):
                self.lost[self._names[id(layer)]] = "they go with the one channel of another layer"
            else:
                yield group

    def name_of(self, layer: nn.Module) -> str:
        """The name of a layer in the network."""
        return self._names[id(layer)]

    def lose(self, layer: nn.Module, error: Exception) -> None:
        """Note why the outputs of a layer cannot be followed. A lack of memory is raised."""
        self.lost[self._names[id(layer)]] = reason_lost(error)

    def parts(self, group: tp.Group) -> int:
        """Into how many parts of one size the channels of a group fall, of which each is cut alike."""
        return lcm(*(_parts(dep.target.module) for dep, _ in group))

    def cut(self, group: tp.Group, units: Sequence[Sequence[int]]) -> Cut:
        """The cut of channels of a group's first layer, in `units` that go together, the first ones first.

        What goes with a channel may be others of the same layer: units are left until no more go than they
        hold, and until no layer is left without channels. Where nothing can go, that is told, and empty.
        """
        root = group[0].dep.target.module
        most = sum(map(len, units))
        take = len(units)
        while take > 0:
            part = self._from(root, [channel for unit in units[:take] for channel in unit])
            gone = len(part[0].idxs)
            if gone <= most and self._graph.check_pruning_group(part):
                return self._as_edits(part)
            take = min(take - 1, take * most // gone if gone > most else take // 2)
        if units:
            self.lost[self._names[id(root)]] = (
                "what goes with one of its channels leaves none of another layer"
            )
        return ()

    def _from(self, layer: nn.Module, channels: Sequence[int]) -> tp.Group:
        pruner = self._graph.get_pruner_of_module(layer)
        with limited_lists():
            return self._graph.get_pruning_group(layer, pruner.prune_out_channels, list(channels))

    def _width(self, dep: Any) -> int | None:
        if isinstance(dep.target.module, nn.Parameter):
            return None
        outputs = self._graph.is_out_channel_pruning_fn(dep.handler)
        width: int | None = (self._graph.get_out_channels if outputs else self._graph.get_in_channels)(
            dep.target.module
        )
        return width

    def _as_edits(self, group: tp.Group) -> Cut:
        edits = []
        for dep, channels in group:
            name = self._names.get(id(dep.target.module))
            if name is not None and channels:
                outputs = self._graph.is_out_channel_pruning_fn(dep.handler)
                edits.append(Edit(name, outputs, tuple(sorted(set(channels)))))
        return tuple(edits)


def reason_lost(error: Exception) -> str:
    """Why channels cannot be followed, in words; a lack of memory, which may pass, is raised."""
    if is_out_of_memory(error):
        raise error
    return f"Torch-Pruning cannot follow them ({type(error).__name__}: {one_line(error)})"


def merged(cuts: Sequence[Cut], *, outputs: bool) -> dict[str, list[int]]:
    """All channels that go from outputs, or inputs, of modules or parameters, in rising order, by name."""
    gone: dict[str, set[int]] = {}
    for edit in (edit for cut in cuts for edit in cut if edit.outputs == outputs):
        gone.setdefault(edit.name, set()).update(edit.channels)
    return {name: sorted(channels) for name, channels in gone.items()}


def apply_cuts(module: nn.Module, cuts: Sequence[Cut]) -> None:
    """Make all cuts, in place; parameters and buffers that were shared stay shared.

    Raises ValueError if shared ones would lose different channels, and whatever a layer does that has no such
    channels.
    """
    shared = _shared_names(module)
    work = [
        (_pruner_of(module, name, outputs=outputs), channels)
        for outputs in (True, False)
        for name, channels in merged(cuts, outputs=outputs).items()
    ]
    for prune, channels in work:
        prune(channels)
    tensors = _named_tensors(module)
    for first, *others in shared:
        for other in others:
            if not torch.equal(tensors[first], tensors[other]):
                raise ValueError(f"{first} and {other} are shared, and would lose different channels")
            _set(module, other, tensors[first])


def _pruner_of(module: nn.Module, name: str, *, outputs: bool) -> Callable[[list[int]], object]:
    """What cuts channels of the module, or parameter, of that name."""
    parameters = dict(module.named_parameters())
    if name in parameters:
        parameter = parameters[name]
        dim = max(place for place, size in enumerate(parameter.shape) if size > 1)
        return lambda gone: _set(module, name, nn.Parameter(without(parameter.detach(), gone, dim)))
    layer = module.get_submodule(name)
    if is_frozen_norm(layer):
        return lambda gone: FrozenNormPruner().prune_out_channels(layer, gone)
    pruner = PrunerBox[tp.ops.module2type(layer)]
    prune = pruner.prune_out_channels if outputs else pruner.prune_in_channels
    dims = _own_dims(layer, outputs=outputs)

    def run(gone: list[int]) -> None:
        pruner.pruning_dim = -1  # the library's pruners are shared, and remember the last node's
        alone = isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels
        prune(layer, gone)
        if alone:
            layer.num_groups = layer.num_channels
        for own, dim in dims.items():
            left = without(getattr(layer, own).detach(), gone, dim)
            setattr(layer, own, nn.Parameter(left) if own in layer._parameters else left)

    return run


def _own_dims(layer: nn.Module, *, outputs: bool) -> dict[str, int]:
    """Along which dimension what a layer with a forward of its own has beside weight and bias has channels.

    Gains of channels, masks of weights, factors of low rank: a first dimension as wide as the layer goes with
    its outputs, or a second one behind one of 1; else the second one goes with its inputs.
    """
    dims: dict[str, int] = {}
    if not isinstance(layer, (nn.Conv2d, nn.Linear)) or has_plain_forward(layer):
        return dims
    width = layer_width(layer, outputs=outputs)
    for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        row = tensor.dim() > 1 and tensor.shape[0] == 1
        dim = int(row or not outputs)
        if (
            name not in ("weight", "bias")
            and tensor.dim() > dim
            and tensor.shape[dim] == width
            and outputs >= row
        ):
            dims[name] = dim
    return dims


def layer_width(layer: nn.Conv2d | nn.Linear, *, outputs: bool) -> int:
    """How many outputs, or inputs, a layer has."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if outputs else layer.in_channels
    return layer.out_features if outputs else layer.in_features


def _set(module: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, own = name.rpartition(".")
    setattr(module.get_submodule(path), own, tensor)


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by all of their names."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(
        module.named_buffers(remove_duplicate=False)
    )


def _shared_names(module: nn.Module) -> list[list[str]]:
    """Names of parameters, and of buffers, that are one and the same, in lists of two or more."""
    names: dict[int, list[str]] = {}
    for name, tensor in _named_tensors(module).items():
        names.setdefault(id(tensor), []).append(name)
    return [places for places in names.values() if len(places) > 1]


def _parts(layer: nn.Module) -> int:
    """Into how many parts of one size a layer's channels must fall; parts of one channel do not count."""
    if isinstance(layer, _ConvNd):
        return 1 if layer.groups == layer.out_channels else layer.groups
    if isinstance(layer, nn.GroupNorm):
        return 1 if layer.num_groups == layer.num_channels else layer.num_groups
    if isinstance(layer, tp.ops._SplitOp) and hasattr(layer, "parts") and len(set(layer.split_sizes)) == 1:
        return len(set(layer.parts))  # `chunk` makes as many of what is left
    return 1
