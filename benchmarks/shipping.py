"""How fast are exported networks in onnxruntime? A table: ours in all forms beside float and plain int8.

Trains ResNet-20 (width 16) on Fashion-MNIST at 32 pixels for a few epochs, compresses it, and measures every
form in turns. Run: OMP_NUM_THREADS=1 python benchmarks/shipping.py [FOLDER]
FOLDER holds the networks of an earlier run, and keeps those of this one
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from onnx import ModelProto
from onnxruntime import InferenceSession

from ordercomp.jobs.compress import compress
from ordercomp.jobs.ship import task_images
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import Task
from ordercomp.shipping.bench import accuracy_of
from ordercomp.shipping.int8 import static_int8
from ordercomp.shipping.latency import median_times
from ordercomp.shipping.onnx import (
    SESSION_OPTIONS,
    export_onnx,
    finish,
    onnx_session,
    trace,
    without_quantizers,
)
from ordercomp.training.recipe import Recipe

TASK = Task(
    name="shipping",
    model="resnet20(width=16)",
    data="fashion-mnist-32",
    train_limit=8000,
    recipe=Recipe(epochs=2, batch_size=64, learning_rate=0.1),
)
SEQUENCES = {
    "float": "Q(weights=32,activations=32,epochs=0.01)",
    "PQ": "P(ratio=0.4) Q(weights=4,activations=8)",
    "DPQ": "D(depth=0.5) P(ratio=0.4) Q(weights=4,activations=8)",
    "DPQ-16": "D(depth=0.5) P(ratio=0.4,round_to=16) Q(weights=4,activations=8)",
}
ROUNDS = 41
BATCHES = (1, 64)


def main() -> None:
    """Train, export, measure, and print the table."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        networks = {name: made(name, sequence, folder) for name, sequence in SEQUENCES.items()}
        training, test = task_images(networks["float"], TASK)
        sessions: dict[str, InferenceSession] = {}
        add_float(sessions, "float", networks.pop("float"), training)
        for name, network in networks.items():
            add_forms(sessions, name, network, training, Path(temporary))
        images = {batch: test[0][:batch].numpy() for batch in BATCHES}
        times = {
            batch: median_times(
                {name: run(session, images[batch]) for name, session in sessions.items()}, ROUNDS, batch
            )
            for batch in BATCHES
        }
        print(
            "| network | ms, batch 1 | times faster, batch 1 | batch 64 | accuracy |\n|---|---|---|---|---|"
        )
        for name, session in sessions.items():
            ms = [times[batch][name] for batch in BATCHES]
            faster = [times[batch]["float"] / times[batch][name] for batch in BATCHES]
            right = accuracy_of(session, *test)
            print(f"| {name} | {ms[0]:.3f} | {faster[0]:.2f} | {faster[1]:.2f} | {right:.1%} |")


def made(name: str, sequence: str, folder: Path) -> CompressedNetwork:
    """The network of a sequence, trained unless the folder holds it."""
    file = folder / f"{name}.safetensors"
    if not file.exists():
        compress(sequence, TASK, out=file, store=folder / "store", threshold=float("inf"))
    network = CompressedNetwork.load(file)
    network.module.eval()
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
) -> None:
    """All forms of a compressed network."""
    add_float(sessions, f"{name} without quantizers", network, training)
    file = folder / "network.onnx"
    export_onnx(network, file, purpose="size")
    sessions[f"{name}, `--for size`"] = onnx_session(file.read_bytes())
    sessions[f"{name}, `--for size`, option set"] = onnx_session(file.read_bytes(), options=SESSION_OPTIONS)
    export_onnx(network, file)
    sessions[f"{name}, `--for speed`"] = onnx_session(file.read_bytes())
    found = export_onnx(network, file, images=training)
    layers = f"{found.integer_layers} of {found.layers}"
    sessions[f"{name}, `--for speed --task` ({layers} in integers)"] = onnx_session(file.read_bytes())


def session_of(model: ModelProto) -> InferenceSession:
    """A default session of one thread."""
    return onnx_session(model.SerializeToString())


def run(session: InferenceSession, images: np.ndarray) -> Callable[[], object]:
    """A call of a session."""
    return partial(session.run, None, {"image": images})


if __name__ == "__main__":
    main()
