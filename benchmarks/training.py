"""Images per second of our training loop against a naive one, in one run on one machine, CPU or GPU.

The naive loop is what many scripts do: float32, NCHW, a DataLoader with per-image PIL transforms and fake
quantizers written as chains of elementary operations. Rounds of both alternate; medians are compared. The
share of convolutions is that of the time of all operations, on the device that trains, in our loop.

    python benchmarks/training.py [--images 4096] [--rounds 5] [--threads 1] [--json rates.json]
    python benchmarks/training.py --workers      # two processes of one thread against one of two
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from ordercomp import torchvision_compat
from ordercomp.data.catalog import load_data
from ordercomp.data.splits import ImageData
from ordercomp.models.catalog import build_model
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training.device import choose_device, describe_hardware, probe_precision
from ordercomp.training.recipe import Recipe
from ordercomp.training.steps import GRAPHS_VARIABLE
from ordercomp.training.trainer import DataTrainer

MODELS = ("resnet8(width=16)", "resnet20(width=16)")
BATCH = 128


class _Pictures(Dataset[tuple[Tensor, int]]):
    """Single PIL images, transformed one by one."""

    def __init__(self, data: ImageData, count: int) -> None:
        batch = next(iter(data.train.batches(count, rng=None, device=torch.device("cpu"))))
        low, high = batch.images.min(), batch.images.max()
        pixels = ((batch.images - low) / (high - low) * 255).byte().permute(0, 2, 3, 1).numpy()
        self._pictures = [Image.fromarray(picture.squeeze()) for picture in pixels]
        self._labels = batch.labels.tolist()
        middle = [0.4] * data.channels
        transforms = torchvision_compat.transforms
        self._transform = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.Normalize(middle, middle),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._pictures[index]), self._labels[index]


class _NaiveQuantConv(nn.Conv2d):
    """DoReFa at 4 bits by elementary operations and the detach trick."""

    def forward(self, values: Tensor) -> Tensor:
        bounded = self.weight.tanh()
        weight = _round_through(bounded / (2 * bounded.abs().max()) + 0.5) * 2 - 1
        return self._conv_forward(_round_through(values.clamp(0, 1)), weight, self.bias)


def _round_through(values: Tensor, bits: int = 4) -> Tensor:
    steps = 2**bits - 1
    return values + ((values * steps).round() / steps - values).detach()


def naive_rate(
    model: str, data: ImageData, pictures: _Pictures, *, quantized: bool, device: torch.device
) -> float:
    """Images per second of one epoch of the naive loop."""
    torch.manual_seed(0)
    network = build_model(model, classes=10, channels=data.channels).to(device)
    if quantized:
        for layer in list(network.modules()):
            if type(layer) is nn.Conv2d and layer.in_channels > 3:
                layer.__class__ = _NaiveQuantConv
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True)
    start = time.perf_counter()
    for images, labels in loader:
        loss = functional.cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _wait(device)
    return len(loader) * BATCH / (time.perf_counter() - start)


def our_trainer(
    data: ImageData, *, precision: torch.dtype, device: torch.device, batch: int = BATCH, epochs: float = 1
) -> DataTrainer:
    """A trainer for that many epochs."""
    recipe = Recipe(epochs=epochs, batch_size=batch, learning_rate=0.05)
    return DataTrainer(data=data, recipe=recipe, seed=0, device=device, precision=precision)


def our_network(model: str, data: ImageData, trainer: DataTrainer, *, quantized: bool) -> CompressedNetwork:
    """An untrained network on the trainer's device, quantized to 4 bits if so asked."""
    network = CompressedNetwork.create(model, classes=10, channels=data.channels, size=data.size)
    if quantized:
        network = network.quantized(Bits(4, 4))
        trainer.calibrate(network)
    return network


def our_rate(
    model: str,
    data: ImageData,
    *,
    quantized: bool,
    precision: torch.dtype,
    device: torch.device,
    batch: int = BATCH,
) -> float:
    """Images per second of one epoch of our loop."""
    trainer = our_trainer(data, precision=precision, device=device, batch=batch)
    network = our_network(model, data, trainer, quantized=quantized)
    start = time.perf_counter()
    trainer.train(network, fresh=False)
    _wait(device)
    return len(data.train) // batch * batch / (time.perf_counter() - start)


