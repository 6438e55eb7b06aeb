"""Bit widths of single layers: more for those whose rounding changes the outputs more, within a budget."""

import heapq
from collections import Counter

import torch
from torch import Tensor

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.layers import FLOAT_BITS, MOST_LEVEL_BITS, QuantizedLayer
from ordercomp.networks.network import CompressedNetwork


def allocate_bits(network: CompressedNetwork, images: Tensor) -> dict[str, int]:
    """Give each quantized layer weight bits of its own, in place, and return them by name.

    All layers start at one bit. The one that gains most for each bit gets one more, as long as neither the
    mean over all weights nor that over all multiplications exceeds the network's nominal bits. What a layer
    gains is how much less the outputs (mean square, all exits) for `images`, shape (n, c, h, w), differ from
    those in float when it alone is rounded.
    """
    assert network.bits is not None
    layers = dict(network.quantized_layers())
    shares, budget = _shares(network, layers), float(network.bits.weights)
    errors = _errors(network, images)
    bits = dict.fromkeys(layers, 1)
    spent = [1.0, 1.0]

    def gain(name: str) -> float:
        return (errors[name][bits[name] - 1] - errors[name][bits[name]]) / max(*shares[name], 1e-12)

    waiting = [(-gain(name), place, name) for place, name in enumerate(layers)]
    heapq.heapify(waiting)
    while waiting:
        _, place, name = heapq.heappop(waiting)
        raised = [before + share for before, share in zip(spent, shares[name], strict=True)]
        if max(raised) > budget + 1e-9:
            continue  # what does not fit now never will
        spent, bits[name] = raised, bits[name] + 1
        if bits[name] < MOST_LEVEL_BITS:
            heapq.heappush(waiting, (-gain(name), place, name))
    for name, layer in layers.items():
        layer.set_bits(bits[name], layer.activation_bits)
    return {name.removeprefix("body."): width for name, width in bits.items()}


def _shares(network: CompressedNetwork, layers: dict[str, QuantizedLayer]) -> dict[str, tuple[float, float]]:
    """Each layer's share of the quantized weights, and of the multiplications."""
    weights: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    for layer in measure_cost(network).layers:
        if layer.name in layers:
            weights[layer.name] += layer.weights
            macs[layer.name] += layer.macs
    all_weights, all_macs = max(weights.total(), 1), max(macs.total(), 1)
    return {name: (weights[name] / all_weights, macs[name] / all_macs) for name in layers}


@torch.no_grad()
def _errors(network: CompressedNetwork, images: Tensor) -> dict[str, list[float]]:
    """By layer, what the outputs change when it alone has weights of 1, 2, … 8 bits; never rising."""
    twin = network.copy()
    twin.module.eval()
    layers = dict(twin.quantized_layers())
    for layer in layers.values():
        layer.set_bits(FLOAT_BITS, FLOAT_BITS)
    wanted = torch.stack(twin.module(images))
    errors: dict[str, list[float]] = {}
    for name, layer in layers.items():
        found: list[float] = []
        for width in range(1, MOST_LEVEL_BITS + 1):
            layer.set_bits(width, FLOAT_BITS)
            error = float((torch.stack(twin.module(images)) - wanted).square().mean())
            found.append(min([error, *found]))
        layer.set_bits(FLOAT_BITS, FLOAT_BITS)
        errors[name] = found
    return errors
