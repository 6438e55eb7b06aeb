"""Forms in which weights are stored: where those that are not zero stand, and a table of shared values."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ordercomp.networks.layers import FLOAT_BITS

Numbers = npt.NDArray[np.int64]
MOST_GAP_BITS = 16


@dataclass(frozen=True, slots=True)
class Form:
    """How many numbers a weight tensor is stored as."""

    size: int  # weights, zeros included
    kept: int  # weights that are stored
    places: int = 0  # bits that tell where these stand; 0 if all are stored
    values: int = 0  # in a table of shared values; 0 if there is none

    def bits(self, width: int) -> int:
        """Bits of storage if a weight by itself takes `width`; never more than all of them one by one."""
        index = index_bits(self.values) if self.values else width
        shared = self.kept * index + self.values * FLOAT_BITS
        return min(self.size * width, self.places + min(self.kept * width, shared))


def form_of(weight: Tensor, *, sparse: bool, shared: bool) -> Form:
    """The form of a layer's weights: without the zeros if it is `sparse`, with a table if it is `shared`."""
    flat = weight.detach().flatten()
    kept = flat[flat != 0] if sparse else flat
    return Form(
        size=flat.numel(),
        kept=kept.numel(),
        places=places_bits(flat != 0) if sparse else 0,
        values=len(torch.unique(kept)) if shared else 0,
    )


def index_bits(values: int) -> int:
    """Bits of a number that tells one of so many values."""
    return max(1, math.ceil(math.log2(values)))


def places_bits(mask: Tensor) -> int:
    """Bits that tell which of the flat `mask` are true: a bit for each, or the gaps between them."""
    gaps = _gaps(mask)
    return min(mask.numel(), *(gap_count(gaps, bits) * bits for bits in range(1, MOST_GAP_BITS + 1)))


def gap_count(gaps: Numbers, bits: int) -> int:
    """Numbers of `bits` that gaps take (Han et al. 2016): the largest one only moves on by as much."""
    return len(gaps) + int((gaps // (2**bits - 1)).sum())


def _gaps(mask: Tensor) -> Numbers:
    """Numbers of false entries before each true one, shape (true entries,)."""
    places = np.flatnonzero(mask.cpu().numpy())
    return np.diff(places, prepend=-1) - 1


def encode_gaps(mask: Tensor) -> tuple[Numbers, int]:
    """The gaps of a mask as numbers of the width, 1 to 16 bits, that makes them shortest, and that width."""
    gaps = _gaps(mask)
    bits = min(range(1, MOST_GAP_BITS + 1), key=lambda bits: gap_count(gaps, bits) * bits)
    most = 2**bits - 1
    numbers = np.full(gap_count(gaps, bits), most)
    numbers[np.cumsum(gaps // most + 1) - 1] = gaps % most
    return numbers, bits


def decode_gaps(numbers: Numbers, bits: int, size: int) -> Tensor:
    """The mask, shape (size,), that `encode_gaps` told. Raises ValueError if it is longer."""
    most = 2**bits - 1
    ends = np.cumsum(numbers + (numbers < most))
    if len(ends) and ends[-1] > size:
        raise ValueError(f"gaps reach to {ends[-1]} of {size} weights")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.from_numpy(ends[numbers < most] - 1)] = True
    return mask
