"""How far does the scheduler go? The true runner on simulated trainings, from 1 to 1,024 workers.

    python benchmarks/scale.py                              # load, race and memory, some minutes
    python benchmarks/scale.py --only load --workers 256

Runner, graph of states, store, claims and files of records are the real ones. Only the training is not: a
node takes a simulated time of 60 s on average (lognormal, a third of spread), and its record comes from a
planted world, in which each pair of stages has an order that costs less. Time is virtual, but the driver's
own work counts as it is: while it is busy the clock goes on by the time that it really took, and idle workers
wait.

load    many more trainings than workers: the share of the workers' time that is spent in training, and
        the driver's milliseconds for a training
race    from nothing to the answer: trainings and hours of the race of `discover`, against all orders at as
        many seeds; beyond six stages these are only counted
memory  bytes that the runner keeps for a finished training, its store and its caller aside
"""

import argparse
import gc
import hashlib
import heapq
import itertools
import json
import math
import queue
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ordercomp.analysis.race import Cell, block_of, first_cells, look, next_cells
from ordercomp.analysis.values import chain_values, networks_of
from ordercomp.jobs.race import only_trained, with_prefixes
from ordercomp.records import Baseline, OperatingPoint, Record
from ordercomp.running import workers as dispatch
from ordercomp.running.jobs import Finished, NodeJob, Request
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.sequence import Order, StageSequence, permutations

LETTERS = "DPQESLWHAB"  # made-up stages beside ours
SECONDS = 60.0  # of a training, on average
SPREAD = 1 / 3  # of the logarithm of its time
SEEDS = 6  # of a race, at most
LOSS = 0.02
TIMES = 40  # trainings a worker, where the load is measured


@dataclass(frozen=True)
class World:
    """A task whose results are formulas: each pair of stages against the alphabet of `law` costs accuracy."""

    law: Order
    name: str = "planted"
    digest: str = "planted"

    def record(self, job: NodeJob) -> Record:
        """What the training of a node would have measured."""
        order, seed = job.sequence.order, job.seed
        wrong = sum(
            self.law.index(first) > self.law.index(other) for first, other in itertools.combinations(order, 2)
        )
        accuracy = 0.95 - 0.002 * len(order) - 0.004 * wrong + 0.002 * _normal(f"{order} {seed}")
        reduction = 4.0 ** len(order)
        points = tuple(
            OperatingPoint(
                threshold=None if level == 0 else 1 - level / 8,
                accuracy=accuracy - 0.03 * (level / 4) ** 2,
                test_accuracy=accuracy - 0.03 * (level / 4) ** 2,
                bitops_cr=reduction * (1 + 0.3 * level),
                cr=2.0 ** len(order),
            )
            for level in range(5)
        )
        return Record(
            order=order,
            sequence=str(job.sequence),
            task=self.name,
            seed=seed,
            epochs=10.0 * len(order),
            seconds=training_seconds(job),
            baseline=Baseline(accuracy=0.95, test_accuracy=0.95),
            points=points,
            extra={"digest": job.key, "parent": job.parent_key},
        )


