"""Latency grows with the exit, and measuring leaves the network as it was."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ordercomp.measuring.latency import exit_latencies
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained


def test_a_later_exit_takes_longer_and_the_network_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = CompressedNetwork.create("resnet20(width=16)", classes=10, channels=1, size=(32, 32))
    network = apply_untrained(plain, StageSequence.parse("Q(weights=2,activations=4) E(exits=2)"))
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    bits = [(layer.weight_bits, layer.activation_bits) for _, layer in network.quantized_layers()]

    layers: list[str] = []  # the clock: a second for every layer that ran, whatever the load
    monkeypatch.setattr("ordercomp.measuring.latency.time.perf_counter", lambda: float(len(layers)))

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        layers.append(type(module).__name__)

    hook = register_module_forward_hook(note)
    times = exit_latencies(network, repeats=9)
    hook.remove()

    assert len(times) == 3
    assert 0 < times[0] < times[1] < times[2]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())
    assert bits == [(layer.weight_bits, layer.activation_bits) for _, layer in network.quantized_layers()]


def test_a_network_without_exits_has_one_latency() -> None:
    network = CompressedNetwork.create("resnet8(width=8)", classes=10, channels=1, size=(8, 8))
    assert len(exit_latencies(network, repeats=3)) == 1
