"""Torch-Pruning (1.6.1) made to follow more, and to give up in time; mended on import.

Where a network reshapes and rolls its features again and again, as windows of attention do, its lists of
channels multiply at each turn: minutes and gigabytes go by before it gives up. Of a layer normalization it
keeps the right weights, but where few of many are left not always in the order of the channels. Which part
of a split goes where it takes from the order of its readers, which fails where a part has several readers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import accumulate
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency import index_mapping, shape_infer
from torch_pruning.pruner.function import LayernormPruner

__all__ = ["FrozenNormPruner", "TracingLimitError", "is_frozen_norm", "limited_lists", "without"]

_MOST_CHANNELS = 2_000_000  # in all lists of one group, some 1.2 s; VGG-11 takes 400,000 in all


def without(tensor: Tensor, channels: Collection[int], dim: int) -> Tensor:
    gone = set(channels)
    left = [channel for channel in range(tensor.shape[dim]) if channel not in gone]
    return tensor.index_select(dim, torch.tensor(left, device=tensor.device))


# Normalizations whose numbers are frozen, as detectors have them, which the library takes for activations


def is_frozen_norm(layer: nn.Module) -> bool:
    """Whether all that a layer has is buffers, a number for each channel in each, as FrozenBatchNorm2d."""
    shapes = {tuple(buffer.shape) for buffer in layer.buffers()}
    return (
        tp.ops.module2type(layer) == tp.ops.OPTYPE.ELEMENTWISE
        and len(shapes) == 1
        and len(*shapes) == 1
        and next(layer.parameters(), None) is None
        and next(layer.children(), None) is None
    )


class FrozenNormPruner(tp.BasePruningFunc):  # type: ignore[misc]
    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        for name, buffer in layer.named_buffers():
            setattr(layer, name, without(buffer, idxs, 0))
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        return len(next(layer.buffers()))

    get_in_channels = get_out_channels


# The limit on lists of channels


class TracingLimitError(RuntimeError):
    """The tracer's lists grow beyond all use."""


_left: ContextVar[int | None] = ContextVar("channels that may still be listed", default=None)


@contextmanager
def limited_lists() -> Iterator[None]:
    """Let Torch-Pruning raise TracingLimitError once its lists hold more than _MOST_CHANNELS in all."""
    token = _left.set(_MOST_CHANNELS)
    try:
        yield
    finally:
        _left.reset(token)


