"""Check and time training on a GPU: is it right, how fast is it, what do graphs and several workers bring?

    python benchmarks/gpu.py --json gpu.json --minutes 3 [--only logits,batches,stage,rates,shares,workers]

Each part stands by itself, and its findings are written as soon as it is done; one that fails is told and
does not stop the others. Without a GPU the parts compare the CPU with itself (`--tiny` makes that quick).
Records of orders are another program's: benchmarks/record.py.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training import (
    _Pictures,
    convolution_share,
    facts,
    naive_rate,
    our_network,
    our_rate,
    our_trainer,
)

from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.catalog import load_data
from ordercomp.data.source import Source
from ordercomp.data.splits import Augmentation, ImageData
from ordercomp.measuring.accuracy import accuracy
from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import create_network, make_trainer
from ordercomp.running.task import TASKS
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import make_stage
from ordercomp.training.device import choose_device, probe_precision
from ordercomp.training.steps import GRAPHS_VARIABLE
from ordercomp.training.trainer import DataTrainer

CPU = torch.device("cpu")
ORDER = "D(depth=0.5) P(ratio=0.4) Q(weights=2,activations=4) E(exits=2)"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is trained."""

    images: int = 20_480
    epochs: float = 10.0  # of a stage on digits
    models: tuple[str, ...] = (
        "resnet14(width=16,stem_stride=2)",
        "resnet20(width=16)",
        "resnet18",
    )
    batches: tuple[int, ...] = (128, 256, 512)
    workers: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 4.0  # of each number of workers
    tiny: bool = False


TINY = Sizes(
    images=512,
    epochs=1.0,
    models=("resnet8(width=4,stem_stride=2)",),
    batches=(128,),
    workers=(1, 2),
    seconds=1.0,
    tiny=True,
)


def noise(count: int, side: int = 32) -> ImageData:
    """Random images in color: speed does not depend on what they show."""
    rng = np.random.default_rng(0)

    def part(size: int) -> Labeled:
        pixels = rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
        return Labeled(pixels, np.arange(size) % 10)

    source = Source(name="noise", root=Path(), split_seed=0, train_limit=None, augmentation=None)
    parts = (part(count), part(100), part(100))
    return assemble(source, parts, classes=10, augmentation=Augmentation(padding=4, flip=True))


def check_logits(sizes: Sizes) -> dict[str, Any]:
    """Relative distance of logits from those of the CPU in float32, for a float and a quantized network."""
    device, data = choose_device(), noise(256)
    images = next(iter(data.train.batches(256))).images
    distances: dict[str, Any] = {}
    for kind in ("float", "QAT 4w8a"):
        network = CompressedNetwork.create(sizes.models[0], classes=10, channels=3, size=data.size)
        if kind != "float":
            network = network.quantized(Bits(4, 8))
            our_trainer(data, precision=torch.float32, device=CPU).calibrate(network)
        expected = _logits(network, images, CPU, torch.float32)
        for precision in (torch.float32, torch.bfloat16):
            distance = (_logits(network, images, device, precision) - expected).norm() / expected.norm()
            distances[f"{kind} {precision}"] = round(float(distance), 7)
    return distances


def _logits(
    network: CompressedNetwork, images: Tensor, device: torch.device, precision: torch.dtype
) -> Tensor:
    module = network.copy().module.to(device).eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        return module(images.to(device))[-1].float().cpu()


def check_batches(_sizes: Sizes) -> dict[str, Any]:
    """Largest difference of augmented batches, and whether labels are equal; draws come from the CPU."""
    data, device = noise(512), choose_device()
    pairs = zip(
        *(
            data.train.batches(100, rng=torch.Generator().manual_seed(3), augment=True, device=place)
            for place in (CPU, device)
        ),
        strict=True,
    )
    largest, equal = 0.0, True
    for ours, theirs in pairs:
        largest = max(largest, float((ours.images - theirs.images.cpu()).abs().max()))
        equal = equal and torch.equal(ours.labels, theirs.labels.cpu())
    return {"largest_difference": largest, "labels_equal": equal}


def check_stage(sizes: Sizes) -> dict[str, Any]:
    """Mean accuracies along one order on digits: CPU in float32, then the device in both precisions."""
    device, data = choose_device(), load_data("digits")
    recipe = replace(TASKS["digits"].recipe, epochs=sizes.epochs)
    results: dict[str, Any] = {}
    for name, place, precision, graphs in (
        ("CPU float32", CPU, torch.float32, ""),
        ("float32 eager", device, torch.float32, "off"),
        ("float32", device, torch.float32, ""),
        ("bfloat16", device, torch.bfloat16, ""),
    ):
        os.environ[GRAPHS_VARIABLE] = graphs
        start, rows = time.perf_counter(), []
        for seed in range(1 if sizes.tiny else 2):
            trainer = DataTrainer(data=data, recipe=recipe, seed=seed, device=place, precision=precision)
            rows.append(_along(ORDER, trainer))
        results[name] = {
            "accuracies": [round(statistics.mean(column), 4) for column in zip(*rows, strict=True)],
            "seconds": round(time.perf_counter() - start, 2),
        }
    os.environ[GRAPHS_VARIABLE] = ""
    return results


def _along(order: str, trainer: DataTrainer) -> list[float]:
    """Validation accuracy of the baseline and after each stage."""
    network = CompressedNetwork.create(
        TASKS["digits"].model, classes=10, channels=1, size=(8, 8), seed=trainer.seed
    )
    trainer.for_stage("baseline").train(network, fresh=True)
    accuracies = [accuracy(network, trainer.data.validation)]
    for step in StageSequence.parse(order).steps:
        network.module.cpu()  # where a stage finds a network that comes from the store
        network = make_stage(step).apply(network, trainer=trainer.for_stage(step.stage))
        accuracies.append(accuracy(network, trainer.data.validation))
    return accuracies


