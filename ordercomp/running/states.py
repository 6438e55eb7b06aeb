"""Which node comes next: the requests that are open, each a chain of nodes from the baseline to its end.

Only bookkeeping: nothing is trained and no process is started here.
"""

from collections.abc import Container

from ordercomp.records import Baseline, Record
from ordercomp.running.jobs import Finished, NodeJob, Request, TaskIdentity, node_key
from ordercomp.running.store import Store
from ordercomp.sequence import StageSequence

__all__ = ["Walk", "failed_record"]


class Walk:
    """The open requests and what is known of their nodes."""

    def __init__(self, task: TaskIdentity, store: Store) -> None:
        self._task = task
        self._store = store
        self._chains: list[tuple[NodeJob, ...]] = []
        self._records: dict[str, Record] = {}
        self._passing: set[str] = set()  # keys of failures that are not kept

    @property
    def open_requests(self) -> int:
        """How many requests still wait for a node."""
        return len(self._chains)

    def add(self, request: Request, *, busy: Container[str]) -> list[Finished]:
        """Open a request; return those of its nodes that the store already holds, shortest first.

        `busy` holds the keys in training here, whose results come from there.
        """
        chain = self._chain(request)
        self._chains.append(chain)
        finished = []
        for job in chain:
            record = self._records.get(job.key)
            if record is not None and record.error is not None:
                finished += self._fail_rest(chain, job)
            elif record is None and job.key not in busy and (stored := self._store.get(job.key)) is not None:
                finished += self.settle(job, stored, reused=True)
        self._close_known_chains()
        return finished

    def next_job(self, *, busy: Container[str]) -> NodeJob | None:
        """Return the job that brings the oldest open request forward, or None if all of them wait.

        `busy` holds the keys in training anywhere. A prefix whose network was evicted is trained again.
        """
        for chain in self._chains:
            job = chain[self._next_place(chain)]
            if job.key not in busy:
                return job
        return None

    def needed_networks(self) -> set[str]:
        """Keys of the networks that the next job of some open request starts from."""
        starts = [chain[self._next_place(chain)].parent_key for chain in self._chains]
        return {key for key in starts if key is not None}

    def settle(self, job: NodeJob, record: Record, *, reused: bool, kept: bool = True) -> list[Finished]:
        """Note that a node is finished; return it, and after a failure all that can no longer follow.

        The baseline is never returned, and nothing is returned twice. `kept` is False for a failure of this
        run alone.
        """
        known = job.key in self._records
        if known and record.error is None:
            return []  # its network was evicted, and now is there again
        self._records[job.key] = record
        if not kept:
            self._passing.add(job.key)
        finished = []
        if not known and job.parent_key is not None:
            finished.append(Finished(Request(job.sequence, job.seed), record, reused, kept))
        if record.error is not None:
            for chain in self._chains:
                if job in chain:
                    finished += self._fail_rest(chain, job)
        self._close_known_chains()
        return finished

    def record_of(self, key: str | None) -> Record | None:
        """What is known of a node, None if nothing."""
        return None if key is None else self._records.get(key)

    def _fail_rest(self, chain: tuple[NodeJob, ...], failed: NodeJob) -> list[Finished]:
        cause, kept = self._records[failed.key], failed.key not in self._passing
        name = f"prefix {cause.sequence}" if cause.sequence else "baseline"
        finished = []
        for job in chain[len(failed.sequence) + 1 :]:
            if job.key not in self._records:
                record = failed_record(job, cause, error=f"not trained: its {name} failed: {cause.error}")
                self._records[job.key] = record
                finished.append(Finished(Request(job.sequence, job.seed), record, reused=False, kept=kept))
        return finished

    def _next_place(self, chain: tuple[NodeJob, ...]) -> int:
        place = next(place for place, job in enumerate(chain) if job.key not in self._records)
        while place > 0 and not self._store.has_network(chain[place - 1].key):
            place -= 1
        return place

    def _close_known_chains(self) -> None:
        self._chains = [chain for chain in self._chains if chain[-1].key not in self._records]

    def _chain(self, request: Request) -> tuple[NodeJob, ...]:
        jobs: list[NodeJob] = []
        for sequence in (StageSequence(), *request.sequence.prefixes):
            key = node_key(self._task.digest, sequence, request.seed)
            parent_key = jobs[-1].key if jobs else None
            jobs.append(NodeJob(self._task, sequence, request.seed, key, parent_key, self._store.folder))
        return tuple(jobs)


def failed_record(job: NodeJob, before: Record | None, *, error: str) -> Record:
    """Make the record of a node that has no network: the facts of the prefix `before` it, and the error."""
    baseline = before.baseline if before is not None else Baseline(accuracy=0.0, test_accuracy=0.0)
    return Record(
        order=job.sequence.order,
        sequence=str(job.sequence),
        task=job.task.name,
        seed=job.seed,
        epochs=before.epochs if before is not None else 0.0,
        seconds=0.0,
        baseline=baseline,
        points=(),
        error=error,
        extra={"digest": job.key, "parent": job.parent_key},
    )
