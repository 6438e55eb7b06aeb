"""The exhaustive study of four stages with and without shared prefixes: trainings and wall time.

Both measure all 64 prefixes of the 24 orders at one seed, on one worker that is never idle. Without sharing,
every sequence starts from the trained baseline in a store of its own.

    python benchmarks/sharing.py [--epochs 5]
"""

import argparse
import shutil
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from ordercomp.running.jobs import Request, node_key
from ordercomp.running.node import train_node
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import TASKS, Task
from ordercomp.sequence import PrefixTrie, StageSequence, permutations


def shared(task: Task, folder: Path, executor: Executor) -> tuple[int, float]:
    """Trainings and seconds of the trie."""
    store = Store(folder)
    requests = [Request(task.sequence(order), 0) for order in permutations(task.stages)]
    start = time.perf_counter()
    runner = Runner(task, store, workers=1, executor=executor, work=train_node)
    nodes = sum(1 for _ in runner.run(requests))
    assert nodes == runner.trainings.done
    return nodes, time.perf_counter() - start


def unshared(task: Task, folder: Path, baseline: Path, executor: Executor) -> tuple[int, float]:
    """Trainings and seconds when each sequence is trained apart from the same baseline."""
    key = node_key(task.digest, StageSequence(), 0)
    start, trainings = time.perf_counter(), 0
    for number, node in enumerate(PrefixTrie(permutations(task.stages))):
        store = Store(folder / str(number))
        for suffix in (".json", ".safetensors"):
            shutil.copyfile(baseline / f"{key}{suffix}", store.folder / f"{key}{suffix}")
        runner = Runner(task, store, workers=1, executor=executor, work=train_node)
        trainings += sum(1 for _ in runner.run([Request(task.sequence("".join(node)), 0)]))
    return trainings, time.perf_counter() - start


def main() -> None:
    """Run both and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=float, default=5.0)
    options = parser.parse_args()
    task = replace(TASKS["digits"], recipe=replace(TASKS["digits"].recipe, epochs=options.epochs))
    context = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(
            1, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as executor,
    ):
        root = Path(folder)
        warm_up = Runner(task, Store(root / "shared"), workers=1, executor=executor, work=train_node)
        list(warm_up.run([Request(task.sequence("F"), 0)]))  # the baseline and the worker's start are free
        few, quick = shared(task, root / "shared", executor)
        many, slow = unshared(task, root / "unshared", root / "shared", executor)
    print(f"shared prefixes:   {few} trainings, {quick:.1f} s")
    print(f"trained apart:     {many} trainings, {slow:.1f} s")
    print(f"ratio: {many / few:.2f} of trainings, {slow / quick:.2f} of time")


if __name__ == "__main__":
    main()
