"""Measured latency: milliseconds of one image, on this machine, up to each exit."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ordercomp.networks.layers import QuantizedLayer
from ordercomp.networks.network import CompressedNetwork, MultiExit

__all__ = ["exit_latencies"]


class _LeftError(Exception):
    """Raised inside the body when an image leaves, so that the rest of it does not run."""


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
    image = network.architecture.example(1).to(next(module.parameters()).device)
    exits = len(module.split_points) + 1
    return [_median_ms(_leaving_at(module, place, image), repeats, image.device) for place in range(exits)]


def _leaving_at(module: MultiExit, place: int, image: Tensor) -> Callable[[], None]:
    """A run of `image` that evaluates all heads up to exit `place` and stops there."""

    def run() -> None:
        seen = [0]

        def leave(head: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def hook(_block: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> None:
                head(features)
                seen[0] += 1
                if seen[0] > place:
                    raise _LeftError

            return hook

        hooks = [
            module.body.get_submodule(name).register_forward_hook(leave(head))
            for name, head in zip(module.split_points, module.heads, strict=True)
        ]
        try:
            module.body(image)
        except _LeftError:
            pass
        finally:
            for hook in hooks:
                hook.remove()

    return run


def _median_ms(run: Callable[[], None], repeats: int, device: torch.device) -> float:
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
