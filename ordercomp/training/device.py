"""Where and in which precision to train: CUDA if it is there, bfloat16 if it is measurably faster."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ordercomp.data.splits import Batch
from ordercomp.networks.exits import MultiExit
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training.recipe import Recipe
from ordercomp.training.steps import make_steps, own_stream


def choose_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU.

    float32 means float32 there, too: products that round their factors to 10 bits are switched off.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def describe_hardware(device: torch.device) -> str:
    """A short name of the processor for provenance, with what may change bits: its instructions, threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name, instructions = platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability()
    return f"{name} CPU, {instructions}, {torch.get_num_threads()} thread(s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Which precision trains faster here."""

    precision: Literal["float32", "bfloat16"]
    speedup: float  # median time of a step in float32 over that of one in bfloat16


def probe_precision(network: CompressedNetwork, *, batch_size: int, seconds: float = 1.0) -> Probe:
    """Time float32 and bfloat16 training steps in turn for about `seconds`.

    bfloat16 must win by a tenth to be chosen. On CUDA the steps are what training takes: replayed graphs, if
    they are faster.
    """
    device = choose_device()
    module = network.copy().module.to(device).train()
    images = network.architecture.example(batch_size).to(device, memory_format=torch.channels_last)
    labels = torch.arange(batch_size, device=device) % network.architecture.classes
    with own_stream(device):
        steps = {
            precision: _graphed(module, images, labels, precision)
            if device.type == "cuda"
            else partial(_step, module, images, labels, precision)
            for precision in (torch.float32, torch.bfloat16)
        }
        medians = _median_times(steps, seconds)
    speedup = medians[torch.float32] / medians[torch.bfloat16]
    return Probe(precision="bfloat16" if speedup > 1.1 else "float32", speedup=round(speedup, 3))


def _median_times(
    steps: Mapping[torch.dtype, Callable[[], object]], seconds: float
) -> dict[torch.dtype, float]:
    """Seconds of a step in each precision, which take turns."""
    times: dict[torch.dtype, list[float]] = {precision: [] for precision in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[torch.bfloat16]) < 3:
        for precision, step in steps.items():
            start = time.perf_counter()
            step()
            times[precision].append(time.perf_counter() - start)
    return {precision: sorted(durations)[len(durations) // 2] for precision, durations in times.items()}


def _step(module: MultiExit, images: Tensor, labels: Tensor, precision: torch.dtype) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        loss = functional.cross_entropy(module(images)[-1], labels)
    loss.backward()  # type: ignore[no-untyped-call]


def _graphed(
    module: MultiExit, images: Tensor, labels: Tensor, precision: torch.dtype
) -> Callable[[], object]:
    """Warmed-up steps of a module on CUDA that change next to nothing, at a rate of nearly zero."""
    steps = make_steps(
        module,
        lambda batch: functional.cross_entropy(module(batch.images)[-1], batch.labels),
        recipe=Recipe(),
        autocast=torch.autocast(images.device.type, torch.bfloat16, enabled=precision == torch.bfloat16),
    )
    batch = Batch(images, labels, labels)

    def step() -> None:
        steps.take(batch, 1e-6)
        torch.cuda.current_stream().synchronize()

    for _ in range(6):
        step()
    return step
