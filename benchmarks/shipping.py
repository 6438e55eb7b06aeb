"""How fast are exported networks in onnxruntime? A table: ours in all forms beside float and plain int8.

Trains a network on Fashion-MNIST for a few epochs, compresses it, and measures every form in turns. Run:

    OMP_NUM_THREADS=1 python benchmarks/shipping.py [FOLDER] [--network w16] [--brief]

FOLDER holds the networks of an earlier run, and keeps those of this one. `--brief` leaves out `--for size`
and the unaligned networks. Below the table stands what exits save if half of the images leave at the first.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import ModelProto
from onnxruntime import InferenceSession
from torch.utils.data import TensorDataset

from ordercomp.data.catalog import load_data
from ordercomp.data.splits import Split
from ordercomp.jobs.compress import compress, task_images
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import create_network, make_trainer
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.shipping.bench import accuracy_of
from ordercomp.shipping.exit_times import describe_exits, measure_exits
from ordercomp.shipping.int8 import static_int8
from ordercomp.shipping.latency import call_times
from ordercomp.shipping.onnx import (
    SESSION_OPTIONS,
    export_onnx,
    finish,
    onnx_session,
    trace,
    without_quantizers,
)
from ordercomp.stages.catalog import complete, make_stage
from ordercomp.training.recipe import Recipe

TASK = Task(
    name="shipping",
    model="resnet20(width=16)",
    data="fashion-mnist-32",
    train_limit=8000,
    recipe=Recipe(epochs=2, batch_size=64, learning_rate=0.1),
)
LARGER = Recipe(epochs=1, batch_size=64, learning_rate=0.05)
FEW = Recipe(epochs=3, batch_size=32, learning_rate=0.05)
TASKS = {
    "w16": TASK,
    "w48": replace(TASK, model="resnet20(width=48)", train_limit=4000, recipe=LARGER),
    "mobilenetv2": replace(TASK, model="mobilenet_v2", train_limit=4000, recipe=LARGER),
    "resnet18-96": replace(
        TASK, model="torchvision:resnet18", data=f"{__file__}:fashion_at_96", train_limit=400, recipe=FEW
    ),
}
FLOAT = "float"
SEQUENCES = {
    FLOAT: "Q(weights=32,activations=32,epochs=0.01)",
    "PQ": "P(ratio=0.4) Q(weights=4,activations=8)",
    "PQ-16": "P(ratio=0.4,round_to=16) Q(weights=4,activations=8)",
    "DPQ": "D(depth=0.5) P(ratio=0.4) Q(weights=4,activations=8)",
    "DPQ-16": "D(depth=0.5) P(ratio=0.4,round_to=16) Q(weights=4,activations=8)",
}
BRIEF = (FLOAT, "PQ-16", "DPQ-16")
ROUNDS = 41
FASTEST = 0.05  # the share of calls that stands for a machine where nothing else runs
BATCHES = (1, 64)


def main() -> None:
    """Train, export, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--network", choices=list(TASKS), default="w16")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument(
        "--images", type=int, help="to train on for an epoch a stage, and nothing is evaluated"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[options.network]
    make = trained_network
    if options.images:
        short = replace(task.recipe, epochs=1)
        task, make = replace(task, train_limit=options.images, recipe=short), hardly_trained
    with TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / options.network
        folder.mkdir(parents=True, exist_ok=True)
        names = BRIEF if options.brief else tuple(SEQUENCES)
        networks = {name: make(name, SEQUENCES[name], task, folder) for name in names}
        training, test = task_images(networks[FLOAT], task)
        sessions: dict[str, InferenceSession] = {}
        add_float(sessions, FLOAT, networks.pop(FLOAT), training)
        for name, network in networks.items():
            add_forms(sessions, name, network, training, Path(temporary), brief=options.brief)
        print_table(sessions, test, evaluated=not options.images)
        for name in BRIEF[1:]:
            leaving = make(f"{name}-E", f"{SEQUENCES[name]} E(exits=2)", task, folder)
            print_exits(name, leaving, training, Path(temporary))


def fashion_at_96() -> dict[str, TensorDataset]:
    """Fashion-MNIST in three channels, each pixel of 32x32 three times as wide and high."""
    data = load_data("fashion-mnist-32", train_limit=1000)
    parts = {"train": (data.train, 400), "val": (data.validation, 200), "test": (data.test, 500)}
    return {name: _enlarged(split, count) for name, (split, count) in parts.items()}


def _enlarged(split: Split, count: int) -> TensorDataset:
    batch = next(iter(split.batches(count)))
    images = batch.images.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    images = images.repeat(1, 3, 1, 1)
    return TensorDataset(images, batch.labels)


