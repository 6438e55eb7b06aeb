"""Weights as whole numbers and a few floats, as they are stored, and as one entropy-coded stream.

A quantized weight is the number of its level, a shared one that of its value in a table. Where the weights
that are not zero stand is told by gaps or by a bit for each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ordercomp.networks.bits import MOST_CODED_BITS, decode, encode
from ordercomp.networks.constraints import Layer, is_shared, is_sparse, weight_layers
from ordercomp.networks.layers import (
    FLOAT_BITS,
    Levels,
    QuantizedLayer,
    levels_of,
    weight_numbers,
    weight_of_numbers,
)

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


MOST_BITS = 16  # wider weights are stored as floats
PARTS = ("index", "places", "range", "table", "values")  # arrays of a weight, in the order of a stream


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight tensor: arrays of whole numbers with their widths, floats, and how to put them together."""

    facts: Mapping[str, Any]  # as JSON can hold them
    numbers: Mapping[str, Numbers] = field(default_factory=dict)  # "index" and "places"
    floats: Mapping[str, Tensor] = field(default_factory=dict)  # "range", "table" or "values"

    @property
    def widths(self) -> dict[str, int]:
        """Bits of a number of each array."""
        return {name: int(self.facts[name][1]) for name in self.numbers}


def store_weight(layer: Layer) -> Stored:
    """The weights of a layer as it multiplies by them, without what quantizers and masks make superfluous."""
    weight = layer.weight.detach().cpu()
    bits = layer.weight_bits if isinstance(layer, QuantizedLayer) and layer.weight_bits <= MOST_BITS else 0
    kind: Levels = levels_of(layer)
    facts: dict[str, Any] = {"shape": list(weight.shape)}
    numbers: dict[str, Numbers] = {}

    def add(name: str, values: Numbers, width: int) -> None:
        numbers[name], facts[name] = values, [len(values), width]

    kept = layer.rounded_weight() if isinstance(layer, QuantizedLayer) else weight
    kept = kept.detach().cpu().flatten()
    levels, top = weight_numbers(weight, bits, kind) if bits else (weight, weight)
    levels = levels.flatten()
    if is_sparse(layer):
        mask = weight.flatten() != 0
        kept, levels = kept[mask], levels[mask]
        top = kept.abs().amax() if bits == 1 else top
        gaps, width = encode_gaps(mask)
        short = len(gaps) * width < len(mask)
        add("places", gaps if short else mask.numpy().astype(np.int64), width if short else 1)
        facts["gaps"] = short
    if is_shared(layer):
        table, index = torch.unique(kept, return_inverse=True)
        if not bits or index_bits(len(table)) < bits:
            add("index", index.numpy(), index_bits(len(table)))
            return Stored(facts, numbers, {"table": table})
    if not bits:
        return Stored(facts, numbers, {"values": kept})
    add("index", levels.numpy().astype(np.int64), bits)
    return Stored({**facts, "bits": bits, "levels": kind}, numbers, {"range": top.reshape(1)})


def restore_weight(stored: Stored) -> Tensor:
    """The weights that `store_weight` stored, bit for bit. Raises ValueError if the parts do not fit."""
    facts, numbers, floats = stored.facts, stored.numbers, stored.floats
    shape = tuple(facts["shape"])
    if "values" in floats:
        kept = floats["values"]
    elif "table" in floats:
        kept = floats["table"][torch.from_numpy(numbers["index"])]
    else:
        levels = torch.from_numpy(numbers["index"].astype(np.float32))
        kept = weight_of_numbers(levels, floats["range"].reshape(()), int(facts["bits"]), facts["levels"])
    if "places" not in numbers:
        return kept.reshape(shape)
    places, size = numbers["places"], math.prod(shape)
    mask = (
        decode_gaps(places, int(facts["places"][1]), size) if facts["gaps"] else torch.from_numpy(places != 0)
    )
    weight = torch.zeros(size)
    weight[mask] = kept
    return weight.reshape(shape)


