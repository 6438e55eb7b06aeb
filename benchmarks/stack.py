"""Seeds side by side against one after the other: processor seconds of whole nodes, in turn, on one thread.

A node is all that a worker does for it: loading the prefix, its stage, training, measuring, storing. Both
arms train the same nodes in stores of their own; accuracies are compared seed by seed.

    python benchmarks/stack.py [--task digits] [--seeds 3] [--orders DPQE,QPDE]
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from ordercomp.jobs.law_folder import settle_precision
from ordercomp.records import Record
from ordercomp.running.jobs import NodeJob, Request, job_chain
from ordercomp.running.node import SIDE_BY_SIDE, train_node
from ordercomp.running.store import Store
from ordercomp.running.task import load_task
from ordercomp.training.together import together

Arm = Callable[[Sequence[NodeJob]], list[Record]]


def in_turn(jobs: Sequence[NodeJob]) -> list[Record]:
    return [train_node(job) for job in jobs]


def beside(jobs: Sequence[NodeJob]) -> list[Record]:
    records = together([partial(train_node, job) for job in jobs])
    return [record or train_node(job) for record, job in zip(records, jobs, strict=True)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--task", default="digits")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--orders", default="DPQE,QPDE")
    args = options.parse_args()
    torch.set_num_threads(1)
    arms: dict[str, Arm] = {"in turn": in_turn, "side by side": beside}
    seconds: dict[str, dict[str, float]] = {name: defaultdict(float) for name in arms}
    gaps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stores = {name: Store(Path(folder) / name.replace(" ", "-")) for name in arms}
        task = settle_precision(load_task(args.task), stores["in turn"])
        seen: set[str] = set()
        for sequence in [
            task.sequence(order, case) for order in args.orders.split(",") for case in task.settings
        ]:
            chains = {
                name: [job_chain(task, Request(sequence, seed), store.folder) for seed in range(args.seeds)]
                for name, store in stores.items()
            }
            for place, node in enumerate(chains["in turn"][0]):
                if node.key in seen:
                    continue
                seen.add(node.key)
                records: dict[str, list[Record]] = {}
                for name, arm in arms.items():
                    start = time.process_time()
                    records[name] = arm([chain[place] for chain in chains[name]])
                    seconds[name][node.sequence.order[-1:] or "baseline"] += time.process_time() - start
                pairs = zip(records["in turn"], records["side by side"], strict=True)
                gaps += [b.points[0].accuracy - a.points[0].accuracy for a, b in pairs if a.points]
                joined = sum(SIDE_BY_SIDE in record.extra for record in records["side by side"])
                print(f"{joined} of {args.seeds} joined: {node.sequence or 'baseline'}", flush=True)
    for stage, alone in seconds["in turn"].items():
        print(f"{stage}: {alone:.1f} s in turn, {seconds['side by side'][stage]:.1f} s side by side")
    apart, joint = (sum(seconds[name].values()) for name in arms)
    pace = f"{apart:.1f} and {joint:.1f} s, {apart / joint:.2f} times the pace"
    print(f"{len(seen)} nodes of {args.seeds} seeds: {pace}")
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    print(f"validation accuracy side by side less in turn: {statistics.mean(gaps):+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
