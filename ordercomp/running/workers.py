"""Local worker processes: one thread each, deaf to Ctrl-C and SIGTERM, gone when their parent is."""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TypeVar, cast

import torch

from ordercomp.errors import one_line
from ordercomp.running.versions import adopt_code_version, code_version

STOPPED_SECONDS = 60.0  # after which a stopped worker counts as dead


_WATCH_SECONDS = 1.0


_WORKER_BYTES = 2 * 2**30  # memory that a worker may take


_WORKERS_A_GPU = 8


Argument = TypeVar("Argument")


Result = TypeVar("Result")


class WorkerPool:
    """The executor that does the work: the caller's, or a pool of our own that starts with the first job."""

    def __init__(self, executor: Executor | None, *, workers: int) -> None:
        self._borrowed = executor
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._stopped: dict[int, float] = {}  # seconds since a worker was seen stopped, by process id
        self._watched = time.monotonic()
        self.deaths = 0  # pools of ours that were lost with a worker since something was finished

    @property
    def external(self) -> bool:
        """Whether the executor is the caller's."""
        return self._borrowed is not None

    def submit(self, work: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
        """Hand `work(argument)` to a worker."""
        if self._borrowed is not None:
            return self._borrowed.submit(_work_elsewhere, code_version(), work, argument)
        if self._pool is None:
            self._pool = local_pool(self._workers)
        try:
            with shield_from_interrupt():
                return self._pool.submit(work, argument)
        except BrokenExecutor:
            raise
        except RuntimeError as error:  # no thread could be started
            raise BrokenProcessPool(str(error)) from error

    def drop_broken_pool(self) -> None:
        """Let go of a pool whose worker died; the next job starts a new one."""
        self.deaths += 1
        if self._pool is not None:
            _kill_unattended(self._pool)
            self._pool.shutdown(wait=_is_attended(self._pool), cancel_futures=True)
            self._pool = None

    def watch(self) -> None:
        """See to it that work ends: break a pool that nobody attends, kill workers stopped for a minute.

        A worker is stopped by SIGSTOP or a debugger, and never ends. Time in which this process does not run
        either, such as after Ctrl-Z, does not count.
        """
        elapsed = time.monotonic() - self._watched
        if self._pool is None or elapsed < _WATCH_SECONDS:
            return
        self._watched += elapsed
        _kill_unattended(self._pool)
        for pid, process in list((self._pool._processes or {}).items()):
            if _is_stopped(pid):
                self._stopped[pid] = self._stopped.get(pid, 0.0) + min(elapsed, 2 * _WATCH_SECONDS)
                if self._stopped[pid] > STOPPED_SECONDS:
                    process.kill()
            else:
                self._stopped.pop(pid, None)

    def kill(self) -> None:
        """End our own workers at once, whatever they do. Nothing can be done to a external executor."""
        if self._pool is not None:
            _kill_workers(self._pool)
            self.drop_broken_pool()

    def close(self) -> None:
        """Stop our own workers once they are idle. A external executor goes on."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


def local_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of `workers` freshly started processes that compute with one thread each.

    They leave Ctrl-C to the parent, and end as soon as it dies. Scripts that use it need the usual
    `if __name__ == "__main__":`.
    """
    context = multiprocessing.get_context("spawn")
    started = context.Value("i", 0)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_prepare_worker, initargs=(code_version(), started)
    )


def usable_workers() -> int:
    """How many workers suit this machine: one for each core that this process may use, two GiB or more each.

    With GPUs at most eight for each, since their memory is shared.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(cores, max(1, _memory_bytes() // _WORKER_BYTES))
    if torch.cuda.is_available():
        most = min(most, _WORKERS_A_GPU * torch.cuda.device_count())
    return max(1, most)


def refuse_unguarded(name: str) -> None:
    """Raise RuntimeError in a worker that imports the script of its parent and finds `name` called there."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            f"{name} was called while a worker imports this script; "
            f'put the call below `if __name__ == "__main__":`'
        )


@contextmanager
def shield_from_interrupt() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM away from processes that are started inside; this one gets them afterwards.

    A worker would otherwise die of it while it is still importing, before it can ignore it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work_elsewhere(version: str, work: Callable[[Argument], Result], argument: Argument) -> Result:
    """Work as a worker of ours does: with one thread, and by the names that the runner gives to nodes."""
    torch.set_num_threads(1)
    if version != code_version():
        adopt_code_version(version)
    return work(argument)


def _memory_bytes() -> int:
    """Of the machine, or of the container's limit; a terabyte where that cannot be told."""
    sizes = [2**40]
    with suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes)


def _is_attended(pool: ProcessPoolExecutor) -> bool:
    """Whether the pool's own thread runs or is not needed yet; it may end, or not start, for want of room."""
    manager = cast(threading.Thread | None, pool._executor_manager_thread)  # whatever typeshed says
    return manager is None or manager.is_alive()


def _kill_unattended(pool: ProcessPoolExecutor) -> None:
    """Kill the workers of a pool that nobody attends, and fail its jobs, none of which would ever end."""
    if _is_attended(pool):
        return
    _kill_workers(pool)
    for item in list(pool._pending_work_items.values()):
        with suppress(InvalidStateError):
            item.future.set_exception(BrokenProcessPool("the thread that attends the workers has ended"))


def _kill_workers(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()


def _prepare_worker(version: str, started: "Synchronized[int]") -> None:
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, they are the parent's to answer
        signal.signal(one, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what a model prints is no result
    torch.set_num_threads(1)
    adopt_code_version(version)
    with started.get_lock():
        place, started.value = started.value, started.value + 1
    _pin_to_gpu(place)
    _follow_parent()


def _follow_parent() -> None:
    """End this process as soon as its parent does, or at once where no thread can be started to see to it."""
    try:
        threading.Thread(target=_die_with_parent, daemon=True).start()
    except RuntimeError:
        os._exit(1)


def _pin_to_gpu(place: int) -> None:
    """Give the workers, in the order in which they started, the GPUs in turn, where there are several."""
    if torch.cuda.is_available() and (gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(place % gpus)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as the process table tells; False where there is none to read."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# Workers on other machines: the executor of a running Dask cluster, where one is asked for.


_SECONDS = 10  # for a scheduler to answer


_LOUD = ("distributed", "distributed.client")  # they log tracebacks of what is told in a line


@contextmanager
def executor_at(address: str | None, *, workers: int | None) -> Iterator[tuple[Executor | None, int]]:
    """Connect to the scheduler at `address`; give its executor and how many nodes it trains at once.

    These are as many as its workers have threads, and no fewer than `workers`, so that more of them keep
    some work ready for workers that join later. Without an address there is no executor, and `workers` stay;
    None are as many as suit this machine.

    Raises ValueError if `distributed` is not installed or no scheduler answers there.
    """
    if address is None:
        yield None, workers or usable_workers()
        return
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise ValueError("--dask needs the package distributed: pip install 'ordercomp[dask]'") from None
    try:
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--dask must be the address of a running scheduler such as tcp://host:8786, got {address!r}: "
            f"{one_line(error)}"
        ) from None
    with _quiet(), client:
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), max(workers or 1, threads)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
