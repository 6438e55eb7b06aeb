"""Measures latency: a network is exported and run in onnxruntime, in turns with the uncompressed one."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ordercomp.measuring.accuracy import ExitLatencies
from ordercomp.networks.exits import Architecture
from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.shipping.onnx import export_onnx, finish, onnx_session, run_parts, trace, without_quantizers

Runs = Mapping[str, Callable[[], object]]
_WARMUP = 3


def exit_latencies(
    network: CompressedNetwork, *, images: Tensor | None = None, repeats: int = 15
) -> ExitLatencies:
    """Export a network for speed, run it in default sessions and measure it beside its baseline.

    A network with exits is cut at them. `images` are training images, stored pixel values (n, c, h, w), that
    choose the ranges of what lies between layers; without them that stays in float. Raises ValueError if the
    network cannot be exported.
    """
    twin = network.copy()
    twin.module.cpu().eval()
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        file = Path(folder) / "network.onnx"
        try:
            exported = export_onnx(twin, file, segments=bool(twin.exits), images=images)
            baseline = _dense_session(twin.architecture, _normalization(twin))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"no latency without an export, which failed: {reason}") from None
        parts = [onnx_session(part.read_bytes()) for part in exported.files]
    image = twin.architecture.example(1).contiguous().numpy()
    runs = {str(last): partial(run_parts, parts, image, last=last) for last in range(len(parts))}
    *exits, dense = median_times(
        {**runs, "baseline": partial(run_parts, [baseline], image)}, repeats, 1
    ).values()
    return ExitLatencies(exits_ms=tuple(exits), baseline_ms=dense)


@functools.lru_cache(maxsize=2)
def _dense_session(architecture: Architecture, serving: Serving) -> InferenceSession:
    """An uncompressed network of an architecture, in float; what its weights are makes no difference."""
    dense = _untrained(architecture, serving)
    dense.module.eval()
    model = trace(without_quantizers(dense), dense)
    finish(model)
    return onnx_session(model.SerializeToString())


def fresh_baseline(network: CompressedNetwork) -> CompressedNetwork:
    """An untrained network of the same architecture that takes the same images."""
    return _untrained(network.architecture, _normalization(network))


def _untrained(architecture: Architecture, serving: Serving) -> CompressedNetwork:
    network = CompressedNetwork.create(
        architecture.model,
        classes=architecture.classes,
        channels=architecture.channels,
        size=architecture.size,
    )
    return replace(network, serving=serving)


def _normalization(network: CompressedNetwork) -> Serving:
    return replace(network.serving, threshold=None, names=())


def median_times(runs: Runs, repeats: int, batch: int) -> dict[str, float]:
    """Median milliseconds of each run, all taking turns, so that what slows the machine slows all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    rounds = repeats if batch == 1 else max(3, repeats // 5)
    inner = 10 if batch == 1 else 1  # calls of a turn: a cold cache is not what is measured
    with torch.inference_mode():
        for run in runs.values():
            for _ in range(_WARMUP if batch == 1 else 1):
                run()
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                for _ in range(inner):
                    run()
                times[name].append((time.perf_counter() - start) / inner)
    return {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}