class VirtualCluster(Executor):
    """Workers without processes: a job ends at a virtual time, and is done in the moment it is waited for."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.now = 0.0  # virtual seconds
        self.trained = 0.0  # seconds, summed over workers
        self.driver = 0.0  # seconds in which the driver was busy
        self.driver_cpu = 0.0  # of a processor, which other programs on the machine do not lengthen
        self.ended = 0
        self._running: list[tuple[float, int, Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self._finished: deque[Future[Any]] = deque()
        self._count = itertools.count()
        self.restart()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        """Begin a job now; its last argument says which."""
        self._pass()
        seconds = training_seconds(arguments[-1])
        self.trained += seconds
        future: Future[Any] = Future()
        assert len(self._running) < self.workers
        heapq.heappush(self._running, (self.now + seconds, next(self._count), future, work, arguments))
        return future

    def put(self, future: Future[Any]) -> None:
        """Note that a job has ended; the part of a queue that the dispatcher uses."""
        self._finished.append(future)

    def get(self, timeout: float) -> Future[Any]:
        """The next job to end, however far away that is."""
        del timeout
        self._pass()
        if not self._finished:
            self.now = max(self.now, self._running[0][0])
            while self._running and self._running[0][0] <= self.now:
                self._end()
        self.restart()  # what the workers did took no time of the driver
        return self._finished.popleft()

    def get_nowait(self) -> Future[Any]:
        """Another job that has ended by now."""
        if not self._finished:
            raise queue.Empty
        return self._finished.popleft()

    @property
    def idle(self) -> bool:
        """Whether nothing is in training."""
        return not self._running

    def restart(self) -> None:
        """Let the time of what was done meanwhile not count."""
        self._mark, self._cpu_mark = time.perf_counter(), time.process_time()

    def _end(self) -> None:
        _, _, future, work, arguments = heapq.heappop(self._running)
        self.ended += 1
        future.set_result(work(*arguments))

    def _pass(self) -> None:
        busy = time.perf_counter() - self._mark
        self.driver += busy
        self.now += busy
        self._mark += busy
        cpu = time.process_time()
        self.driver_cpu += cpu - self._cpu_mark
        self._cpu_mark = cpu


@dataclass(slots=True)
class Simulation:
    """A runner on a virtual cluster, with a store and a file of records in a folder."""

    cluster: VirtualCluster
    runner: Runner
    file: RecordLog

    def run(self, requests: Iterable[Request]) -> Iterator[Finished]:
        """Run what is asked for, and write each record as the commands do."""
        self.cluster.restart()
        for finished in self.runner.run(requests):
            self.file.add(finished)
            yield finished


@contextmanager
def simulation(stages: Order, workers: int) -> Iterator[Simulation]:
    """A fresh simulation in a folder that is removed afterwards."""
    cluster, before = VirtualCluster(workers), dispatch.queue
    dispatch.queue = SimpleNamespace(SimpleQueue=lambda: cluster, Empty=queue.Empty)
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            store = Store(Path(folder) / "store")
            work = _Work(store)
            with Runner(World(stages), store, workers=workers, executor=cluster, work=work) as runner:
                yield Simulation(cluster, runner, RecordLog(Path(folder) / "records.jsonl"))
    finally:
        dispatch.queue = before


class _Work:
    """What a worker does, in no time: put the record and a small network into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, job: NodeJob) -> Record:
        assert isinstance(job.task, World)
        record = job.task.record(job)
        self._store.put(job.key, record, lambda path: _write(path, job.key))
        return record


def training_seconds(job: NodeJob) -> float:
    """The simulated time of a node, always the same."""
    return SECONDS * math.exp(SPREAD * _normal(job.key) - SPREAD**2 / 2)


def load(stages: int, workers: int, *, trainings: int | None = None) -> dict[str, object]:
    """Efficiency and driver time where there is enough to do."""
    letters, wanted = LETTERS[:stages], trainings or max(600, TIMES * workers)
    with simulation(letters, workers) as simulated:
        cluster = simulated.cluster
        for _ in simulated.run(_endless(letters, cluster, wanted)):
            pass
        return {
            "what": "load",
            "stages": stages,
            "workers": workers,
            "trainings": cluster.ended,
            "efficiency": round(cluster.trained / (workers * cluster.now), 4),
            "driver_ms_per_training": round(1e3 * cluster.driver / cluster.ended, 2),
            "driver_cpu_ms_per_training": round(1e3 * cluster.driver_cpu / cluster.ended, 2),
            "virtual_hours": round(cluster.now / 3600, 2),
        }


