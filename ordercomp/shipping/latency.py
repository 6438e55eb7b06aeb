"""Measures latency: a network is exported and run in onnxruntime, in turns with the uncompressed one."""

import functools
import os
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
_ROUNDS = 15


def exit_latencies(
    network: CompressedNetwork, *, images: Tensor | None = None, seconds: float = 0.25
) -> ExitLatencies:
    """Export a network for speed, run it in default sessions and measure it beside its baseline.

    A network with exits is cut at them. `images` are training images, stored pixel values (n, c, h, w), that
    choose the ranges of what lies between layers; without them that stays in float. They take turns for
    `seconds` at least, since another program may hold the processor for longer than a few calls take. Raises
    ValueError if the network cannot be exported.
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
        {**runs, "baseline": partial(run_parts, [baseline], image)}, _ROUNDS, 1, seconds=seconds
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


def median_times(
    runs: Runs, repeats: int, batch: int, *, threads: int = 1, seconds: float = 0.0
) -> dict[str, float]:
    """Median milliseconds of a call of each run, see `call_times`."""
    times = call_times(runs, repeats, batch, threads=threads, seconds=seconds)
    return {name: statistics.median(milliseconds) for name, milliseconds in times.items()}


def call_times(
    runs: Runs, repeats: int, batch: int, *, threads: int = 1, seconds: float = 0.0
) -> dict[str, list[float]]:
    """Milliseconds of the calls of each run, all taking turns, so that what slows the machine slows all.

    There are as many rounds as `repeats` asks for, a fifth in batches, and as many as `seconds` hold. On one
    thread it is time of the processor: else what other programs take falls on the slowest run, whose calls
    they interrupt most often.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    rounds = repeats if batch == 1 else max(3, repeats // 5)
    inner = 10 if batch == 1 else 1  # calls of a turn: the first finds a cold cache
    clock = time.process_time if threads == 1 and os.name == "posix" else time.perf_counter
    with torch.inference_mode():
        for run in runs.values():
            for _ in range(_WARMUP if batch == 1 else 1):
                run()
        began = clock()
        while rounds > 0 or clock() < began + seconds:
            rounds -= 1
            for name, run in runs.items():
                for _ in range(inner):
                    start = clock()
                    run()
                    times[name].append(1000 * (clock() - start))
    return times
