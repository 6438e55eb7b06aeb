"""The jobs in training: claimed, handed to a worker, taken back with their record or their failure."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass

from filelock import FileLock

from ordercomp.records import Record
from ordercomp.running.jobs import Finished, NodeJob
from ordercomp.running.processes import Crew
from ordercomp.running.states import Walk, failed_record
from ordercomp.running.store import Store

__all__ = ["Dispatcher", "Tally", "Work", "WorkerDiedError"]

Work = Callable[[NodeJob], Record]

_POLL_SECONDS = 0.2
_MOST_DEATHS = 1  # of workers, before the runner gives up
_MOST_ATTEMPTS = 3  # trainings of one node in one run, if its worker or its network gets lost

_log = logging.getLogger(__name__)


class WorkerDiedError(RuntimeError):
    """A worker process died, and another one after the pool was rebuilt."""


@dataclass(slots=True)
class Tally:
    """Counts while they grow."""

    baselines: int = 0  # trained
    stages: int = 0  # trained
    reused: int = 0  # nodes yielded that came from the store
    unshared: int = 0  # summed lengths of the nodes yielded


class Dispatcher:
    """Starts the walk's jobs on a crew and tells the walk how they ended."""

    def __init__(self, walk: Walk, store: Store, crew: Crew, work: Work, tally: Tally) -> None:
        self._walk = walk
        self._store = store
        self._crew = crew
        self._work = work
        self._running: dict[Future[Record], tuple[NodeJob, FileLock]] = {}
        self._elsewhere: set[str] = set()  # keys that another runner is training
        self._attempts: Counter[str] = Counter()
        self._tally = tally

    @property
    def load(self) -> int:
        """How many jobs are in training here."""
        return len(self._running)

    @property
    def busy(self) -> set[str]:
        """Keys of the jobs in training here."""
        return {job.key for job, _ in self._running.values()}

    @property
    def waits_for_others(self) -> bool:
        """Whether a job was left to another runner that holds its claim."""
        return bool(self._elsewhere)

    def next_job(self) -> NodeJob | None:
        """Return a job that could start now, or None."""
        return self._walk.next_job(busy=self.busy | self._elsewhere)

    def start(self, job: NodeJob) -> list[Finished]:
        """Hand a job to a worker, unless the store holds its result by now or another runner trains it.

        Returns what is finished by that; mostly nothing.
        """
        claim = self._store.claim(job.key)
        if claim is None:
            self._elsewhere.add(job.key)
            return []
        stored = self._store.get(job.key)
        if stored is not None and (stored.error is not None or self._store.has_network(job.key)):
            claim.release()
            return self._walk.settle(job, stored, reused=True)
        self._attempts[job.key] += 1
        if self._attempts[job.key] > _MOST_ATTEMPTS:
            claim.release()
            return self._give_up(job, f"its network was lost after each of {_MOST_ATTEMPTS} trainings")
        if job.parent_key is not None:
            self._store.touch(job.parent_key)
        try:
            self._running[self._crew.submit(self._work, job)] = (job, claim)
        except BrokenExecutor:
            claim.release()
            self._replace_crew([job])
        return []

    def collect(self) -> list[Finished]:
        """Wait a moment for a job to end; return what is finished by that."""
        self._elsewhere.clear()
        if not self._running:
            time.sleep(_POLL_SECONDS)
            return []
        done, _ = wait(self._running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenExecutor) for future in done):
            done, _ = wait(self._running)  # one death breaks them all
        finished: list[Finished] = []
        lost = []
        for future in [future for future in self._running if future in done]:
            job, claim = self._running.pop(future)
            claim.release()
            if isinstance(future.exception(), BrokenExecutor):
                lost.append(job)
            else:
                finished += self._take_back(job, future)
        if lost:
            self._replace_crew(lost)
        if finished:
            self._store.evict(keep=self._needed())
        return finished

    def close(self, *, kill: bool) -> None:
        """Wait for the running jobs, whose results stay in the store, or kill those of our own pool."""
        if kill:
            self._crew.kill()
        wait(self._running)
        for _, claim in self._running.values():
            claim.release()
        self._running.clear()

    def _take_back(self, job: NodeJob, future: Future[Record]) -> list[Finished]:
        try:
            record = future.result()
        except Exception as error:
            if isinstance(error, ValueError | AssertionError) or job.parent_key is None:
                raise
            if not self._store.has_network(job.parent_key):
                return []  # evicted by another runner: the walk trains it again, then comes back here
            _log.warning("%s at seed %d failed", job.sequence, job.seed, exc_info=error)
            return self._give_up(job, f"{type(error).__name__}: {error}")
        if job.parent_key is None:
            self._tally.baselines += 1
        else:
            self._tally.stages += 1
        return self._walk.settle(job, record, reused=False)

    def _give_up(self, job: NodeJob, error: str) -> list[Finished]:
        """Report a failure of this run alone: the next run tries again."""
        before = self._walk.record_of(job.key) or self._walk.record_of(job.parent_key)
        return self._walk.settle(job, failed_record(job, before, error=error), reused=False, kept=False)

    def _replace_crew(self, lost: list[NodeJob]) -> None:
        names = ", ".join(f"{job.sequence or 'the baseline'} at seed {job.seed}" for job in lost)
        if self._crew.borrowed or self._crew.deaths >= _MOST_DEATHS:
            raise WorkerDiedError(
                f"a worker process died while training {names}; was memory short, or does the calling script "
                'lack `if __name__ == "__main__":`? Finished nodes are kept: run again, with fewer workers'
            )
        _log.warning("a worker process died; training again: %s", names)
        self._crew.drop_broken_pool()

    def _needed(self) -> set[str]:
        running = {job.parent_key for job, _ in self._running.values() if job.parent_key is not None}
        return running | self._walk.needed_networks()