def _endless(letters: Order, cluster: VirtualCluster, wanted: int) -> Iterator[Request]:
    """Random orders, at a new seed each few, until enough was begun."""
    rng = np.random.default_rng(0)
    for number in itertools.count():
        if cluster.ended + 2 * cluster.workers >= wanted:
            return
        order = "".join(rng.permutation(list(letters)))
        yield Request(StageSequence.parse(order), number // 24)


def race(stages: int, workers: int, *, seeds: int = SEEDS) -> dict[str, object]:
    """Trainings and virtual time until the race ends, and until every order ran at as many seeds."""
    letters = LETTERS[:stages]
    with simulation(letters, workers) as simulated:
        block, ran, looked = first_cells(letters), set[Cell](), None
        while block:
            for _ in simulated.run([Request(StageSequence.parse(order), seed) for order, seed in block]):
                pass
            ran |= with_prefixes(block)
            networks = networks_of(simulated.file.records, letters)
            looked = look(only_trained(chain_values(networks, letters, loss=LOSS), ran))
            block = next_cells(looked, ran, seeds=seeds, block=block_of(letters))
        assert looked is not None
        means = dict(zip(looked.orders, looked.pooled.mean(axis=0), strict=True))
        best = max((order for order in means if len(order) == stages), key=lambda order: means[order])
        done = len({seed for _, seed in ran})
        trainings, seconds = simulated.cluster.ended, simulated.cluster.now
    exhaustive = done * (1 + sum(math.perm(stages, length) for length in range(1, stages + 1)))
    return {
        "what": "race",
        "stages": stages,
        "workers": workers,
        "seeds": done,
        "trainings": trainings,
        "virtual_hours": round(seconds / 3600, 2),
        "agrees_with_the_law": best == letters,
        "exhaustive_trainings": exhaustive,
        **({"exhaustive_virtual_hours": _all_orders(letters, workers, done)} if stages <= 6 else {}),
    }


def _all_orders(letters: Order, workers: int, seeds: int) -> float:
    """Virtual hours to run every order at so many seeds."""
    with simulation(letters, workers) as simulated:
        orders = [StageSequence.parse(order) for order in permutations(letters)]
        for _ in simulated.run(Request(order, seed) for seed in range(seeds) for order in orders):
            pass
        return round(simulated.cluster.now / 3600, 2)


def memory(*, trainings: int = 6000, workers: int = 16) -> dict[str, object]:
    """Bytes that the runner holds more for each training that it has finished and nobody waits for."""
    _held(200, workers)  # what is made once, such as caches, is there from now on
    (first, before), (last, after) = _held(trainings // 4, workers), _held(trainings, workers)
    return {
        "what": "memory",
        "trainings": last,
        "bytes_per_finished_training": round((after - before) / (last - first)),
    }


def _held(trainings: int, workers: int) -> tuple[int, int]:
    """Trainings, and the bytes held when the last one has ended."""
    letters, held = LETTERS[:8], 0
    tracemalloc.start()
    with simulation(letters, workers) as simulated:
        cluster = simulated.cluster
        for _ in simulated.runner.run(_endless(letters, cluster, trainings + 2 * workers)):
            if cluster.idle:
                gc.collect()
                held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return cluster.ended, held


def _normal(text: str) -> float:
    """A standard normal number drawn from a text."""
    first, second = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.uint64) / 2**64
    return math.sqrt(-2 * math.log(1 - float(first))) * math.cos(2 * math.pi * float(second))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _measured(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    if options.only in (None, "load"):
        for stages in options.stages or (4, 10):
            for workers in options.workers or (1, 16, 256, 1024):
                yield load(stages, workers)
    if options.only in (None, "race"):
        for stages in options.stages or (4, 5, 6, 10):
            for workers in options.workers or (1, 16, 256):
                yield race(stages, workers)
    if options.only in (None, "memory"):
        yield memory()


def main() -> int:
    """Measure what is asked for; a JSON line each."""
    parser = argparse.ArgumentParser(description="The true scheduler on simulated trainings.")
    parser.add_argument("--only", choices=("load", "race", "memory"))
    parser.add_argument("--stages", type=int, action="append")
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--json", type=Path, help="a file that the lines are added to, too")
    options = parser.parse_args()
    for row in _measured(options):
        line = json.dumps(row)
        print(line, flush=True)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