# All weights of a network as one entropy-coded stream


def code_weights(weights: Mapping[str, Stored]) -> Tensor:
    """One stream of bytes for the weights, by name: numbers and floats in planes of at most 8 bits."""
    planes = [plane for stored in weights.values() for plane in _planes(stored)]
    return torch.from_numpy(encode([values for values, _ in planes], [width for _, width in planes]))


def decode_weights(stream: Tensor, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Stored]:
    """The weights of a stream, given their facts. Raises ValueError if it does not fit these."""
    layout = [
        (name, part, count, width)
        for name, own in facts.items()
        for part, (count, width) in _parts(own).items()
    ]
    cuts = [(count, _cut_widths(width)) for _, _, count, width in layout]
    arrays = iter(
        decode(
            stream.numpy(),
            [count for count, widths in cuts for _ in widths],
            [width for _, widths in cuts for width in widths],
        )
    )
    weights: dict[str, Stored] = {name: Stored(own, {}, {}) for name, own in facts.items()}
    for (name, part, _, width), (count, widths) in zip(layout, cuts, strict=True):
        whole = np.zeros(count, dtype=np.int64)
        for place in range(len(widths)):
            whole |= next(arrays) << (place * MOST_CODED_BITS)
        stored = weights[name]
        if width == FLOAT_BITS:
            weights[name] = Stored(stored.facts, stored.numbers, {**stored.floats, part: _floats(whole)})
        else:
            weights[name] = Stored(stored.facts, {**stored.numbers, part: whole}, stored.floats)
    return weights


def coded_bits(module: nn.Module) -> int:
    """Bits of the stream of all weights of a module's convolutions and linear layers, each once."""
    alone = {id(layer.weight): layer for _, layer in weight_layers(module)}
    return 8 * len(
        code_weights({str(place): store_weight(layer) for place, layer in enumerate(alone.values())})
    )


def array_sizes(weights: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Lengths of the arrays that weights of these facts are made of, and of the weights themselves."""
    arrays = [count for facts in weights.values() for count, _ in _parts(facts).values()]
    return [*arrays, *(math.prod(facts["shape"]) for facts in weights.values())]


def stored_facts(stored: Stored) -> dict[str, Any]:
    """What must be known of a weight to read its arrays."""
    return {**stored.facts, **{name: [values.numel(), FLOAT_BITS] for name, values in stored.floats.items()}}


def _parts(facts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Count and width of each array, in the order in which they are coded."""
    return {name: (int(facts[name][0]), int(facts[name][1])) for name in PARTS if name in facts}


def _planes(stored: Stored) -> list[tuple[Numbers, int]]:
    planes: list[tuple[Numbers, int]] = []
    for name, (_, width) in _parts(stored_facts(stored)).items():
        whole = stored.numbers[name] if width < FLOAT_BITS else _words(stored.floats[name])
        for place, part in enumerate(_cut_widths(width)):
            planes.append(((whole >> (place * MOST_CODED_BITS)) & (2**part - 1), part))
    return planes


def _cut_widths(width: int) -> list[int]:
    """Widths of the planes of a number, the lowest first."""
    whole, rest = divmod(width, MOST_CODED_BITS)
    return [MOST_CODED_BITS] * whole + ([rest] if rest else [])


def _words(values: Tensor) -> Numbers:
    """Floats as numbers of 32 bits, the sign last, so that the exponent is a plane of its own."""
    words = values.detach().cpu().float().contiguous().numpy().reshape(-1).view(np.uint32).astype(np.int64)
    return ((words << 1) & 0xFFFFFFFF) | (words >> 31)


def _floats(words: Numbers) -> Tensor:
    turned = ((words >> 1) | ((words & 1) << 31)).astype(np.uint32)
    return torch.from_numpy(turned.view(np.float32).copy())