def check_full(sizes: Sizes) -> dict[str, Any]:
    """The baseline of the task that is meant for a GPU: accuracies and seconds."""
    task = TASKS["digits" if sizes.tiny else "cifar10-full"]
    if sizes.tiny:
        task = replace(task, recipe=replace(task.recipe, epochs=1))
    task = replace(task, recipe=replace(task.recipe, precision="bfloat16"))
    network, trainer = create_network(task, seed=0), make_trainer(task, seed=0)
    start = time.perf_counter()
    trainer.for_stage("baseline").train(network, fresh=True)
    seconds = time.perf_counter() - start
    return {
        "task": task.name,
        "epochs": task.recipe.epochs,
        "seconds": round(seconds, 1),
        "images_per_second": round(len(trainer.data.train) * task.recipe.epochs / seconds),
        "validation": round(accuracy(network, trainer.data.validation), 4),
        "test": round(accuracy(network, trainer.data.test), 4),
    }


def check_rates(sizes: Sizes) -> list[dict[str, Any]]:
    """Images per second with and without graphs, at each batch size, float and quantized."""
    device, data, rows = choose_device(), noise(sizes.images), []
    for model in sizes.models:
        for batch in sizes.batches:
            network = CompressedNetwork.create(model, classes=10, channels=3, size=data.size)
            probe = probe_precision(network, batch_size=batch, seconds=0.3)
            row: dict[str, Any] = {"model": model, "batch": batch, "bfloat16_speedup": probe.speedup}
            for kind, quantized in (("float", False), ("QAT 4w4a", True)):
                for graphs in ("off", ""):
                    os.environ[GRAPHS_VARIABLE] = graphs
                    rates = [
                        our_rate(
                            model,
                            data,
                            quantized=quantized,
                            precision=torch.bfloat16,
                            device=device,
                            batch=batch,
                        )
                        for _ in range(2)
                    ]
                    row[f"{kind}, {'eager' if graphs else 'graphs'}"] = round(max(rates))
            print(row, flush=True)
            rows.append(row)
    os.environ[GRAPHS_VARIABLE] = ""
    return rows


def check_shares(sizes: Sizes) -> dict[str, Any]:
    """The naive loop's rate and the share of convolutions in ours."""
    device, data, results = choose_device(), noise(sizes.images // 4), {}
    pictures = _Pictures(data, len(data.train))
    for model in sizes.models[:2]:
        for quantized in (False, True):
            kind = "QAT 4w4a" if quantized else "float"
            settings = {"quantized": quantized, "device": device}
            results[f"{model} {kind}"] = {
                "naive_images_per_second": round(naive_rate(model, data, pictures, **settings)),
                "convolution_share": round(
                    convolution_share(model, data, precision=torch.bfloat16, **settings), 3
                ),
            }
    return results


def check_workers(sizes: Sizes) -> dict[str, Any]:
    """Images per second of several processes together on one device."""
    context = multiprocessing.get_context("spawn")
    most = max(sizes.workers)
    barrier, counts = context.Barrier(most), context.Queue()
    processes = [
        context.Process(target=_train_for_a_while, args=(place, sizes, barrier, counts))
        for place in range(most)
    ]
    for process in processes:
        process.start()
    results: dict[str, Any] = {}
    try:
        for size in sizes.workers:
            total = sum(counts.get(timeout=90) for _ in range(size))
            results[f"{size} workers"] = round(total)
            print(f"{size} workers: {total:.0f} images/s", flush=True)
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()
    return results


def _train_for_a_while(place: int, sizes: Sizes, barrier: Any, counts: Any) -> None:
    torch.set_num_threads(1)
    data, device = noise(sizes.images), choose_device()
    settings: dict[str, Any] = {
        "precision": torch.bfloat16,
        "device": device,
        "batch": max(sizes.batches[:2]),
    }
    trainer = our_trainer(data, **settings)
    network = our_network(sizes.models[0], data, trainer, quantized=True)
    trainer.train(network, fresh=False)
    for size in sizes.workers:
        barrier.wait(timeout=120)
        if place >= size:
            continue
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < sizes.seconds:
            trainer.train(network, fresh=False)
            images += len(data.train)
        counts.put(images / (time.perf_counter() - start))


PARTS: Mapping[str, Callable[[Sizes], Any]] = {
    "logits": check_logits,
    "batches": check_batches,
    "stage": check_stage,
    "workers": check_workers,
    "rates": check_rates,
    "shares": check_shares,
    "full": check_full,
}


def main() -> None:
    """Read the options and do one part after the other while there is time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0, help="after which no part starts")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers, rising")
    parser.add_argument("--models", type=int, default=3, help="how many of the models")
    parser.add_argument("--tiny", action="store_true", help="for trying this program on a CPU")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = TINY
    if not options.tiny:
        workers = tuple(int(size) for size in options.workers.split(","))
        sizes = Sizes(workers=workers, models=Sizes().models[: options.models])
    results: dict[str, Any] = {"facts": facts()}
    start = time.perf_counter()
    for name in options.only.split(","):
        if time.perf_counter() - start > 60 * options.minutes:
            results[name] = "there was no time for it"
            continue
        begun = time.perf_counter()
        try:
            results[name] = PARTS[name](sizes)
        except Exception:
            results[name] = {"failed": traceback.format_exc()[-1500:]}
        results[f"{name}_seconds"] = round(time.perf_counter() - begun, 1)
        print(name, json.dumps(results[name], indent=1), results[f"{name}_seconds"], "s", flush=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
