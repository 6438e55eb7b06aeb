"""Whole numbers of few bits in as few bytes: 2-bit weights take a quarter of a byte each."""

import numpy as np
import torch
from torch import Tensor

MOST_BITS = 16  # wider weights are better kept as they are


def pack(numbers: Tensor, bits: int) -> Tensor:
    """Pack whole numbers 0 … 2^bits - 1 of any shape and dtype into bytes, shape (⌈n · bits / 8⌉,).

    Numbers follow one another in row-major order, lowest bit first. Raises ValueError for numbers out of
    range or bits not in 1 … 16.
    """
    _check_bits(bits)
    flat = numbers.detach().cpu().contiguous().numpy().reshape(-1).astype(np.int64)
    if len(flat) and not (flat.min() >= 0 and flat.max() < 2**bits):
        raise ValueError(
            f"numbers must lie in 0 to {2**bits - 1} to take {bits} bits, got {flat.min()} to {flat.max()}"
        )
    stream = (flat[:, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little"))


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The numbers that `pack` packed, float32, of that shape. Raises ValueError if the bytes do not fit."""
    _check_bits(bits)
    count = int(np.prod(shape, dtype=np.int64))
    if packed.dtype != torch.uint8 or tuple(packed.shape) != (-(-count * bits // 8),):
        raise ValueError(
            f"{count} numbers of {bits} bits must be packed into {-(-count * bits // 8)} bytes, "
            f"got {tuple(packed.shape)} of {packed.dtype}"
        )
    stream = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    numbers = np.zeros(count, dtype=np.float32)
    for place in range(bits):
        numbers += stream[:, place] * np.float32(2**place)
    return torch.from_numpy(numbers.reshape(shape))


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits must lie in 1 to {MOST_BITS}, got {bits}")
