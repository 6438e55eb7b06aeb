"""The runner: walks the trie of requested sequences and trains each node once, on any executor."""

import itertools
import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self

from filelock import FileLock

from ordercomp.errors import FailedRunError, is_out_of_disk, is_out_of_memory, one_line
from ordercomp.records import Record, TrainingCount
from ordercomp.running.graph import Graph, Node
from ordercomp.running.jobs import Finished, NodeJob, Request, TaskIdentity, key_of_record, node_key
from ordercomp.running.node import train_node
from ordercomp.running.store import Store, adopt_former_results
from ordercomp.running.workers import ExternalPool, LocalPool, WorkerPool
from ordercomp.sequence import StageSequence
from ordercomp.training.together import together

Work = Callable[[NodeJob], Record]
STARTED, ENDED = "started_job", "ended_job"  # attributes of log records at level INFO that hold a NodeJob
_POLL_SECONDS = 0.2
_MOST_ATTEMPTS = 3  # trainings of one node in one run, if its worker or its network gets lost
_COUNT_SECONDS = 60.0  # after which the networks in the store are counted again, as others add some, too
_log = logging.getLogger(__name__)


class WorkerDiedError(FailedRunError):
    """A worker died in training a node, and so did the next one that trained it."""


class DiskFullError(FailedRunError):
    """The store could not be written any more."""


