"""Where and in which precision to train."""

import pytest
import torch
from tiny_networks import snapshot, tiny_network

from ordercomp.training.device import choose_device, describe_hardware, probe_precision


def test_the_cpu_is_chosen_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")


def test_hardware_is_described_in_a_line() -> None:
    text = describe_hardware(torch.device("cpu"))
    assert " CPU, " in text
    assert f", {torch.get_num_threads()} thread(s)" in text
    assert "\n" not in text


def test_the_probe_compares_both_precisions_and_leaves_the_network_alone() -> None:
    network = tiny_network()
    before = snapshot(network)
    found = probe_precision(network, batch_size=8, seconds=0.05)
    assert found.precision == ("bfloat16" if found.speedup > 1.1 else "float32")
    assert found.speedup > 0
    after = network.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before["tensors"].items())