def convolution_share(
    model: str, data: ImageData, *, quantized: bool, precision: torch.dtype, device: torch.device
) -> float:
    """Share of convolutions, forward and backward, in the time of all operations of our eager loop."""
    few = 10 * BATCH / len(data.train)
    trainer = our_trainer(data, precision=precision, device=device, epochs=few)
    network = our_network(model, data, trainer, quantized=quantized)
    before = os.environ.get(GRAPHS_VARIABLE, "")
    os.environ[GRAPHS_VARIABLE] = "off"  # inside a graph there are no operations to tell apart
    try:
        trainer.train(network, fresh=False)
        on_gpu = device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as profiler:
            trainer.train(network, fresh=False)
            _wait(device)
    finally:
        os.environ[GRAPHS_VARIABLE] = before
    total = convolutions = 0.0
    for event in profiler.key_averages():
        if event.device_type != DeviceType.CPU or not event.key.startswith("aten::"):
            continue
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        total += spent
        convolutions += spent if "conv" in event.key else 0.0
    return convolutions / total


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare_loops(data: ImageData, rounds: int) -> list[dict[str, Any]]:
    """Print and return the rates of both loops and their ratio for each model."""
    device = choose_device()
    pictures = _Pictures(data, len(data.train))
    print("model               kind    precision  naive/s  ours/s  ratio  convolutions")
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        network = CompressedNetwork.create(model, classes=10, channels=data.channels, size=data.size)
        probed = probe_precision(network, batch_size=BATCH).precision
        precision = torch.bfloat16 if probed == "bfloat16" else torch.float32
        for quantized in (False, True):
            pairs = [
                (
                    naive_rate(model, data, pictures, quantized=quantized, device=device),
                    our_rate(model, data, quantized=quantized, precision=precision, device=device),
                )
                for _ in range(rounds)
            ]
            naive, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
            ratio = statistics.median(ours / naive for naive, ours in pairs)
            share = convolution_share(model, data, quantized=quantized, precision=precision, device=device)
            kind = "QAT 4w4a" if quantized else "float"
            print(
                f"{model:19} {kind:9} {probed:9} {naive:7.0f} {ours:7.0f}  {ratio:5.2f}  {share:.2f}",
                flush=True,
            )
            rows.append(
                {
                    "model": model,
                    "kind": kind,
                    "precision": probed,
                    "naive_images_per_second": round(naive),
                    "images_per_second": round(ours),
                    "ratio": round(ratio, 2),
                    "convolution_share": round(share, 3),
                }
            )
    return rows


def _timed_worker(threads: int, images: int, barrier: object, times: object) -> None:
    torch.set_num_threads(threads)
    data = load_data("fashion-mnist", train_limit=images)
    settings: dict[str, Any] = {"quantized": False, "precision": torch.float32, "device": choose_device()}
    our_rate(MODELS[0], data, **settings)
    barrier.wait()  # type: ignore[attr-defined]
    start = time.perf_counter()
    our_rate(MODELS[0], data, **settings)
    times.put(images / (time.perf_counter() - start))  # type: ignore[attr-defined]


def compare_workers(images: int, rounds: int) -> None:
    """Print images per second of two processes with one thread each and of one process with two."""
    context = multiprocessing.get_context("spawn")

    def rate(processes: int, threads: int) -> float:
        barrier, times = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=_timed_worker, args=(threads, images, barrier, times))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        total = sum(times.get() for _ in workers)
        for worker in workers:
            worker.join()
        return total

    def median(measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(rounds))

    two_workers, one_worker = median(lambda: rate(2, 1)), median(lambda: rate(1, 2))
    print(
        f"two workers of one thread {two_workers:.0f}/s, one worker of two threads {one_worker:.0f}/s, "
        f"ratio {two_workers / one_worker:.2f}"
    )


def facts() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "hardware": describe_hardware(choose_device()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Read the options and run one comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--data", default="fashion-mnist", help="a data set of ten classes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rates to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.workers:
        compare_workers(options.images, options.rounds)
        return
    rows = compare_loops(load_data(options.data, train_limit=options.images), options.rounds)
    if options.json:
        options.json.write_text(json.dumps({**facts(), "rates": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
