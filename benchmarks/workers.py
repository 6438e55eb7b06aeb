"""How soon a worker is there: at the start of a run, and after the death of one.

    python benchmarks/workers.py [--rounds 5]

Both ways of starting workers in turn: forks of a server that has imported everything, as on Linux, and fresh
interpreters, as elsewhere. Each round is a process of its own. Seconds of the wall until a job that needs
nothing is done by the only worker.
"""

import argparse
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from multiprocessing.context import BaseContext
from types import SimpleNamespace

from ordercomp.running import node, workers

METHODS = ("forkserver", "spawn")


def wait_for_job(pool: workers.LocalPool) -> int | None:
    """Have a job done that needs nothing; return the number of the only worker's process."""
    future = pool.submit(node.log_notices, SimpleNamespace(notices=()))
    while not future.done():
        pool.ended(0.01)
    future.result()
    return pool._workers[0].process.pid


def run_round(method: str) -> None:
    """Print the seconds until the first jobs, and from the death of a worker to the end of the next job."""

    def start_method() -> BaseContext:
        return multiprocessing.get_context(method)

    setattr(workers, "_start_method", start_method)  # noqa: B010
    pool = workers.LocalPool(1)
    times = [time.perf_counter()]
    worker = wait_for_job(pool)
    times.append(time.perf_counter())
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    while pool._workers:
        pool.ended(0.01)
    wait_for_job(pool)
    times.append(time.perf_counter())
    pool.close()
    print(times[1] - times[0], times[2] - times[1])


def main() -> None:
    """Print medians by way of starting."""
    parser = argparse.ArgumentParser(description="Seconds until a worker is there.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", choices=METHODS)
    options = parser.parse_args()
    if options.method is not None:
        run_round(options.method)
        return
    rows: dict[str, list[tuple[float, ...]]] = {method: [] for method in METHODS}
    for _ in range(options.rounds):
        for method in METHODS:
            command = [sys.executable, __file__, "--method", method]
            seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            rows[method].append(tuple(map(float, seconds)))
    for method in METHODS:
        first, again = (statistics.median(column) for column in zip(*rows[method], strict=True))
        print(f"{method:10}  first job after {first:5.2f} s  next after a death {again:5.2f} s")


if __name__ == "__main__":
    main()
