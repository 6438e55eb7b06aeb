"""Measured latency: milliseconds of one image, on this machine, up to each exit."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ordercomp.networks.exits import MultiExit, run_until
from ordercomp.networks.layers import QuantizedLayer
from ordercomp.networks.network import CompressedNetwork


def exit_latencies(network: CompressedNetwork, *, repeats: int = 30) -> list[float]:
    """Median milliseconds of an image that leaves at exit 1, 2, …, last, heads before it included.

    Batch of one, float32, on the device of the network. Fake quantizers are switched off, since they cost
    time here that real integer kernels would save: quantization shows in BitOps and storage, not here.
    """
    twin = network.copy()
    module = twin.module.eval()
    for layer in module.modules():
        if isinstance(layer, QuantizedLayer):
            layer.set_bits(32, 32)
    image = network.example()
    exits = len(module.split_points) + 1
    return [_median_ms(_until(module, image, place), repeats, image.device) for place in range(exits)]


def _until(module: MultiExit, image: Tensor, last: int) -> Callable[[], object]:
    return lambda: run_until(module, image, lambda place, _logits: place == last)


def _median_ms(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(3):
            run()
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