def _limited(follow: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer's step through a reshape, which multiplies channels."""

    def step(mapping: Any, channels: Sequence[Any]) -> Any:
        _spend(len(channels) * (1 if mapping.reverse else mapping._stride))
        return follow(mapping, channels)

    return step


def _counted(add: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer's step to one more layer, which may come back to a layer in ever new orders."""

    def step(group: Any, dep: Any, idxs: Sequence[Any]) -> None:
        met = vars(group).setdefault("met", {}).setdefault((dep.target, dep.handler), set())
        if met:
            _spend(len(idxs))
        met.add(tuple(idxs))
        add(group, dep, idxs)

    return step


def _has_met(group: Any, dep: Any, idxs: Sequence[Any]) -> bool:
    """Whether a group holds these channels of a layer; the tracer's own search takes longer with each."""
    return tuple(idxs) in vars(group).get("met", {}).get((dep.target, dep.handler), ())


def _spend(channels: int) -> None:
    left = _left.get()
    if left is not None:
        if left < channels:
            raise TracingLimitError("its channels multiply at every reshape, or come back in ever new orders")
        _left.set(left - channels)


# The parts of a split


def _map_once(graph: Any) -> None:
    """Map indices between layers, once: a graph of ours is followed, never pruned."""
    if getattr(graph, "is_mapped", False):
        return
    graph.is_mapped = True
    nodes = [*graph.module2node.values()]
    for updates in ({tp.ops.OPTYPE.SPLIT: _size_split}, _UPDATES):
        for node in nodes:
            if node.type in updates:
                with suppress(ZeroDivisionError, IndexError):  # unmapped; the checks tell where that is wrong
                    updates[node.type](graph, node)


def _size_split(graph: Any, node: Any) -> None:
    """Note, for each reader of a split, the channels that it gets, if it is channels that are split."""
    saved = node.grad_fn
    shape, dim = saved._saved_self_sym_sizes, saved._saved_dim
    dim = dim - 2**64 if dim >= 2**63 else dim
    sizes = getattr(saved, "_saved_split_sizes", None)
    if sizes is None:
        step = saved._saved_split_size
        sizes = [min(step, shape[dim] - start) for start in range(0, shape[dim], step)]
    width = shape_infer.infer_out_channels_recursively(graph, node.inputs[0], [0])
    node.module.split_sizes, node.module.offsets = [width] * len(node.outputs), None
    if width not in (None, shape[dim]):
        return  # it is places that are split, and each part has all channels
    taken = Counter[Any]()
    parts = []
    for reader in node.outputs:
        places = [place for function, place in reader.grad_fn.next_functions if function is saved]
        if taken[reader] >= len(places):
            return
        parts.append(places[taken[reader]])
        taken[reader] += 1
    starts = [0, *accumulate(sizes)]
    node.module.split_sizes = [sizes[part] for part in parts]
    node.module.parts = [(starts[part], starts[part + 1]) for part in parts]


def _map_split(_graph: Any, node: Any) -> None:
    """Map channels of a split to those of its readers, and back."""
    if node.type != tp.ops.OPTYPE.SPLIT or not hasattr(node.module, "parts"):
        return
    taken = Counter[Any]()
    for reader, part in zip(node.outputs, node.module.parts, strict=True):
        place, taken[reader] = taken[reader], taken[reader] + 1
        there = [dep for dep in node.dependencies if dep.target is reader][place]
        back = [dep for dep in reader.dependencies if dep.target is node][place]
        there.index_mapping[0] = index_mapping._SplitIndexMapping(offset=part)
        back.index_mapping.append(
            index_mapping._SplitIndexMapping(offset=part, reverse=True)
        )  # after `cat`'s


def _map_reshape(graph: Any, node: Any) -> None:
    """Map channels through a reshape, but where it parts or joins them before the places, as shuffles do."""
    saved = node.grad_fn
    before, after = getattr(saved, "_saved_self_sym_sizes", ()), saved._input_metadata[0].shape
    if {len(before), len(after)} != {4, 5} or tuple(before[-2:]) != tuple(after[-2:]):
        index_mapping.update_reshape_index_mapping(graph, node)


_UPDATES: Mapping[Any, Callable[[Any, Any], None]] = {
    tp.ops.OPTYPE.CONCAT: index_mapping.update_concat_index_mapping,
    tp.ops.OPTYPE.SPLIT: _map_split,
    tp.ops.OPTYPE.RESHAPE: _map_reshape,
    tp.ops.OPTYPE.UNBIND: index_mapping.update_unbind_index_mapping,
    tp.ops.OPTYPE.EXPAND: index_mapping.update_expand_index_mapping,
    tp.ops.OPTYPE.SLICE: index_mapping.update_slice_index_mapping,
}

# The order of the weights of a layer normalization


def _in_order(keep: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer's cut of a parameter, to channels in rising order."""

    def cut(pruner: Any, parameter: Tensor, kept: Tensor, dim: int) -> Any:
        return keep(pruner, parameter, kept.sort().values, dim)

    return cut


LayernormPruner._prune_parameter_and_grad = _in_order(LayernormPruner._prune_parameter_and_grad)
index_mapping._FlattenIndexMapping.__call__ = _limited(index_mapping._FlattenIndexMapping.__call__)
index_mapping.update_index_mapping = _map_once
tp.Group.add_dep = _counted(tp.Group.add_dep)
tp.Group.has_pruning_op = _has_met
