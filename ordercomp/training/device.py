"""Where and in which precision to train: CUDA if it is there, bfloat16 if it is measurably faster."""

import platform
import time
from typing import Any

import torch
from torch.nn import functional

from ordercomp.networks.network import CompressedNetwork

__all__ = ["choose_device", "describe_hardware", "probe_precision"]


def choose_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_hardware(device: torch.device) -> str:
    """A short name of the processor for provenance."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def probe_precision(network: CompressedNetwork, *, batch_size: int, seconds: float = 1.0) -> dict[str, Any]:
    """Time float32 and bfloat16 training steps in turn for about `seconds`.

    Returns {"precision": "float32" | "bfloat16", "speedup": float}, where `speedup` is the median time of a
    float32 step over that of a bfloat16 step; bfloat16 must win by a tenth to be chosen.
    """
    device = choose_device()
    module = network.copy().module.to(device).train()
    images = network.architecture.example(batch_size).to(device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size, device=device) % network.architecture.classes
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[torch.bfloat16]) < 3:
        for precision, taken in times.items():
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
                loss = functional.cross_entropy(module(images)[-1], labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - start)
    medians = {precision: sorted(taken)[len(taken) // 2] for precision, taken in times.items()}
    speedup = medians[torch.float32] / medians[torch.bfloat16]
    return {"precision": "bfloat16" if speedup > 1.1 else "float32", "speedup": round(speedup, 3)}
