"""Networks as small files for use: quantized weights take their bits and one range, nothing else is kept.

Such a file holds what it takes to compute, not how the network came about, nor the latent weights that
training goes on from: `CompressedNetwork.save` keeps those. Weights that U made sparse or W let share values
are stored in the form of `networks.stored`, and all weights as one coded stream if H came last.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ordercomp.codec import decode, encode
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.networks.bits import pack_bits, unpack_bits
from ordercomp.networks.constraints import is_shared, is_sparse, weight_layers
from ordercomp.networks.exits import Architecture, MultiExit, channels_last
from ordercomp.networks.layers import (
    FLOAT_BITS,
    QuantizedLayer,
    levels_of,
    weight_numbers,
    weight_of_numbers,
)
from ordercomp.networks.network import (
    UNFIT,
    CompressedNetwork,
    Serving,
    architecture_in,
    assemble,
    describe,
)
from ordercomp.networks.stored import (
    MOST_BITS,
    PARTS,
    Stored,
    array_sizes,
    code_weights,
    decode_weights,
    restore_weight,
    store_weight,
    stored_facts,
)
from ordercomp.networks.weights import CheckpointError, bounded, read_checkpoint, write_checkpoint
from ordercomp.shipping.plain import ShippedNetwork, plain_module, ship

CODED = "coded"  # the name of the stream of all weights
_RANGE = ".range"  # what the name of a packed weight's range ends with
_UNUSED = ".num_batches_tracked"  # counts batches of training


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
    return torch.from_numpy(pack_bits(flat, bits))


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The numbers that `pack` packed, float32, of that shape. Raises ValueError if the bytes do not fit."""
    _check_bits(bits)
    count = math.prod(shape)
    if packed.dtype != torch.uint8 or tuple(packed.shape) != (-(-count * bits // 8),):
        raise ValueError(
            f"{count} numbers of {bits} bits must be packed into {-(-count * bits // 8)} bytes, "
            f"got {tuple(packed.shape)} of {packed.dtype}"
        )
    numbers = unpack_bits(packed.numpy(), bits, count)
    return torch.from_numpy(numbers.astype(np.float32).reshape(shape))


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits must lie in 1 to {MOST_BITS}, got {bits}")


def save_packed(network: CompressedNetwork, path: Path | str) -> None:
    """Write a network for use, replacing an older file at once. Raises OSError.

    Weights of up to 16 bits are packed; weights of more bits and everything else are stored as they are. A
    tensor that stands in several places is stored once.
    """
    module = network.module
    layers = {f"{name}.weight": layer for name, layer in weight_layers(module)}
    formed = layers
    if not network.coded:
        formed = {name: layer for name, layer in layers.items() if is_sparse(layer) or is_shared(layer)}
    bits = {
        name: layer.weight_bits
        for name, layer in layers.items()
        if name not in formed and isinstance(layer, QuantizedLayer) and layer.weight_bits <= MOST_BITS
    }
    stored: dict[str, Stored] = {}
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name.endswith(_UNUSED):
            continue
        if id(tensor) in first:
            same[name] = first[id(tensor)]
            continue
        first[id(tensor)] = name
        if name in formed:
            stored[name] = store_weight(formed[name])
        elif name in bits:
            numbers, tensors[name + _RANGE] = weight_numbers(tensor, bits[name], levels_of(layers[name]))
            tensors[name] = pack(numbers, bits[name])
        else:
            tensors[name] = tensor
    tensors |= {CODED: code_weights(stored)} if network.coded else _formed_tensors(stored)
    structure = describe(module, network.dropped, network.rebuilt)
    structure["shapes"] = {name: structure["shapes"][name] for name in bits}
    facts = {
        "architecture": encode(network.architecture),
        "structure": structure,
        "packed": bits,
        **({"forms": {name: stored_facts(weight) for name, weight in stored.items()}} if stored else {}),
        "same": same,
        "serving": encode(network.serving),
    }
    write_checkpoint(Path(path), tensors, facts)


def _formed_tensors(weights: Mapping[str, Stored]) -> dict[str, Tensor]:
    """The arrays of stored weights, each packed at its width, and their floats."""
    tensors: dict[str, Tensor] = {}
    for name, stored in weights.items():
        for part, numbers in stored.numbers.items():
            tensors[f"{name}.{part}"] = torch.from_numpy(pack_bits(numbers, stored.widths[part]))
        tensors |= {f"{name}.{part}": values for part, values in stored.floats.items()}
    return tensors


def _formed_weights(forms: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of what `_formed_tensors` or a coded stream holds."""
    torch.empty(sum(array_sizes(forms)))  # refused here if it is more than the file may ask for
    if CODED in tensors:
        decoded = decode_weights(tensors[CODED], forms)
        return {name: restore_weight(stored) for name, stored in decoded.items()}
    weights: dict[str, Tensor] = {}
    for name, facts in forms.items():
        parts = {part: tensors[f"{name}.{part}"] for part in PARTS if part in facts}
        numbers = {
            part: unpack_bits(parts.pop(part).numpy(), facts[part][1], facts[part][0])
            for part in PARTS
            if part in parts and facts[part][1] < FLOAT_BITS
        }
        weights[name] = restore_weight(Stored(facts, numbers, parts))
    return weights


def load_network(
    path: Path | str, *, model: str | None = None, trust: Collection[str] = ()
) -> ShippedNetwork:
    """Read a network for use, on the CPU: from a packed file or from one that `CompressedNetwork.save` wrote.

    Its logits are those of the network that was saved, bit for bit. `CompressedNetwork.load` says what
    `model` and `trust` allow, and what is raised.
    """
    tensors, facts = read_checkpoint(Path(path))
    if "packed" not in facts:
        return ship(CompressedNetwork.load(path, model=model, trust=trust))
    try:
        architecture = architecture_in(facts, model=model, trust=trust)
        serving = decode(facts["serving"], Serving, "serving", strict=False)
        with bounded(architecture.model, Path(path).stat().st_size):
            module = _assembled(architecture, facts, tensors)
    except UNFIT as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{path} does not fit the model it names: {one_line(error)}") from None
    return ShippedNetwork(module, serving=serving, shape=(architecture.channels, *architecture.size))


def _assembled(
    architecture: Architecture, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> MultiExit:
    """The plain module. Sizes are checked against the bytes before anything is built."""
    structure, packed = facts["structure"], facts["packed"]
    parts = {CODED, *(f"{name}.{part}" for name in facts.get("forms", {}) for part in PARTS)}
    values = {
        name: tensor for name, tensor in tensors.items() if not name.endswith(_RANGE) and name not in parts
    }
    for name, bits in packed.items():
        if name in values:
            numbers = unpack(tensors[name], bits, tuple(structure["shapes"][name]))
            levels = structure["quantized"][name.removesuffix(".weight")][3:]  # levels that are not uniform
            values[name] = weight_of_numbers(numbers, tensors[name + _RANGE], bits, *levels)
    formed = _formed_weights(facts.get("forms", {}), tensors)
    values |= formed
    values |= {name: values[other] for name, other in facts["same"].items()}
    shapes: dict[str, list[int]] = defaultdict(list)  # what is not stored is a single number
    shapes |= {name: list(tensor.shape) for name, tensor in values.items()}
    with torch.random.fork_rng(devices=[]):  # the factory's weights are replaced at once
        module = assemble(architecture, {**structure, "shapes": shapes})
    missing = [name for name in module.state_dict() if name not in values and not name.endswith(_UNUSED)]
    if missing or set(values) - set(module.state_dict()):
        raise RuntimeError(f"it lacks {missing}" if missing else "it holds tensors that are not the model's")
    module.load_state_dict(values, strict=False)
    weights = {name.removesuffix(".weight"): values[name] for name in [*packed, *formed]}
    return channels_last(plain_module(module, weights))


def copy_with_threshold(
    source: Path, target: Path, threshold: float | None, skip: float | None = None
) -> None:
    """Copy a network file and store the threshold in the copy, which replaces an older file at once.

    So is the share of the images that `skip` a block with a gate, unless it is None. Nothing is built for it.
    Raises CheckpointError for a damaged file, OSError if it cannot be written.
    """
    tensors, facts = read_checkpoint(source)
    serving = decode(facts.get("serving", {}), Serving, "serving", strict=False)
    facts = {**facts, "serving": encode(replace(serving, threshold=threshold))}
    if skip is not None:
        rebuilt = [
            [stage, name, {**own, "skip": skip} if stage == "S" else own]
            for stage, name, own in facts["structure"]["rebuilt"]
        ]
        facts["structure"] = {**facts["structure"], "rebuilt": rebuilt}
    write_checkpoint(target, tensors, facts)
