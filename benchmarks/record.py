"""Record a design: every order of a task at all its knob settings, seed by seed, in the time that there is.

    python benchmarks/record.py studies/recordings/cifar10.toml --out out/cifar10.jsonl --minutes 7

Within a seed come all full orders and the task's further ones, or those that `--orders` names, then, at the
first seeds, the control arms (F after every prefix of static stages). A record is
written as soon as its node is done; a run that is stopped goes on from its store.
On a GPU `--workers 6` lets six networks share it; CUDA_VISIBLE_DEVICES= (empty) keeps a run on the CPU.
"""

import argparse
import json
import lzma
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ordercomp.records import Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import create_network
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.sequence import StageSequence, Step, permutations
from ordercomp.stages.catalog import known_stages
from ordercomp.training.device import probe_precision


def design(task: Task, orders: Sequence[str] = ()) -> list[StageSequence]:
    """These orders at all knob settings; without any, all orders, then the task's further ones."""
    orders = orders or (*permutations(task.stages), *task.extra)
    return list(dict.fromkeys(task.sequence(order, setting) for order in orders for setting in task.settings))


def controls(sequences: Sequence[StageSequence]) -> list[StageSequence]:
    """F after every prefix of static stages."""
    arms = [
        prefix + Step("F")
        for sequence in sequences
        for prefix in sequence.prefixes
        if not any(known_stages()[step.stage].dynamic for step in prefix.steps)
    ]
    return list(dict.fromkeys(arms))


def requests(task: Task, orders: Sequence[str], seeds: Sequence[int], controlled: int) -> Iterator[Request]:
    """One seed after the other."""
    sequences = design(task, orders)
    for place, seed in enumerate(seeds):
        for sequence in (*sequences, *(controls(sequences) if place < controlled else ())):
            yield Request(sequence, seed)


def summary(records: Sequence[Record], seconds: float) -> dict[str, Any]:
    """What was measured, in numbers: baselines, seconds of a node, what F adds."""
    measured = [record for record in records if record.points]
    accuracies = {(record.sequence, record.seed): record.points[0].accuracy for record in measured}
    gains = [
        accuracies[name, seed] - accuracies[name.removesuffix(" F"), seed]
        for name, seed in accuracies
        if name.endswith(" F") and (name.removesuffix(" F"), seed) in accuracies
    ]
    return {
        "records": len(records),
        "failed": len(records) - len(measured),
        "by_seed": dict(sorted(Counter(record.seed for record in records).items())),
        "baselines": sorted({round(record.baseline.accuracy, 4) for record in measured}),
        "node_seconds": statistics.median(record.seconds for record in measured) if measured else None,
        "f_gain_mean": statistics.mean(gains) if gains else None,
        "f_gain_max": max(gains, default=None),
        "seconds": round(seconds, 1),
        "hardware": sorted({str(record.extra.get("hardware")) for record in records}),
        "precision": sorted({str(record.extra.get("precision")) for record in records}),
        "errors": sorted({str(record.error) for record in records if record.error})[:5],
    }


def record(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Train until everything is there or the time is up."""
    if task.recipe.precision == "auto":
        probe = probe_precision(create_network(task, seed=0), batch_size=task.recipe.batch_size)
        print(task.name, "precision", probe, flush=True)
        task = replace(task, recipe=replace(task.recipe, precision=probe.precision))
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    file = RecordLog(options.out, task=task)
    start, printed = time.monotonic(), 0.0
    budget = max(1.0, min(options.minutes * 60, (options.until or math.inf) - time.time()))
    store = Store(options.store or options.out.with_suffix(".store"))
    with (
        Runner(task, store, workers=options.workers, budget_seconds=budget) as runner,
        suppress(KeyboardInterrupt),
    ):
        # Many open requests, so that the next seed begins before the last nodes of this one are done.
        for finished in runner.run(requests(task, options.orders, seeds, options.controls), lookahead=256):
            file.add(finished)
            if not finished.kept:
                print(task.name, finished.request, finished.record.error, flush=True)
            if time.monotonic() - printed > 10:
                printed = time.monotonic()
                print(_progress(task, finished, len(file.records), printed - start), flush=True)
    return {"task": task.name, **summary(file.records, time.monotonic() - start)}


def _progress(task: Task, finished: Finished, done: int, seconds: float) -> str:
    points = finished.record.points
    accuracy = f"{points[0].accuracy:.4f}" if points else finished.record.error
    return (
        f"{task.name}: {done} records in {seconds:.0f} s; seed {finished.record.seed} "
        f"{finished.record.order} {accuracy} in {finished.record.seconds:.1f} s"
    )


def main() -> None:
    """Read the options, record, and tell what there is now."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", help="a built-in task or a TOML file")
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file, which is added to")
    parser.add_argument("--store", type=Path, help="folder of trained networks; default: beside the file")
    parser.add_argument("--seeds", default="0-2", help="first and last")
    parser.add_argument(
        "--orders", nargs="+", default=(), metavar="ORDER", help="those still in a race; default: all"
    )
    parser.add_argument("--controls", type=int, default=2, help="how many of the seeds have control arms")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--until", type=float, help="and in any case not beyond, in seconds since 1970")
    parser.add_argument("--xz", action="store_true", help="write a compressed copy at the end, too")
    options = parser.parse_args()
    print(json.dumps(record(load_task(options.task), options), indent=1), flush=True)
    if options.xz:
        packed = options.out.with_suffix(".jsonl.xz")
        packed.write_bytes(lzma.compress(options.out.read_bytes(), preset=6))


if __name__ == "__main__":
    main()
