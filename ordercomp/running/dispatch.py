"""The jobs in training: claimed, handed to a worker, taken back with their record or their failure."""

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, wait
from dataclasses import dataclass, replace

from filelock import FileLock

from ordercomp.errors import FailedRunError, is_out_of_disk, is_out_of_memory, one_line
from ordercomp.records import Record
from ordercomp.running.graph import Graph, Node
from ordercomp.running.jobs import Finished, NodeJob
from ordercomp.running.store import Store
from ordercomp.running.workers import Crew

Work = Callable[[NodeJob], Record]

STARTED, ENDED = "started_job", "ended_job"  # attributes of log records at level INFO that hold a NodeJob

_POLL_SECONDS = 0.2
_MOST_DEATHS = 1  # of workers with nothing finished between them, before the runner gives up
_MOST_ATTEMPTS = 3  # trainings of one node in one run, if its worker or its network gets lost
_COUNT_SECONDS = 60.0  # after which the networks in the store are counted again, as others add some, too

_log = logging.getLogger(__name__)


class WorkerDiedError(FailedRunError):
    """A worker process died, and another one after the pool was rebuilt."""


class DiskFullError(FailedRunError):
    """The store could not be written any more."""


@dataclass(slots=True)
class Tally:
    """Counts while they grow."""

    baselines: int = 0  # trained
    stages: int = 0  # trained
    reused: int = 0  # nodes yielded that came from the store
    unshared: int = 0  # summed lengths of the nodes yielded


class Dispatcher:
    """Starts nodes on a crew and tells the graph how they ended."""

    def __init__(self, graph: Graph, store: Store, crew: Crew, work: Work, tally: Tally) -> None:
        self._graph = graph
        self._store = store
        self._crew = crew
        self._work = work
        self._tally = tally
        self._running: dict[Future[Record], tuple[Node, FileLock]] = {}
        self._ended: queue.SimpleQueue[Future[Record]] = queue.SimpleQueue()
        self._room = _Room(store)

    @property
    def load(self) -> int:
        """How many nodes are in training here."""
        return len(self._running)

    def has_room(self, workers: int) -> bool:
        """Whether one of so many workers is idle, and no node in training is to be left alone."""
        return self.load < workers and (
            self._crew.borrowed or not any(node.alone for node, _ in self._running.values())
        )

    def may_start(self, node: Node) -> bool:
        """Whether a node can start beside those in training; one that lacked memory waits for their end."""
        return not node.alone or self._crew.borrowed or self.load == 0

    def start(self, node: Node) -> list[Finished]:
        """Hand a ready node to a worker, unless the store has its result by now or another runner trains it.

        Returns what is finished by that; mostly nothing.
        """
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
        try:
            future = self._crew.submit(self._work, replace(job, alone=node.alone))
        except BrokenExecutor:
            claim.release()
            self._replace_crew([node])
            return []
        self._running[future] = (node, claim)
        future.add_done_callback(self._ended.put)
        _log.info("training %s", name_node(job), extra={STARTED: job})
        return []

    def collect(self) -> list[Finished]:
        """Wait a moment for a node to end; return what is finished by that."""
        self._graph.look_again()
        if not self._running:
            time.sleep(_POLL_SECONDS)
            return []
        self._crew.watch()
        done = self._take_ended()
        if any(map(_is_lost, done)):
            wait(self._running)  # one death breaks them all
            done = list(self._running)
        finished: list[Finished] = []
        lost = []
        for future in done:
            if future not in self._running:
                continue
            node, claim = self._running.pop(future)
            claim.release()
            _log.info("no longer training %s", name_node(node.job), extra={ENDED: node.job})
            if _is_lost(future):
                lost.append(node)
            else:
                finished += self._take_back(node, future)
        if lost:
            self._replace_crew(lost)
        if finished:
            self._room.make(self._graph.needed_networks)
        return finished

    def close(self, *, kill: bool) -> None:
        """Wait for the running nodes, whose results stay in the store, or kill those of our own pool."""
        if kill:
            self._crew.kill()
        wait(self._running)
        for _, claim in self._running.values():
            claim.release()
        self._running.clear()

    def _take_ended(self) -> list[Future[Record]]:
        done = []
        try:
            done.append(self._ended.get(timeout=_POLL_SECONDS))
            while True:
                done.append(self._ended.get_nowait())
        except queue.Empty:
            return done

    def _take_back(self, node: Node, future: Future[Record]) -> list[Finished]:
        job = node.job
        try:
            record = future.result()
        except Exception as error:
            if is_out_of_memory(error) and not node.alone:
                _log.warning("memory was short for %s; it is trained again, alone", name_node(job))
                node.alone = True
                self._graph.put_back(node)
                return []
            if isinstance(error, ValueError | AssertionError | FailedRunError) or job.parent_key is None:
                raise
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
        self._crew.deaths = 0
        if job.parent_key is None:
            self._tally.baselines += 1
        else:
            self._tally.stages += 1
        self._room.count(job.key)
        return self._graph.finish(node, record, reused=False)

    def _replace_crew(self, lost: list[Node]) -> None:
        jobs = [node.job for node in lost]
        names = ", ".join(map(name_node, jobs))
        if self._crew.borrowed:
            raise WorkerDiedError(
                f"the executor lost its workers or its scheduler while training {names}. "
                "Finished nodes are kept: run again once they are back"
            )
        if self._crew.deaths >= _MOST_DEATHS:
            raise WorkerDiedError(
                f"a worker process died while training {names}; was memory short, or does the calling script "
                'lack `if __name__ == "__main__":`? Finished nodes are kept: run again, with fewer workers'
            )
        _log.warning("a worker process died; training again: %s", names)
        self._crew.drop_broken_pool()
        for node in lost:
            self._graph.put_back(node)


def _is_lost(future: Future[Record]) -> bool:
    """Whether the executor has lost a job with its worker or its scheduler."""
    return future.cancelled() or isinstance(future.exception(), BrokenExecutor)


def name_node(job: NodeJob) -> str:
    """What people call a node: its sequence, or the baseline, and its seed."""
    return f"{job.sequence or 'the baseline'} at seed {job.seed}"


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
