"""Measured latency of a network against its uncompressed baseline, in torch and in onnxruntime."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import run_until
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.onnx import export_onnx, onnx_session, run_parts
from ordercomp.shipping.plain import ShippedNetwork, ship


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median milliseconds of one call, all exits computed, one thread."""

    engine: str  # torch or onnxruntime
    batch: int
    baseline_ms: float
    compressed_ms: float

    @property
    def speedup(self) -> float:
        """How many times faster the compressed network is."""
        return self.baseline_ms / self.compressed_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Latencies, and what bit operations promised."""

    latencies: tuple[Latency, ...]
    exits_ms: dict[str, tuple[float, ...]]  # by engine: one image that leaves at exit 1, 2, …, last
    bitops_cr: float
    sentence: str

    def expected_ms(self, engine: str, shares: Sequence[float]) -> float:
        """Milliseconds of an image if `shares` of the images leave at each exit."""
        return sum(share * ms for share, ms in zip(shares, self.exits_ms[engine], strict=True))


def bench(network: CompressedNetwork, *, repeats: int = 15, batches: Sequence[int] = (1, 64)) -> Bench:
    """Measure a network and a fresh one of the same architecture, one thread each.

    Raises ValueError if a network cannot be exported.
    """
    architecture = network.architecture
    dense = CompressedNetwork.create(
        architecture.model,
        classes=architecture.classes,
        channels=architecture.channels,
        size=architecture.size,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        latencies = [
            *_latencies("torch", _run_torch, [ship(dense), ship(network)], network, batches, repeats),
            *_latencies(
                "onnxruntime",
                _run_onnx,
                [_sessions(dense)[0], _sessions(network)[0]],
                network,
                batches,
                repeats,
            ),
        ]
        image = architecture.example(1)
        exits = {"torch": _torch_exits(ship(network), image, repeats)}
        if network.exits:
            exits["onnxruntime"] = _onnx_exits(_sessions(network, segments=True), image, repeats)
    finally:
        torch.set_num_threads(threads)
    bitops_cr = measure_cost(dense).bitops() / measure_cost(network).bitops()
    best = max(latency.speedup for latency in latencies)
    return Bench(
        latencies=tuple(latencies), exits_ms=exits, bitops_cr=bitops_cr, sentence=_sentence(bitops_cr, best)
    )


def _sentence(bitops_cr: float, best: float) -> str:
    if best >= bitops_cr / 2:
        return f"{bitops_cr:.3g} times fewer bit operations are up to {best:.3g} times faster here."
    return (
        f"{bitops_cr:.3g} times fewer bit operations promise more than this hardware gives: at most "
        f"{best:.3g} times faster here, since both engines multiply in 32-bit floats. "
        "Fewer bits still make the file smaller."
    )


def _latencies(
    engine: str,
    prepare: Callable[[Any, Tensor], Callable[[], object]],
    pair: Sequence[Any],
    network: CompressedNetwork,
    batches: Sequence[int],
    repeats: int,
) -> list[Latency]:
    """Times of the baseline and the compressed network, the `pair`, as an engine runs them."""
    latencies = []
    for batch in batches:
        images = network.architecture.example(batch)
        dense_ms, small_ms = (_median_ms(prepare(one, images), repeats, batch) for one in pair)
        latencies.append(Latency(engine=engine, batch=batch, baseline_ms=dense_ms, compressed_ms=small_ms))
    return latencies


def _run_torch(module: ShippedNetwork, images: Tensor) -> Callable[[], object]:
    return partial(module, images.contiguous(memory_format=torch.channels_last))


def _run_onnx(session: InferenceSession, images: Tensor) -> Callable[[], object]:
    return partial(session.run, None, {"image": images.numpy()})


def _sessions(network: CompressedNetwork, *, segments: bool = False) -> list[InferenceSession]:
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        exported = export_onnx(network, Path(folder) / "network.onnx", segments=segments)
        return [onnx_session(file.read_bytes()) for file in exported.files]


def _torch_exits(shipped: ShippedNetwork, image: Tensor, repeats: int) -> tuple[float, ...]:
    def until(last: int) -> Callable[[], object]:
        return lambda: run_until(
            shipped.network, shipped.normalize(image), lambda place, _logits: place == last
        )

    exits = len(shipped.network.split_points) + 1
    return tuple(_median_ms(until(place), repeats, 1) for place in range(exits))


def _onnx_exits(parts: Sequence[InferenceSession], image: Tensor, repeats: int) -> tuple[float, ...]:
    runs = [partial(run_parts, parts, image.numpy(), last=last) for last in range(len(parts))]
    return tuple(_median_ms(run, repeats, 1) for run in runs)


def _median_ms(run: Callable[[], object], repeats: int, batch: int) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(3 if batch == 1 else 1):
            run()
        for _ in range(repeats if batch == 1 else max(3, repeats // 5)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
