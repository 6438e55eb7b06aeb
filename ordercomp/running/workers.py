"""Who trains nodes: local worker processes, or the executor of a caller or of a running Dask cluster.

A local worker is one process at the other end of one pipe. Workers share nothing, no lock nor queue, so that
the death of one, idle or busy, costs its own job and nothing else. On Linux they are forks of a server that
has imported what they need and computes nothing, so that one that died is replaced within a second.
"""

import atexit
import importlib
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ordercomp.errors import one_line
from ordercomp.running.versions import adopt_code_version, code_version

STOPPED_SECONDS = 60.0  # after which a stopped worker counts as dead
_WATCH_SECONDS = 1.0
_END_SECONDS = 10.0  # that a worker is given to end by itself
_WORKER_BYTES = 2 * 2**30  # memory that a worker may take
_WORKERS_A_GPU = 8
_LATE = ("torch._dynamo",)  # two seconds, which the first optimizer of a process takes to import it
Argument = TypeVar("Argument")
Result = TypeVar("Result")


class WorkerPool(Protocol):
    """Workers that take jobs and give back results. One thread at a time uses it."""

    external: bool  # whether the workers are somebody else's, to be neither watched nor ended

    def submit(self, work: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
        """Hand `work(argument)` to a worker."""

    def ended(self, seconds: float) -> list[Future[Any]]:
        """Wait up to so long for a job to end; return those that have.

        A job that was lost with its worker has a BrokenExecutor for its exception.
        """

    def kill(self) -> None:
        """End local workers at once, whatever they do; their jobs are lost."""

    def close(self) -> None:
        """End local workers once they are idle."""


class ExternalPool:
    """The workers of any `concurrent.futures` executor, which stays open."""

    external = True

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def submit(self, work: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
        future = self._executor.submit(_work_elsewhere, code_version(), work, argument)
        future.add_done_callback(self._ended.put)
        return future

    def ended(self, seconds: float) -> list[Future[Any]]:
        futures = []
        with suppress(queue.Empty):
            futures.append(self._ended.get(timeout=seconds))
            while True:
                futures.append(self._ended.get_nowait())
        return futures

    def kill(self) -> None:
        pass  # nothing can be done to them

    def close(self) -> None:
        pass


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that does one job after another until it is told to end or its pipe is closed."""

    process: BaseProcess
    pipe: Connection
    starting: bool = True  # as long as it imports
    job: Future[Any] | None = None
    stopped_seconds: float = 0.0


class LocalPool:
    """Up to `workers` processes, started afresh as jobs come, that compute with one thread each.

    They leave Ctrl-C and SIGTERM to this process, and end as soon as it does. Scripts that use it need the
    usual `if __name__ == "__main__":`. No more than `workers` jobs may be there at a time.
    """

    external = False

    def __init__(self, workers: int) -> None:
        self._most = workers
        self._workers: dict[int, _Worker] = {}  # by place
        self._waiting: deque[tuple[Future[Any], Callable[[Any], Any], memoryview]] = deque()
        self._ended: list[Future[Any]] = []
        self._watched = time.monotonic()
        _pools.add(self)

    def submit(self, work: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
        future: Future[Result] = Future()
        self._waiting.append((future, work, ForkingPickler.dumps((work, argument))))
        future.add_done_callback(self._ended.append)
        self._assign()
        return future

    def ended(self, seconds: float) -> list[Future[Any]]:
        self._watch()
        if not self._ended:
            ready = wait([worker.pipe for worker in self._workers.values()], seconds)
            for place, worker in list(self._workers.items()):
                if worker.pipe in ready:
                    self._receive(place)
                elif not ready and not worker.process.is_alive():  # a child of its own holds the pipe open
                    self._end(place)
            self._assign()
        ended = list(self._ended)
        self._ended.clear()
        return ended

    def kill(self) -> None:
        for worker in self._workers.values():
            _kill(worker.process)
        for place in list(self._workers):
            self._end(place)
        while self._waiting:
            _lose(self._waiting[0][0])
            self._waiting.popleft()

    def close(self) -> None:
        try:
            while self._waiting or any(worker.job is not None for worker in self._workers.values()):
                self.ended(_WATCH_SECONDS)
            for worker in self._workers.values():
                with suppress(OSError):  # it has died
                    worker.pipe.send(None)  # closing would not do: another process may hold this end
                worker.pipe.close()
                if worker.starting:
                    _kill(worker.process)
            for worker in self._workers.values():
                worker.process.join(_END_SECONDS)
        finally:
            self.kill()

    def _assign(self) -> None:
        """Give waiting jobs to idle workers, and see to it that as many start as jobs are left."""
        for place, worker in list(self._workers.items()):
            if self._waiting and not worker.starting and worker.job is None:
                future, _, job = self._waiting[0]
                try:
                    worker.pipe.send_bytes(job)
                except OSError:  # it has died
                    self._end(place)
                    continue
                worker.job = future
                self._waiting.popleft()
        short = len(self._waiting) - sum(worker.starting for worker in self._workers.values())
        free = [place for place in range(self._most) if place not in self._workers]
        for place in free[: max(0, short)]:
            try:
                self._workers[place] = _start_worker(place, self._waiting[0][1])
            except (OSError, EOFError) as error:
                _lose(self._waiting.popleft()[0], one_line(error) or "a worker process did not start")

    def _receive(self, place: int) -> None:
        """Take what a worker has sent: the outcome of its job, or an empty one once it has started."""
        worker = self._workers[place]
        try:
            result, error, trace = worker.pipe.recv()
        except (EOFError, OSError):
            self._end(place)
            return
        except Exception as unreadable:  # an error that cannot be unpickled, for one
            result, error, trace = None, unreadable, ""
        worker.starting = False
        if worker.job is not None and error is None:
            worker.job.set_result(result)
        elif worker.job is not None:
            error.__cause__ = _RemoteError(trace) if trace else None
            worker.job.set_exception(error)
        worker.job = None

    def _end(self, place: int) -> None:
        """Let go of a worker, by force if it lives; its job is lost, or one that waited for its start."""
        worker = self._workers[place]
        _kill(worker.process)
        if worker.job is not None:
            _lose(worker.job)
        elif worker.starting and self._waiting:
            _lose(self._waiting.popleft()[0])
        worker.pipe.close()
        worker.process.join(_END_SECONDS)
        self._workers.pop(place, None)

    def _watch(self) -> None:
        """Kill workers that were stopped for a minute, by SIGSTOP or a debugger, and would never end.

        Time in which this process does not run either, such as after Ctrl-Z, does not count.
        """
        elapsed = time.monotonic() - self._watched
        if elapsed < _WATCH_SECONDS:
            return
        self._watched += elapsed
        for worker in self._workers.values():
            stopped = worker.stopped_seconds + min(elapsed, 2 * _WATCH_SECONDS)
            worker.stopped_seconds = stopped if _is_stopped(worker.process.pid) else 0.0
            if worker.stopped_seconds > STOPPED_SECONDS:
                _kill(worker.process)


_pools: weakref.WeakSet[LocalPool] = weakref.WeakSet()


@atexit.register  # later than multiprocessing, whose own function waits for all processes: so it comes first
def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


def usable_workers() -> int:
    """How many workers suit this machine: one for each core that this process may use, two GiB or more each.

    With GPUs at most eight for each, since their memory is shared.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(cores, max(1, _memory_bytes() // _WORKER_BYTES))
    if torch.cuda.is_available():
        most = min(most, _WORKERS_A_GPU * torch.cuda.device_count())
    return max(1, most)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of torch, as workers do; several wait for each other beside busy workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_unguarded(name: str) -> None:
    """Raise RuntimeError in a worker that imports the script of its parent and finds `name` called there."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            f"{name} was called while a worker imports this script; "
            f'put the call below `if __name__ == "__main__":`'
        )


def _work_elsewhere(version: str, work: Callable[[Argument], Result], argument: Argument) -> Result:
    """Work as a worker of ours does: with one thread, and by the names that the runner gives to nodes."""
    torch.set_num_threads(1)
    if version != code_version():
        adopt_code_version(version)
    return work(argument)


class _RemoteError(Exception):
    """Where an error came from in the worker; the cause of that error here."""


def _lose(job: Future[Any], why: str = "a worker process died") -> None:
    if not job.done():
        job.set_exception(BrokenExecutor(why))


def _start_worker(place: int, work: Callable[[Any], Any]) -> _Worker:
    """Start a process. It gets `work` to import what that needs before it takes a job."""
    context = _start_method()
    pipe, theirs = context.Pipe()
    arguments = (theirs, dict(os.environ), code_version(), place, work)
    process = context.Process(target=_serve, args=arguments)  # type: ignore[attr-defined]
    context.set_forkserver_preload([__name__, *_LATE, *({work.__module__} - {"__main__"})])
    with theirs, _same_path(), _shield_from_interrupt():
        process.start()
    return _Worker(process, pipe)


def _start_method() -> BaseContext:
    """Forks of a server that has imported everything, where these compute: not beside a GPU, nor on macOS."""
    forks = sys.platform == "linux" and not torch.cuda.is_available()
    return multiprocessing.get_context("forkserver" if forks else "spawn")


def _kill(process: BaseProcess) -> None:
    """Kill a process, unless it has ended: its number may be another one's by then."""
    if process.is_alive():
        process.kill()


@contextmanager
def _same_path() -> Iterator[None]:
    """Let processes that are started inside find modules where this one does.

    Python would look in the working folder first, where a clone of another version may lie, or a torch.py.
    """
    names = ("PYTHONSAFEPATH", "PYTHONPATH")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(zip(names, ("1", os.pathsep.join(sys.path)), strict=True))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _shield_from_interrupt() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM away from processes that are started inside; this one gets them afterwards.

    A worker would otherwise die of it while it is still importing, before it can ignore it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which lets both signals in again once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    pipe: Connection, environment: dict[str, str], version: str, place: int, _work: Callable[[Any], Any]
) -> None:
    """Do jobs as they come through the pipe, as a process of its own."""
    os.environ.clear()  # a fork has that of its server
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, they are the parent's to answer
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what a model prints is no result
    torch.set_num_threads(1)
    adopt_code_version(version)
    _pin_to_gpu(place)
    _follow_parent()
    with suppress(EOFError, OSError):  # the other end is closed
        pipe.send((None, None, ""))
        while (job := pipe.recv()) is not None:
            pipe.send_bytes(_outcome(*job))


def _outcome(work: Callable[[Argument], object], argument: Argument) -> memoryview:
    """The pickled result of `work(argument)`, or its error and where that came from."""
    try:
        return ForkingPickler.dumps((work(argument), None, ""))
    except BaseException as error:
        trace = traceback.format_exc()
        with suppress(Exception):
            return ForkingPickler.dumps((None, error, trace))
        return ForkingPickler.dumps((None, RuntimeError(f"{type(error).__name__}: {one_line(error)}"), trace))


def _pin_to_gpu(place: int) -> None:
    """Give workers the GPUs in turn, where there are several."""
    if torch.cuda.is_available() and (gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(place % gpus)


def _follow_parent() -> None:
    """End this process as soon as its parent does, or at once where no thread can be started to see to it."""

    def die_with_parent() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    try:
        threading.Thread(target=die_with_parent, daemon=True).start()
    except RuntimeError:
        os._exit(1)


def _is_stopped(pid: int | None) -> bool:
    """Whether a process is stopped, as the process table tells; False where there is none to read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def _memory_bytes() -> int:
    """Of the machine, or of the container's limit; a terabyte where that cannot be told."""
    sizes = [2**40]
    with suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes)


# Workers on other machines: the executor of a running Dask cluster, where one is asked for.

_SECONDS = 10  # for a scheduler to answer
_LOOK_SECONDS = 10.0  # between two looks for workers
_log = logging.getLogger(__name__)
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
        with watching(client, address):
            yield client.get_executor(pure=False), max(workers or 1, threads)


@contextmanager
def watching(client: Any, address: str) -> Iterator[None]:
    """Say so when no worker of a cluster is left: what was handed to it waits until one joins."""
    over = threading.Event()

    def watch() -> None:
        warned = False
        while not over.wait(_LOOK_SECONDS):
            with suppress(Exception):  # no answer: the scheduler is gone, of which the runner hears
                lost = not client.nthreads()
                if lost and not warned:
                    _log.warning(
                        "no worker is left at %s: waiting for one to join; Ctrl-C twice ends", address
                    )
                warned = lost

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
