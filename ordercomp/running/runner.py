"""The runner: walks the trie of requested sequences and trains each node once, on any executor."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from ordercomp.records import Record
from ordercomp.running.care import adopt_former_results
from ordercomp.running.dispatch import Dispatcher, Tally, Work, WorkerDiedError
from ordercomp.running.graph import Graph
from ordercomp.running.jobs import Finished, NodeJob, Request, TaskIdentity, key_of_record, node_key
from ordercomp.running.node import train_node
from ordercomp.running.store import Store
from ordercomp.running.workers import Crew
from ordercomp.sequence import StageSequence

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainings:
    """What a runner did. Baselines count apart: every order needs one, shared or not."""

    done: int = 0  # stages trained
    reused: int = 0  # nodes that an earlier run had trained
    baselines: int = 0  # baselines trained
    unshared: int = 0  # stage trainings that the same nodes take if each starts from its baseline
    seconds: float = 0.0  # wall time since its first run began


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

        Raises:
            ValueError: fewer than one worker, or a budget that is not positive.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if budget_seconds is not None and not budget_seconds > 0:
            raise ValueError(f"budget_seconds must be positive, got {budget_seconds}")
        self.task = task
        self.store = store
        self.workers = workers
        self.interrupted = False  # whether Ctrl-C or SIGTERM asked to stop; nothing starts from then on
        self._crew = Crew(executor, workers=workers)
        self._budget_seconds = math.inf if budget_seconds is None else budget_seconds
        self._work = work
        self._tally = Tally()
        self._counted: set[int] = set()  # hashes of requests: a run may have millions
        self._started: float | None = None
        self._kill = False
        self._said = False  # whether the log says that the run stops

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the local worker processes; another `run` would start new ones."""
        self._crew.close()

    @property
    def trainings(self) -> Trainings:
        """What was done so far."""
        tally = self._tally
        return Trainings(
            done=tally.stages,
            reused=tally.reused,
            baselines=tally.baselines,
            unshared=tally.unshared,
            seconds=self._seconds,
        )

    @property
    def budget_spent(self) -> bool:
        """Whether the time is up."""
        return self._seconds >= self._budget_seconds

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        """Yield every node of the requests as it is finished, prefixes too, each once, parents first.

        The next request is taken only when a worker has nothing to do, so `requests` may depend on what was
        yielded before; at most `lookahead` of them wait for a node in training, by default so many that all
        workers find a node while the first ones of a seed are in training. Missing prefixes are trained in
        between, the baseline first, which is not yielded. After a failed stage its descendants come as
        failed records without training. When the budget is spent, or after Ctrl-C (then `interrupted` is
        True), nothing new starts and what runs is still yielded. A second Ctrl-C kills the workers and raises
        KeyboardInterrupt. SIGTERM interrupts, too, but what runs is killed: a cluster grants seconds.

        Raises ValueError and AssertionError from a worker as they are, whatever prevents a baseline, and
        WorkerDiedError. Other exceptions end up in a record with `kept` False.
        """
        if self._started is None:
            self._started = time.monotonic()
            if told := str(adopt_former_results(self.store, self.task.digest)):
                _log.warning("%s", told)
        graph = Graph(self.task, self.store)
        most = max(self.workers, _least_lookahead(self.workers) if lookahead is None else lookahead)
        dispatcher = Dispatcher(graph, self.store, self._crew, self._work, self._tally)
        source = _Source(requests)
        with self._listen():
            try:
                while not self._kill:
                    for finished in self._start_nodes(dispatcher, graph, source, most):
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
        self, dispatcher: Dispatcher, graph: Graph, source: "_Source", lookahead: int
    ) -> Iterator[Finished]:
        """Give every idle worker a node, taking requests until there is one."""
        while dispatcher.has_room(self.workers) and not self._stopped:
            node = graph.next_node()
            if node is not None and not dispatcher.may_start(node):
                return
            if node is not None:
                yield from dispatcher.start(node)
            elif graph.open_requests < lookahead and (request := source.take()) is not None:
                yield from graph.add(request)
            else:
                return

    def _say_when_stopping(self, load: int) -> None:
        if self.interrupted and not self._said:
            self._said = True
            _log.warning("stopping: %d running trainings are finished first; Ctrl-C again ends them", load)

    @property
    def _stopped(self) -> bool:
        return self.interrupted or self.budget_spent

    @property
    def _seconds(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def _count(self, finished: Finished) -> Finished:
        name = hash(finished.request)
        if name not in self._counted:
            self._counted.add(name)
            self._tally.reused += finished.reused
            self._tally.unshared += len(finished.request.sequence)
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
        before = {one: signal.signal(one, self._on_interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _on_interrupt(self, number: int, _frame: FrameType | None) -> None:
        again, self.interrupted = self.interrupted, True
        self._kill = again or number == signal.SIGTERM
        if again:
            raise KeyboardInterrupt


def _least_lookahead(workers: int) -> int:
    """Requests to keep open: with fewer, many workers idle together while new seeds have a baseline only."""
    return max(64, 8 * workers)


class _Source:
    """Requests taken one at a time, None once there are no more."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)

    def take(self) -> Request | None:
        return next(self._requests, None)