class Dispatcher:
    """The nodes in training: claimed, handed to a worker, taken back with their record or their failure."""

    def __init__(
        self, graph: Graph, store: Store, pool: WorkerPool, work: Work, counts: Counter[str]
    ) -> None:
        """Add to `counts` the baselines and other nodes (`done`) that were trained."""
        self._graph = graph
        self._store = store
        self._pool = pool
        self._work = work
        self._counts = counts
        self._running: dict[Future[Any], list[tuple[Node, FileLock]]] = {}  # several: seeds side by side
        self._lost: set[str] = set()  # keys of nodes that lost a worker since any node was finished
        self._room = _Room(store)

    @property
    def load(self) -> int:
        """How many trainings go on here."""
        return len(self._running)

    def has_room(self, workers: int) -> bool:
        """Whether one of so many workers is idle, and no node in training is to be left alone."""
        return self.load < workers and (
            self._pool.external or not any(node.alone for held in self._running.values() for node, _ in held)
        )

    def may_start(self, node: Node) -> bool:
        """Whether a node can start beside those in training; one that lacked memory waits for their end."""
        return not node.alone or self._pool.external or self.load == 0

    def start(self, nodes: Sequence[Node]) -> list[Finished]:
        """Hand ready nodes of one sequence to a worker, but for those that `_claim` finds otherwise.

        Returns what is finished by that; mostly nothing.
        """
        finished: list[Finished] = []
        held: list[tuple[Node, FileLock]] = []
        for node in nodes:
            claim = self._claim(node)
            if isinstance(claim, list):
                finished += claim
            else:
                held.append((node, claim))
        if held:
            self._submit(held)
        return finished

    def _claim(self, node: Node) -> FileLock | list[Finished]:
        """The claim of a node; or what is finished if it is in the store, or trained by another runner."""
        job = node.job
        claim = self._store.claim(job.key)
        if claim is None:
            self._graph.leave_to_others(node)
            return []
        stored = self._store.get(job.key)
        if stored is not None and (stored.error is not None or self._store.has_network(job.key)):
            claim.release()
            return self._graph.finish(node, stored, reused=True)
        node.attempts += 1
        if node.attempts > _MOST_ATTEMPTS:
            claim.release()
            return self._graph.give_up(
                node, f"its network or its worker was lost in each of {_MOST_ATTEMPTS} trainings"
            )
        for need in node.needs:
            self._store.touch(need.job.key)
        self._graph.start(node)
        return claim

    def _submit(self, held: list[tuple[Node, FileLock]]) -> None:
        jobs = tuple(replace(node.job, alone=node.alone) for node, _ in held)
        try:
            if len(held) == 1:
                future: Future[Any] = self._pool.submit(self._work, jobs[0])
            else:
                future = self._pool.submit(work_side_by_side, (self._work, jobs))
        except BrokenExecutor:
            for _, claim in held:
                claim.release()
            self._train_again([node for node, _ in held])
            return
        self._running[future] = held
        for job in jobs:
            _log.info("training %s", node_label(job), extra={STARTED: job})

    def collect(self) -> list[Finished]:
        """Wait a moment for a node to end; return what is finished by that."""
        self._graph.look_again()
        finished: list[Finished] = []
        lost = []
        for future in self._pool.ended(_POLL_SECONDS):
            if future not in self._running:
                continue  # of an earlier run that was broken off
            held = self._running.pop(future)
            for node, claim in held:
                claim.release()
                _log.info("no longer training %s", node_label(node.job), extra={ENDED: node.job})
            if future.cancelled() or isinstance(future.exception(), BrokenExecutor):
                lost += [node for node, _ in held]
            elif len(held) > 1:
                finished += self._take_apart([node for node, _ in held], future)
            else:
                finished += self._take_back(held[0][0], future)
        if lost:
            self._train_again(lost)
        if finished:
            self._room.make(self._graph.needed_networks)
        return finished

    def close(self, *, kill: bool) -> None:
        """Wait for the running nodes, whose results stay in the store, or kill those of local workers.

        With `kill` those of others are waited for no longer.
        """
        if kill:
            self._pool.kill()
        while not (kill and self._pool.external) and not all(future.done() for future in self._running):
            self._pool.ended(_POLL_SECONDS)
        for held in self._running.values():
            for _, claim in held:
                claim.release()
        self._running.clear()

    def _take_apart(self, nodes: Sequence[Node], future: Future[Any]) -> list[Finished]:
        """Take in the records of seeds side by side; those without one are trained again, each alone."""
        error = future.exception()
        records = [None] * len(nodes) if error is not None else future.result()
        finished: list[Finished] = []
        for node, record in zip(nodes, records, strict=True):
            if record is not None:
                finished += self._take_record(node, record)
            else:
                node.apart = True
                node.attempts -= 1
                self._graph.put_back(node)
        return finished

    def _take_back(self, node: Node, future: Future[Any]) -> list[Finished]:
        try:
            record = future.result()
        except Exception as error:
            return self._take_failure(node, error)
        return self._take_record(node, record)

    def _take_record(self, node: Node, record: Record) -> list[Finished]:
        job = node.job
        self._lost.clear()
        self._counts["baselines" if job.parent_key is None else "done"] += 1
        self._room.count(job.key)
        return self._graph.finish(node, record, reused=False)

    def _take_failure(self, node: Node, error: Exception) -> list[Finished]:
        job = node.job
        if is_out_of_memory(error) and not node.alone:
            _log.warning("memory was short for %s; it is trained again, alone", node_label(job))
            node.alone = True
            self._graph.put_back(node)
            return []
        if isinstance(error, ValueError | AssertionError | FailedRunError) or job.parent_key is None:
            raise error
        if is_out_of_disk(error):
            raise DiskFullError(
                f"{self._store.folder} took no more results ({one_line(error)}); finished ones are kept: "
                "make room and run again"
            ) from error
        if not all(self._store.has_network(need.job.key) for need in node.needs):
            self._graph.put_back(node)  # a network was evicted by another runner: it is trained again
            return []
        _log.warning("%s at seed %d failed", job.sequence, job.seed, exc_info=error)
        return self._graph.give_up(node, f"{type(error).__name__}: {error}")

    def _train_again(self, lost: list[Node]) -> None:
        """Let nodes start again whose workers died; not for ever, if that is their doing."""
        names = ", ".join(node_label(node.job) for node in lost)
        if self._pool.external:
            raise WorkerDiedError(
                f"the executor lost its workers or its scheduler while training {names}. "
                "Finished nodes are kept: run again once they are back"
            )
        if any(node.job.key in self._lost for node in lost):
            raise WorkerDiedError(
                f"a worker process died while training {names}; was memory short, or does the calling script "
                'lack `if __name__ == "__main__":`? Finished nodes are kept: run again, with fewer workers'
            )
        _log.warning("a worker process died; training again: %s", names)
        for node in lost:
            self._lost.add(node.job.key)
            node.apart = True
            self._graph.put_back(node)


def work_side_by_side(order: tuple[Work, tuple[NodeJob, ...]]) -> tuple[Record | None, ...]:
    """Train nodes of one sequence at several seeds as one network; None: train that one alone."""
    work, jobs = order
    return tuple(together([partial(work, job) for job in jobs]))


def node_label(job: NodeJob) -> str:
    """What people call a node: its sequence, or the baseline, and its seed."""
    return f"{job.sequence or 'the baseline'} at seed {job.seed}"


