"""Torch-Pruning with a limit on how long it follows a network, and a fault of it mended, on import.

Where a network reshapes and rolls its features again and again, as windows of attention do, its lists of
channels multiply at each turn: minutes and gigabytes go by before it gives up. Of a layer normalization it
keeps the right weights, but where few of many are left (1.6.1) not always in the order of the channels.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from torch_pruning.dependency import index_mapping
from torch_pruning.pruner.function import LayernormPruner

_MOST_CHANNELS = 10_000_000  # in all lists of one tracing, some 6 s; VGG-11 takes 400,000


class TracingLimitError(RuntimeError):
    """The tracer's lists grow beyond all use."""


_left: ContextVar[int | None] = ContextVar("channels that may still be listed", default=None)


@contextmanager
def limited_tracing() -> Iterator[None]:
    """Let Torch-Pruning raise TracingLimitError once its lists hold more than _MOST_CHANNELS in all.

    It warns of parameters outside of layers, as gates have; whether they are cut right is checked afterwards.
    """
    token = _left.set(_MOST_CHANNELS)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
            yield
    finally:
        _left.reset(token)


def _limited(follow: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer's step through a reshape, which is the one that multiplies."""

    def step(mapping: Any, channels: Sequence[Any]) -> Any:
        left = _left.get()
        if left is not None:
            left -= len(channels) * (1 if mapping.reverse else mapping._stride)
            if left < 0:
                raise TracingLimitError("its channels multiply at every reshape")
            _left.set(left)
        return follow(mapping, channels)

    return step


def _in_order(keep: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer's cut of a parameter, to channels in rising order."""

    def cut(pruner: Any, parameter: Tensor, kept: Tensor, dim: int) -> Any:
        return keep(pruner, parameter, kept.sort().values, dim)

    return cut


LayernormPruner._prune_parameter_and_grad = _in_order(LayernormPruner._prune_parameter_and_grad)
index_mapping._FlattenIndexMapping.__call__ = _limited(index_mapping._FlattenIndexMapping.__call__)
