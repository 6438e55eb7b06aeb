"""A task and a work function for tests of the runner: no training, only records and counted calls."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ordercomp.records import Baseline, OperatingPoint, Record
from ordercomp.running.jobs import NodeJob
from ordercomp.running.store import Store
from ordercomp.running.versions import code_version
from ordercomp.training.together import seats

__all__ = ["FakeTask", "calls", "make_record", "work"]


@dataclass(frozen=True)
class FakeTask:
    """What the runner and the fake work need."""

    log: Path  # every call of the work function appends a line
    name: str = "fake"
    digest: str = "task-digest"
    seconds: float = 0.0  # that each node takes


def make_record(job: NodeJob, *, error: str | None = None) -> Record:
    """A record whose accuracy falls with the length of the sequence."""
    accuracy = 0.99 - 0.01 * len(job.sequence)
    point = OperatingPoint(threshold=None, accuracy=accuracy, test_accuracy=accuracy, bitops_cr=2.0, cr=2.0)
    return Record(
        order=job.sequence.order,
        sequence=str(job.sequence),
        task=job.task.name,
        seed=job.seed,
        epochs=float(len(job.sequence)),
        seconds=0.1,
        baseline=Baseline(accuracy=0.99, test_accuracy=0.98),
        points=() if error else (point,),
        error=error,
    )


def count_call(job: NodeJob) -> None:
    """Append the node to the task's log in one write, which is atomic across processes."""
    descriptor = os.open(job.task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{job.sequence.order or '-'} {job.seed}\n".encode())
    finally:
        os.close(descriptor)


def calls(task: FakeTask) -> list[str]:
    """The nodes that were trained, in order, as `DP 0`; `- 0` is a baseline."""
    return task.log.read_text().splitlines() if task.log.exists() else []


def work(job: NodeJob) -> Record:
    """Pretend to train a node: its network is the sequence's text."""
    store = Store(job.store_root)
    if job.parent_key is not None and not store.has_network(job.parent_key):
        raise FileNotFoundError(job.parent_key)
    count_call(job)
    time.sleep(job.task.seconds)
    record = make_record(job)
    store.put(job.key, record, lambda path: _write(path, str(job.sequence)))
    return record


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def fail_at_p(job: NodeJob) -> Record:
    """A stage that diverges whenever the order ends with P; such failures are kept."""
    if not job.sequence.order.endswith("P"):
        return work(job)
    count_call(job)
    record = make_record(job, error="the loss is not finite")
    Store(job.store_root).put(job.key, record)
    return record


def run_out_of_memory_at_q(job: NodeJob) -> Record:
    """A failure of this run alone."""
    if job.sequence.order.endswith("Q"):
        count_call(job)
        raise MemoryError("no memory left")
    return work(job)


def _signal_worker(number: signal.Signals) -> None:
    """Send a signal to this process, which must be a worker and not the one that runs the tests."""
    if multiprocessing.parent_process() is None:
        raise AssertionError("this is no worker process: something makes the runner work in this one")
    os.kill(os.getpid(), number)


def die_once_at_dp(job: NodeJob) -> Record:
    """Kill the worker process at the first try of DP."""
    first = job.sequence.order == "DP" and "DP 0" not in calls(job.task)
    if first:
        count_call(job)
        _signal_worker(signal.SIGKILL)
    return work(job)


def die_beside_others_at_dp(job: NodeJob) -> Record:
    """Kill the worker process at DP where other seeds are trained beside it."""
    if seats() > 1 and job.sequence.order == "DP":
        _signal_worker(signal.SIGKILL)
    return work(job)


def stop_once_at_dp(job: NodeJob) -> Record:
    """Stop the worker process, as a debugger does, at the first try of DP."""
    first = job.sequence.order == "DP" and "DP 0" not in calls(job.task)
    if first:
        count_call(job)
        _signal_worker(signal.SIGSTOP)
    return work(job)


def die_at_dp(job: NodeJob) -> Record:
    """Kill the worker process at every try of DP."""
    if job.sequence.order == "DP":
        _signal_worker(signal.SIGKILL)
    return work(job)


def describe_worker(job: NodeJob) -> Record:
    """Note how many threads torch would use in this worker, and which version of the code it goes by."""
    work(job)
    return replace(make_record(job), extra={"threads": torch.get_num_threads(), "version": code_version()})


def describe_origin(job: NodeJob) -> Record:
    """A record that names its node, as those of real trainings do."""
    return replace(work(job), extra={"digest": job.key})


def sleep(seconds: float) -> int:
    """The id of the process, after so many seconds."""
    time.sleep(seconds)
    return os.getpid()


def divide(number: int) -> float:
    """One by it."""
    return 1 / number


def make_lambda(_: int) -> object:
    """What cannot be sent to another process."""
    return lambda: None
