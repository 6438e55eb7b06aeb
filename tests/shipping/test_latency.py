"""Latency is that of the exported network in onnxruntime, beside its baseline, and it grows with the exit."""

import os
import time

import pytest
import torch
from tiny_networks import apply, tiny_network

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

from ordercomp.measuring.accuracy import ExitLatencies
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping import latency
from ordercomp.shipping.latency import exit_latencies, median_times


def test_a_point_tells_what_its_shares_make_of_the_exits() -> None:
    found = ExitLatencies(exits_ms=(0.2, 0.6), baseline_ms=0.8)
    assert found.at((0.5, 0.5)) == {"latency_ms": 0.4, "latency_cr": 2.0}


@pytest.mark.skipif(os.name != "posix", reason="the clock's time is told there")
def test_time_that_the_processor_spends_elsewhere_is_left_out() -> None:
    runs = {"waits": lambda: time.sleep(0.001), "computes": lambda: sum(range(10_000))}
    alone, together = (median_times(runs, 3, 1, threads=threads) for threads in (1, 2))
    assert alone["waits"] < alone["computes"]
    assert together["waits"] >= 1.0


@pytest.mark.integration
def test_the_exported_network_is_measured_and_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network = apply("E", apply("Q", tiny_network(), weights=4, activations=8))
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    runs: list[str] = []  # the clock: a second for every session that ran, whatever the load

    def run(sessions: list[object], image: object, *, last: int | None = None) -> None:
        runs.extend("session" for _ in sessions[: None if last is None else last + 1])

    monkeypatch.setattr(latency, "run_parts", run)
    monkeypatch.setattr("ordercomp.shipping.latency.time.process_time", lambda: float(len(runs)))
    found = exit_latencies(network, seconds=0.01)
    places = len(network.exits) + 1
    assert found.exits_ms == tuple(1000.0 * place for place in range(1, places + 1))
    assert found.baseline_ms == 1000.0
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())


@pytest.mark.integration
def test_a_network_that_cannot_be_exported_has_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("logits\ndiffer")

    monkeypatch.setattr(latency, "export_onnx", refuse)
    with pytest.raises(ValueError, match="no latency without an export, which failed: logits differ"):
        exit_latencies(tiny_network())


@pytest.mark.integration
def test_a_baseline_takes_the_same_images() -> None:
    network: CompressedNetwork = tiny_network()
    assert exit_latencies(network, seconds=0.01).baseline_ms > 0
