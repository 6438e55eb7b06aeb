"""Images per second of our training loop against a naive one, in one run on one machine.

The naive loop is what many scripts do: float32, NCHW, a DataLoader with per-image PIL transforms and fake
quantizers written as chains of elementary operations. Rounds of both alternate; medians are compared.

    python benchmarks/training.py [--images 4096] [--rounds 5] [--threads 1]
    python benchmarks/training.py --workers      # two processes of one thread against one of two
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ordercomp.data.catalog import ImageData, load_data
from ordercomp.data.vision import transforms
from ordercomp.models import build_model
from ordercomp.networks.network import Bits, CompressedNetwork
from ordercomp.training.device import probe_precision
from ordercomp.training.recipe import Recipe
from ordercomp.training.trainer import DataTrainer

MODELS = ("resnet8(width=16)", "resnet20(width=16)")
BATCH = 128


class _Pictures(Dataset[tuple[Tensor, int]]):
    """Single PIL images, transformed one by one."""

    def __init__(self, data: ImageData, count: int) -> None:
        batch = next(iter(data.train.batches(count, rng=None, device=torch.device("cpu"))))
        low, high = batch.images.min(), batch.images.max()
        pixels = ((batch.images - low) / (high - low) * 255).byte()[:, 0].numpy()
        self._pictures = [Image.fromarray(picture) for picture in pixels]
        self._labels = batch.labels.tolist()
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.286], [0.353])])

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


def naive_rate(model: str, pictures: _Pictures, *, quantized: bool) -> float:
    """Images per second of one epoch of the naive loop."""
    torch.manual_seed(0)
    network = build_model(model, classes=10, channels=1)
    if quantized:
        for layer in list(network.modules()):
            if type(layer) is nn.Conv2d and layer.in_channels > 1:
                layer.__class__ = _NaiveQuantConv
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True)
    start = time.perf_counter()
    for images, labels in loader:
        loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(loader) * BATCH / (time.perf_counter() - start)


def our_rate(model: str, data: ImageData, *, quantized: bool, precision: torch.dtype) -> float:
    """Images per second of one epoch of our loop."""
    network = CompressedNetwork.create(model, classes=10, channels=1, size=data.size)
    trainer = DataTrainer(
        data=data,
        recipe=Recipe(epochs=1, batch_size=BATCH, learning_rate=0.05),
        seed=0,
        device=torch.device("cpu"),
        precision=precision,
    )
    if quantized:
        network = network.quantized(Bits(4, 4))
        trainer.calibrate(network)
    start = time.perf_counter()
    trainer.train(network, fresh=True)
    return len(data.train) // BATCH * BATCH / (time.perf_counter() - start)


def compare_loops(images: int, rounds: int) -> None:
    """Print the rates of both loops and their ratio for each model."""
    data = load_data("fashion-mnist", train_limit=images)
    pictures = _Pictures(data, images)
    print("model               kind    precision  naive/s  ours/s  ratio")
    for model in MODELS:
        network = CompressedNetwork.create(model, classes=10, channels=1, size=data.size)
        chosen = probe_precision(network, batch_size=BATCH)["precision"]
        precision = torch.bfloat16 if chosen == "bfloat16" else torch.float32
        for quantized in (False, True):
            pairs = [
                (
                    naive_rate(model, pictures, quantized=quantized),
                    our_rate(model, data, quantized=quantized, precision=precision),
                )
                for _ in range(rounds)
            ]
            naive, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
            ratio = statistics.median(ours / naive for naive, ours in pairs)
            kind = "QAT 4w4a" if quantized else "float"
            print(f"{model:19} {kind:9} {chosen:9} {naive:7.0f} {ours:7.0f}  {ratio:5.2f}", flush=True)


def _timed_worker(threads: int, images: int, barrier: object, times: object) -> None:
    torch.set_num_threads(threads)
    data = load_data("fashion-mnist", train_limit=images)
    our_rate(MODELS[0], data, quantized=False, precision=torch.float32)
    barrier.wait()  # type: ignore[attr-defined]
    start = time.perf_counter()
    our_rate(MODELS[0], data, quantized=False, precision=torch.float32)
    times.put(images / (time.perf_counter() - start))  # type: ignore[attr-defined]


def compare_workers(images: int, rounds: int) -> None:
    """Print images per second of two processes with one thread each and of one process with two."""
    context = multiprocessing.get_context("spawn")

    def rate(processes: int, threads: int) -> float:
        barrier, times = context.Barrier(processes), context.Queue()
        crew = [
            context.Process(target=_timed_worker, args=(threads, images, barrier, times))
            for _ in range(processes)
        ]
        for process in crew:
            process.start()
        total = sum(times.get() for _ in crew)
        for process in crew:
            process.join()
        return total

    def median(measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(rounds))

    two, one = median(lambda: rate(2, 1)), median(lambda: rate(1, 2))
    print(
        f"two workers of one thread {two:.0f}/s, one worker of two threads {one:.0f}/s, ratio {two / one:.2f}"
    )


def main() -> None:
    """Read the options and run one comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (compare_workers if options.workers else compare_loops)(options.images, options.rounds)


if __name__ == "__main__":
    main()
