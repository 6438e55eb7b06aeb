"""A bound on what a stranger's network may take while it is built: a small file must not fill the memory."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ordercomp.plugins import is_function

_SMALL = 64 * 2**20  # bytes that the uncompressed network of any file may take
_WIDE = 256 * 2**20  # bytes that one feature map may take on top
_MOST_TIMES = 200  # how many times larger than its file a network may be: stages cut widths and blocks
_FLOAT = 4  # bytes


def bounded(model: str, file_bytes: int) -> AbstractContextManager[object]:
    """Bound what is built in the block by the size of the file that asks for it.

    There RuntimeError is raised before tensors are made that are too large. What a function of somebody's
    (`module:function`) makes is not bounded: it is code.
    """
    return nullcontext() if is_function(model) else _Bounded(_SMALL + _MOST_TIMES * file_bytes)


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors, and looks at feature maps before they are computed."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = most
        self._taken = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self._check(_FLOAT * _map_size(*args[:7]), _WIDE + self._most, "a feature map")
        elif args and isinstance(args[0], list | tuple) and all(type(size) is int for size in args[0]):
            self._taken += _FLOAT * math.prod(args[0])
            self._check(self._taken, self._most, "a network")
        return func(*args, **(kwargs or {}))

    def _check(self, size: int, most: int, what: str) -> None:
        if size > most:
            raise RuntimeError(
                f"it names {what} of {size / 2**20:,.0f} MiB or more, its size allows {most / 2**20:,.0f} MiB"
            )


def _map_size(
    images: torch.Tensor,
    weight: torch.Tensor,
    _bias: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
) -> int:
    """How many numbers a convolution gives; transposed ones are taken as they come."""
    if transposed:
        return 0
    sides = zip(images.shape[2:], weight.shape[2:], padding, dilation, stride, strict=False)
    lengths = [
        (side + 2 * pad - step * (kernel - 1) - 1) // jump + 1 for side, kernel, pad, step, jump in sides
    ]
    return images.shape[0] * weight.shape[0] * math.prod(lengths)
