"""Networks as small files for use: quantized weights take their bits and one range, nothing else is kept.

Such a file holds what it takes to compute, not how the network came about, nor the latent weights that
training goes on from: `CompressedNetwork.save` keeps those.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ordercomp.networks.exits import Architecture, MultiExit, channels_last
from ordercomp.networks.layers import weight_numbers, weight_of_numbers
from ordercomp.networks.network import CompressedNetwork, Serving, assemble, describe
from ordercomp.networks.weights import CheckpointError, read_checkpoint, write_checkpoint
from ordercomp.shipping.packing import MOST_BITS, pack, unpack
from ordercomp.shipping.plain import plain_module
from ordercomp.shipping.shipped import ShippedNetwork, ship

_RANGE = ".range"  # what the name of a packed weight's range ends with
_UNUSED = ".num_batches_tracked"  # counts batches of training


def save_packed(network: CompressedNetwork, path: Path | str) -> None:
    """Write a network for use, replacing an older file at once. Raises OSError.

    Weights of up to 16 bits are packed; weights of more bits and everything else are stored as they are. A
    tensor that stands in several places is stored once.
    """
    module = network.module
    bits = {
        f"{name}.weight": layer.weight_bits
        for name, layer in module.named_modules(remove_duplicate=False)
        if name in dict(network.quantized_layers()) and layer.weight_bits <= MOST_BITS
    }
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
        if name in bits:
            numbers, tensors[name + _RANGE] = weight_numbers(tensor, bits[name])
            tensors[name] = pack(numbers, bits[name])
        else:
            tensors[name] = tensor
    structure = describe(module, network.dropped, network.rebuilt)
    structure["shapes"] = {name: structure["shapes"][name] for name in bits}
    facts = {
        "architecture": network.architecture.to_facts(),
        "structure": structure,
        "packed": bits,
        "same": same,
        "serving": network.serving.to_facts(),
    }
    write_checkpoint(Path(path), tensors, facts)


def load_network(path: Path | str) -> ShippedNetwork:
    """Read a network for use, on the CPU: from a packed file or from one that `CompressedNetwork.save` wrote.

    Its logits are those of the network that was saved, bit for bit. Loading calls the factory that the file
    names: load files only from people whose code you would run.
    Raises CheckpointError (a ValueError) for a damaged or foreign file, FileNotFoundError for a missing one.
    """
    tensors, facts = read_checkpoint(Path(path))
    if "packed" not in facts:
        return ship(CompressedNetwork.load(path))
    try:
        architecture = Architecture.from_facts(facts["architecture"])
        serving = Serving.from_facts(facts["serving"])
        module = _assembled(architecture, facts, tensors)
    except (KeyError, TypeError, IndexError, RuntimeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path} does not fit the model it names: {reason}") from None
    return ShippedNetwork(module, serving=serving, shape=(architecture.channels, *architecture.size))


def _assembled(
    architecture: Architecture, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> MultiExit:
    """The plain module. Sizes are checked against the bytes before anything is built."""
    structure, packed = facts["structure"], facts["packed"]
    values = {name: tensor for name, tensor in tensors.items() if not name.endswith(_RANGE)}
    for name, bits in packed.items():
        if name in values:
            numbers = unpack(tensors[name], bits, tuple(structure["shapes"][name]))
            values[name] = weight_of_numbers(numbers, tensors[name + _RANGE], bits)
    values |= {name: values[other] for name, other in facts["same"].items()}
    shapes: dict[str, list[int]] = defaultdict(list)  # what is not stored is a single number
    shapes |= {name: list(tensor.shape) for name, tensor in values.items()}
    with torch.random.fork_rng(devices=[]):  # the factory's weights are replaced at once
        module = assemble(architecture, {**structure, "shapes": shapes})
    missing = [name for name in module.state_dict() if name not in values and not name.endswith(_UNUSED)]
    if missing or set(values) - set(module.state_dict()):
        raise RuntimeError(f"it lacks {missing}" if missing else "it holds tensors that are not the model's")
    module.load_state_dict(values, strict=False)
    weights = {name.removesuffix(".weight"): values[name] for name in packed}
    return channels_last(plain_module(module, weights))