class _Source(Iterator[Request]):
    """Requests, the next of which can be looked at before it is taken."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)
        self._seen: list[Request] = []  # one at most

    def __next__(self) -> Request:
        return self._seen.pop() if self._seen else next(self._requests)

    def is_next(self, sequence: StageSequence) -> bool:
        """Whether the next request is for this sequence."""
        if not self._seen:
            self._seen = list(itertools.islice(self._requests, 1))
        return bool(self._seen) and self._seen[0].sequence == sequence


class _Room:
    """The room that networks take in a store, counted anew only now and then, since that reads the folder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bytes = 0
        self._counted = -float("inf")  # when

    def count(self, key: str) -> None:
        """Add a new network."""
        self._bytes += self._store.network_bytes(key)

    def make(self, needed: Callable[[], set[str]]) -> None:
        """Evict networks that are not needed, if all of them take more than the store's cap."""
        now = time.monotonic()
        if now - self._counted > _COUNT_SECONDS or self._bytes > self._store.cap_bytes:
            self._store.evict(keep=needed())
            self._bytes = self._store.network_bytes()
            self._counted = now


class Runner:
    """Trains what is asked for, each node once, and keeps everything finished in the store.

    Budget, counters and local worker processes last from the first `run` to the last; `close`, the end of a
    `with` block or of the program stops the processes.
    """

    def __init__(
        self,
        task: TaskIdentity,
        store: Store,
        *,
        workers: int = 2,
        executor: Executor | None = None,
        budget_seconds: float | None = None,
        work: Work = train_node,
        side_by_side: int = 1,
    ) -> None:
        """Prepare a runner; nothing starts before `run`.

        Args:
            task: what is trained; workers get it with each job, so it must be picklable.
            store: where finished nodes are looked up and kept.
            workers: how many nodes are in training at once.
            executor: any `concurrent.futures` executor, which stays open; None starts local processes.
            budget_seconds: wall time since the first `run` began after which no node starts; None: no limit.
            work: trains one node, puts it into the store and returns its record. A failure that would happen
                again is a record with `error`; an exception is a failure of this run alone and is not kept.
            side_by_side: at most so many seeds of a sequence are trained as one network, where that is
                faster. Their records are as good as others and say so, but other bits.

        Raises:
            ValueError: fewer than one worker or seed side by side, or a budget that is not positive.
        """
        if side_by_side < 1:
            raise ValueError(f"side_by_side must be at least 1 seed, got {side_by_side}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if budget_seconds is not None and not budget_seconds > 0:
            raise ValueError(f"budget_seconds must be positive, got {budget_seconds}")
        self.task = task
        self.store = store
        self.workers = workers
        self.interrupted = False  # whether Ctrl-C or SIGTERM asked to stop; nothing starts from then on
        self._pool: WorkerPool = LocalPool(workers) if executor is None else ExternalPool(executor)
        self._budget_seconds = math.inf if budget_seconds is None else budget_seconds
        self._work = work
        self._side_by_side = side_by_side
        self._counts = Counter(done=0, reused=0, baselines=0, unshared=0)
        self._counted: set[int] = set()  # hashes of requests: a run may have millions
        self._started: float | None = None
        self._kill = False
        self._said_stopping = False  # whether the log says that the run stops

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the local worker processes; another `run` would start new ones."""
        self._pool.close()

    @property
    def trainings(self) -> TrainingCount:
        """What was done so far; `unshared` counts what the nodes yielded take if each starts anew."""
        return TrainingCount(**self._counts)

    @property
    def seconds(self) -> float:
        """Wall time since the first run began."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Wall time that the budget leaves; None without one."""
        return None if math.isinf(self._budget_seconds) else self._budget_seconds - self.seconds

    @property
    def budget_spent(self) -> bool:
        """Whether the time is up."""
        return self.seconds >= self._budget_seconds

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        """Yield every node of the requests as it is finished, prefixes too, each once, parents first.

        The next request is taken only when a worker has nothing to do, so `requests` may depend on what was
        yielded before; at most `lookahead` of them wait for a node in training, by default so many that all
        workers find a node while the first ones of a seed are in training. Where seeds may be trained side by
        side, requests are taken until one of another sequence comes, and without a `lookahead` so many at
        once, to find the seeds. Missing prefixes are trained in between, the baseline first, which is not
        yielded. After a failed stage its descendants come as failed records without training. When the budget
        is spent, or after Ctrl-C (then `interrupted` is True), nothing new starts and what runs is still
        yielded. A second Ctrl-C kills the workers and raises KeyboardInterrupt. SIGTERM interrupts, too, but
        what runs is killed: a cluster grants seconds.

        Raises ValueError and AssertionError from a worker as they are, whatever prevents a baseline, and
        WorkerDiedError. Other exceptions end up in a record with `kept` False.
        """
        if self._started is None:
            self._started = time.monotonic()
            if adopted := str(adopt_former_results(self.store, self.task.digest)):
                _log.warning("%s", adopted)
        graph = Graph(self.task, self.store)
        if lookahead is None:  # with fewer, many workers idle together while new seeds have a baseline only
            lookahead = max(64, 8 * self.workers) * self._side_by_side
            ahead = self._side_by_side > 1
        else:
            ahead = False
        lookahead = max(self.workers, lookahead)
        dispatcher = Dispatcher(graph, self.store, self._pool, self._work, self._counts)
        source = _Source(requests)
        with self._listen():
            try:
                while not self._kill:
                    for finished in self._start_nodes(dispatcher, graph, source, lookahead, ahead=ahead):
                        yield self._count(finished)
                    if dispatcher.load == 0 and (self._stopped or not graph.waits_for_others):
                        break
                    self._say_when_stopping(dispatcher.load)
                    for finished in dispatcher.collect():
                        yield self._count(finished)
            finally:
                self._close(dispatcher)

    def whole_network(self, record: Record) -> Path | None:
        """The network file of a record, checked against its digest; what is damaged or gone is trained again.

        None if the network was evicted, if the record is not of this task and code, or if a spent budget or
        an interrupt keeps it from being made.
        """
        key = key_of_record(self.task.digest, record)
        if key is None:
            return None
        path, sequence = self.store.network_path(key), StageSequence.parse(record.sequence)
        if self.store.get(key) is None and key == node_key(self.task.digest, sequence, record.seed):
            for _ in self.run([Request(sequence, record.seed)]):
                _log.info("made again: %s", record.sequence)
        return path if self.store.has_network(key) else None

    def _start_nodes(
        self, dispatcher: Dispatcher, graph: Graph, source: _Source, lookahead: int, *, ahead: bool
    ) -> Iterator[Finished]:
        """Give every idle worker a node, or several side by side, taking requests until there is one.

        With `ahead` all requests that the lookahead allows are taken first.
        """
        while dispatcher.has_room(self.workers) and not self._stopped:
            if ahead and graph.open_requests < lookahead and (request := next(source, None)) is not None:
                yield from graph.add(request)
                continue
            node = graph.next_node()
            if node is not None and not dispatcher.may_start(node):
                return
            if node is not None:
                idle = self.workers - dispatcher.load
                most = self._side_by_side
                yield from dispatcher.start(
                    [node] if most == 1 else graph.beside(node, most=most, workers=idle)
                )
            elif graph.open_requests < lookahead and (request := next(source, None)) is not None:
                yield from graph.add(request)
                while self._side_by_side > 1 and source.is_next(request.sequence):
                    yield from graph.add(next(source))
            else:
                return

    def _say_when_stopping(self, load: int) -> None:
        if self.interrupted and not self._said_stopping:
            self._said_stopping = True
            _log.warning("stopping: %d running trainings are finished first; Ctrl-C again ends them", load)

    @property
    def _stopped(self) -> bool:
        return self.interrupted or self.budget_spent

    def _count(self, finished: Finished) -> Finished:
        name = hash(finished.request)
        if name not in self._counted:
            self._counted.add(name)
            self._counts["reused"] += finished.reused
            self._counts["unshared"] += len(finished.request.sequence)
        return finished

    def _close(self, dispatcher: Dispatcher) -> None:
        try:
            dispatcher.close(kill=self._kill)
        except KeyboardInterrupt:  # a second Ctrl-C while waiting for the workers
            dispatcher.close(kill=True)
            raise

    @contextmanager
    def _listen(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as a wish to stop while the run lasts; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_interrupt(self, number: int, _frame: FrameType | None) -> None:
        again, self.interrupted = self.interrupted, True
        self._kill = again or number == signal.SIGTERM
        if again:
            raise KeyboardInterrupt