def print_table(
    sessions: Mapping[str, InferenceSession], test: tuple[torch.Tensor, torch.Tensor], *, evaluated: bool
) -> None:
    """Times, ratios to float (of medians, and of quiet moments), and accuracy of each."""
    images = {batch: test[0][:batch].numpy() for batch in BATCHES}
    calls = {
        batch: call_times(
            {name: run(session, images[batch]) for name, session in sessions.items()}, ROUNDS, batch
        )
        for batch in BATCHES
    }
    print(
        "| network | ms | times faster | its fastest calls | batch 64 | accuracy |\n|---|---|---|---|---|---|"
    )
    for name, session in sessions.items():
        one, many = calls[1], calls[BATCHES[-1]]
        faster = [
            np.quantile(times[FLOAT], share) / np.quantile(times[name], share)
            for times, share in ((one, 0.5), (one, FASTEST), (many, 0.5))
        ]
        right = f"{accuracy_of(session, *test):.1%}" if evaluated else "-"
        figures = " | ".join(f"{times:.2f}" for times in faster)
        print(f"| {name} | {np.median(one[name]):.3f} | {figures} | {right} |")


def print_exits(name: str, network: CompressedNetwork, training: torch.Tensor, folder: Path) -> None:
    """What leaving early saves, and the time if half of the images leave at the first exit."""
    exported = export_onnx(network, folder / "exits.onnx", images=training)
    times = measure_exits(onnx.load(exported.files[0]), training[:1].numpy(), repeats=ROUNDS)
    half = replace(times, shares=(0.5, *[0.0] * (len(network.exits) - 1), 0.5))
    print(f"\n{name}: {describe_exits(times)} If half of the images do: {half.of_whole:.2f} of that time.")


def trained_network(name: str, sequence: str, task: Task, folder: Path) -> CompressedNetwork:
    """The network of a sequence, trained unless the folder holds it."""
    file = folder / f"{name}.safetensors"
    if not file.exists():
        compress(sequence, task, out=file, store=folder / "store", threshold=float("inf"))
    network = CompressedNetwork.load(file)
    network.module.eval()
    return network


def hardly_trained(name: str, sequence: str, task: Task, folder: Path) -> CompressedNetwork:
    """The network of a sequence, trained on the task's few images and never evaluated, unless it is there."""
    file = folder / f"{name}-{task.train_limit}.safetensors"
    if file.exists():
        return CompressedNetwork.load(file)
    network, trainer = create_network(task, seed=0), make_trainer(task, seed=0)
    trainer.train(network, fresh=True)
    for step in complete(StageSequence.parse(sequence)).steps:
        network = make_stage(step).apply(network, trainer=trainer)
    network.module.eval()
    network.save(file)
    return network


def add_float(
    sessions: dict[str, InferenceSession], name: str, network: CompressedNetwork, training: torch.Tensor
) -> None:
    """The network without quantizers, and plain int8 of it."""
    model = trace(without_quantizers(network), network)
    finish(model)
    sessions[name] = session_of(model)
    sessions[f"{name}, static int8"] = session_of(static_int8(model, training[:128]))


def add_forms(
    sessions: dict[str, InferenceSession],
    name: str,
    network: CompressedNetwork,
    training: torch.Tensor,
    folder: Path,
    *,
    brief: bool,
) -> None:
    """All forms of a compressed network."""
    add_float(sessions, f"{name} without quantizers", network, training)
    file = folder / "network.onnx"
    if not brief:
        export_onnx(network, file, purpose="size")
        size = file.read_bytes()
        sessions[f"{name}, `--for size`"] = onnx_session(size)
        sessions[f"{name}, `--for size`, option set"] = onnx_session(size, options=SESSION_OPTIONS)
        export_onnx(network, file)
        sessions[f"{name}, `--for speed`"] = onnx_session(file.read_bytes())
    exported = export_onnx(network, file, images=training)
    layers = f"{exported.integer_layers} of {exported.layers} in integers"
    facts = f"{layers}, {exported.same_labels:.1%} of labels equal"
    sessions[f"{name}, `--for speed --task` ({facts})"] = onnx_session(file.read_bytes())


def session_of(model: ModelProto) -> InferenceSession:
    """A default session of one thread."""
    return onnx_session(model.SerializeToString())


def run(session: InferenceSession, images: np.ndarray) -> Callable[[], object]:
    """A call of a session."""
    return partial(session.run, None, {"image": images})


if __name__ == "__main__":
    main()
