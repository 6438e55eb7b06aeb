"""Measured latency of a network against its uncompressed baseline, in torch and in onnxruntime."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
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
            *_torch(ship(dense), ship(network), network, batches, repeats),
            *_onnx(dense, network, batches, repeats),
        ]
        image = architecture.example(1)
        exits = {"torch": _torch_exits(ship(network), image, repeats)}
        if network.exits:
            exits["onnxruntime"] = _onnx_exits(network, image, repeats)
    finally:
        torch.set_num_threads(threads)
    bitops_cr = measure_cost(dense).bitops() / measure_cost(network).bitops()
    best = max(one.speedup for one in latencies)
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


def _torch(
    dense: ShippedNetwork,
    small: ShippedNetwork,
    network: CompressedNetwork,
    batches: Sequence[int],
    repeats: int,
) -> list[Latency]:
    found = []
    for batch in batches:
        images = network.architecture.example(batch).contiguous(memory_format=torch.channels_last)
        one, other = (
            _median_ms(lambda module=module, images=images: module(images), repeats, batch)  # type: ignore[misc]
            for module in (dense, small)
        )
        found.append(Latency(engine="torch", batch=batch, baseline_ms=one, compressed_ms=other))
    return found


def _onnx(
    dense: CompressedNetwork, network: CompressedNetwork, batches: Sequence[int], repeats: int
) -> list[Latency]:
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        path = Path(folder) / "network.onnx"
        sessions = []
        for one in (dense, network):
            export_onnx(one, path)
            sessions.append(onnx_session(path.read_bytes()))
    found = []
    for batch in batches:
        images = network.architecture.example(batch).numpy()
        first, second = (
            _median_ms(lambda s=s, i=images: s.run(None, {"image": i}), repeats, batch)  # type: ignore[misc]
            for s in sessions
        )
        found.append(Latency(engine="onnxruntime", batch=batch, baseline_ms=first, compressed_ms=second))
    return found


def _torch_exits(shipped: ShippedNetwork, image: Tensor, repeats: int) -> tuple[float, ...]:
    def until(last: int) -> Callable[[], object]:
        return lambda: run_until(
            shipped.network, shipped.normalize(image), lambda place, _logits: place == last
        )

    exits = len(shipped.network.split_points) + 1
    return tuple(_median_ms(until(place), repeats, 1) for place in range(exits))


def _onnx_exits(network: CompressedNetwork, image: Tensor, repeats: int) -> tuple[float, ...]:
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        exported = export_onnx(network, Path(folder) / "network.onnx", segments=True)
        sessions = [onnx_session(file.read_bytes()) for file in exported.files]

    def until(last: int) -> Callable[[], object]:
        return lambda: run_parts(sessions, image.numpy(), last=last)

    return tuple(_median_ms(until(place), repeats, 1) for place in range(len(sessions)))


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
