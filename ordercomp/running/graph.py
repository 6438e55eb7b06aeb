"""What is known of each node: one state, the moves allowed between states, and which node comes next.

Only bookkeeping: nothing is trained and no process is started here.
"""

import heapq
import os
from collections.abc import Iterable, Mapping
from enum import Enum

from ordercomp.records import Baseline, Record
from ordercomp.running.jobs import Finished, NodeJob, Request, TaskIdentity, job_chain, loads_baseline
from ordercomp.running.store import Store


class State(Enum):
    """Where a node stands; it is in one state at a time."""

    WAITING = "waiting"  # for a network that it starts from
    READY = "ready"  # every network that it starts from was made
    RUNNING = "running here"
    ELSEWHERE = "running elsewhere"  # another runner on the same store holds its claim
    DONE = "done"
    FAILED = "failed"
    FAILED_FOR_NOW = "failed for now"  # the next run tries again


_OVER = frozenset({State.DONE, State.FAILED, State.FAILED_FOR_NOW})
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.WAITING: _OVER | {State.READY},
    State.READY: _OVER | {State.WAITING, State.RUNNING, State.ELSEWHERE},
    State.RUNNING: _OVER | {State.READY},  # ready again: its worker died, or a network was evicted
    State.ELSEWHERE: frozenset({State.READY}),
    State.DONE: frozenset({State.READY, State.WAITING}),  # its network was evicted and is needed
    State.FAILED: frozenset(),
    State.FAILED_FOR_NOW: frozenset(),
}


class Node:
    """One sequence at one seed, as far as a run knows it."""

    __slots__ = "alone apart attempts ends followers job needs rank record state wanted yielded".split()  # noqa: SIM905

    def __init__(self, job: NodeJob, needs: tuple["Node", ...], *, rank: int) -> None:
        self.job = job
        self.needs = needs  # nodes whose networks it starts from: its prefix, maybe the baseline
        self.state = State.WAITING
        self.record: Record | None = None
        self.yielded = job.parent_key is None  # whether it was yielded; a baseline never is
        self.attempts = 0  # trainings in this run
        self.alone = False  # whether it is to be trained with nothing beside it, since memory was short
        self.apart = False  # whether it is to be trained as no part of a joint network
        self.rank = rank  # number of the oldest request that wants it
        self.wanted = 0  # open requests that lead through it
        self.ends: set[int] = set()  # open requests that end with it
        self.followers: dict[str, Node] = {}  # nodes that need it

    @property
    def over(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state in _OVER

    @property
    def failed(self) -> bool:
        """Whether it has no result."""
        return self.state in (State.FAILED, State.FAILED_FOR_NOW)

    @property
    def can_start(self) -> bool:
        """Whether every node that it starts from is done."""
        return all(need.state is State.DONE for need in self.needs)


class Graph:
    """The nodes of the open requests. What is finished and wanted no longer is forgotten but for its key."""

    def __init__(self, task: TaskIdentity, store: Store) -> None:
        self._task = task
        self._store = store
        self._nodes: dict[str, Node] = {}
        self._open: dict[int, tuple[Node, ...]] = {}  # chains from the baseline to what was asked for
        self._asked = 0
        self._ready: list[tuple[int, int, str]] = []  # a heap; entries whose node has moved on are skipped
        self._elsewhere: list[Node] = []
        self._forgotten: set[bytes] = set()  # keys of nodes that were done and told
        self._checked = bool(os.environ.get("ORDERCOMP_CHECK_STATES"))

    @property
    def open_requests(self) -> int:
        """How many requests still wait for a node."""
        return len(self._open)

    @property
    def waits_for_others(self) -> bool:
        """Whether a node was left to another runner that holds its claim."""
        return bool(self._elsewhere)

    def add(self, request: Request) -> list[Finished]:
        """Open a request; return those of its nodes that the store already holds, shortest first."""
        number = self._asked
        self._asked += 1
        chain: list[Node] = []
        for job in job_chain(self._task, request, self._store.folder.absolute(), self._store.url):
            chain.append(self._nodes.get(job.key) or self._make(job, chain, rank=number))
        self._open[number] = tuple(chain)
        chain[-1].ends.add(number)
        for node in chain:
            node.wanted += 1
        finished: list[Finished] = []
        for node in chain:
            if node.state is State.WAITING and node.record is None:
                finished += self._look_up(node)
            if node.failed:
                finished += self._fail_rest([tuple(chain)], node)
                break
        for node in chain:
            self._wake(node)
            if node.state is State.READY:
                self._queue(node)
        if chain[-1].over:
            self._close(number)
        self._check()
        return finished

    def next_node(self) -> Node | None:
        """Return the node that brings the oldest open request forward, or None if all of them wait.

        A prefix whose network was evicted is opened again.
        """
        while self._ready:
            rank, _, key = self._ready[0]
            node = self._nodes.get(key)
            if node is None or node.state is not State.READY or node.rank != rank or not node.wanted:
                heapq.heappop(self._ready)
                continue
            lost = [need for need in node.needs if not self._store.has_network(need.job.key)]
            if not lost:
                return node
            for need in lost:
                self._reopen(need, rank=rank)
            self._check()
        return None

    def beside(self, node: Node, *, most: int, workers: int) -> list[Node]:
        """The node that comes next with others of its sequence, at other seeds, that can start as well.

        At most so many, and not so many that one of the idle `workers` would find nothing to do.
        """
        ready = [other for other in self._nodes.values() if other.state is State.READY and other.wanted]
        mates = [other for other in ready if _may_join(other, node) and other is not node]
        joining = sorted(mates, key=lambda other: other.rank)[: min(most, -(-len(ready) // workers)) - 1]
        needed = (need.job.key for other in joining for need in other.needs)
        return [node, *joining] if all(map(self._store.has_network, needed)) else [node]

    def start(self, node: Node) -> None:
        """Note that a node is in training here."""
        self._move(node, State.RUNNING)
        self._check()

    def leave_to_others(self, node: Node) -> None:
        """Note that another runner trains a node."""
        self._move(node, State.ELSEWHERE)
        self._elsewhere.append(node)
        self._check()

    def look_again(self) -> None:
        """Let the nodes that others train be tried again."""
        nodes, self._elsewhere = self._elsewhere, []
        for node in nodes:
            self._make_ready(node)
            self._forget(node)
        self._check()

    def put_back(self, node: Node) -> None:
        """Let a node start again whose training was lost."""
        self._make_ready(node)
        self._forget(node)
        self._check()

    def finish(self, node: Node, record: Record, *, reused: bool) -> list[Finished]:
        """Note the result of a node; return it, and after a failure all that can no longer follow.

        The baseline is never returned, and nothing is returned twice.
        """
        return self._finish(node, record, reused=reused, kept=True)

    def give_up(self, node: Node, error: str) -> list[Finished]:
        """Note a failure of this run alone, with what can no longer follow."""
        before = node.record or (node.needs[0].record if node.needs else None)
        return self._finish(node, _failed_record(node.job, before, error=error), reused=False, kept=False)

    def needed_networks(self) -> set[str]:
        """Keys of the networks that a node starts from which is in training, or may come next."""
        return {
            need.job.key
            for node in self._nodes.values()
            if not node.over and (node.wanted or node.state is State.RUNNING)
            for need in node.needs
            if need.state is State.DONE
        }

    def _make(self, job: NodeJob, chain: list[Node], *, rank: int) -> Node:
        needs = chain[-1:]
        if chain and loads_baseline(job.sequence.steps[-1]) and chain[0] not in needs:
            needs = [*needs, chain[0]]
        node = Node(job, tuple(needs), rank=rank)
        for need in needs:
            need.followers[job.key] = node
        self._nodes[job.key] = node
        if bytes.fromhex(job.key) in self._forgotten:
            node.yielded = True
        return node

    def _look_up(self, node: Node) -> list[Finished]:
        forgotten = bytes.fromhex(node.job.key) in self._forgotten
        stored = self._store.get(node.job.key, check_network=not forgotten)
        return [] if stored is None else self._settle(node, stored, reused=True, kept=True)

    def _finish(self, node: Node, record: Record, *, reused: bool, kept: bool) -> list[Finished]:
        finished = self._settle(node, record, reused=reused, kept=kept)
        if node.failed:
            finished += self._fail_rest([chain for chain in self._open.values() if node in chain], node)
        for follower in list(node.followers.values()):
            self._wake(follower)
        for number in list(node.ends):
            self._close(number)
        self._forget(node)
        self._check()
        return finished

    def _settle(self, node: Node, record: Record, *, reused: bool, kept: bool) -> list[Finished]:
        yielded, node.yielded, node.record = node.yielded, True, record
        if record.error is None:
            self._move(node, State.DONE)
        else:
            self._move(node, State.FAILED if kept else State.FAILED_FOR_NOW)
        return [] if yielded else [Finished(Request(node.job.sequence, node.job.seed), record, reused, kept)]

    def _fail_rest(self, chains: Iterable[tuple[Node, ...]], failed: Node) -> list[Finished]:
        cause, kept = failed.record, failed.state is State.FAILED
        assert cause is not None
        name = f"prefix {cause.sequence}" if cause.sequence else "baseline"
        finished: list[Finished] = []
        for chain in chains:
            for node in chain[chain.index(failed) + 1 :]:
                if not node.over:
                    record = _failed_record(
                        node.job, cause, error=f"not trained: its {name} failed: {cause.error}"
                    )
                    finished += self._settle(node, record, reused=False, kept=kept)
            for number in list(chain[-1].ends):
                self._close(number)
        return finished

    def _reopen(self, node: Node, *, rank: int) -> None:
        """Let a node be trained again whose network is gone; what needs it waits."""
        node.rank = min(node.rank, rank)
        self._make_ready(node)
        for follower in node.followers.values():
            if follower.state is State.READY:
                self._move(follower, State.WAITING)

    def _make_ready(self, node: Node) -> None:
        if not node.can_start:
            self._move(node, State.READY if node.state is not State.DONE else State.WAITING)
            if node.state is State.READY:
                self._move(node, State.WAITING)
            return
        self._move(node, State.READY)
        self._queue(node)

    def _queue(self, node: Node) -> None:
        heapq.heappush(self._ready, (node.rank, len(node.job.sequence), node.job.key))

    def _wake(self, node: Node) -> None:
        if node.state is State.WAITING and node.wanted and node.can_start:
            self._make_ready(node)

    def _close(self, number: int) -> None:
        """End a request, and forget what no other one wants."""
        chain = self._open.pop(number, None)
        if chain is None:
            return
        chain[-1].ends.discard(number)
        for node in chain:
            node.wanted -= 1
        for node in reversed(chain):
            self._forget(node)

    def _forget(self, node: Node) -> None:
        """Drop a node that nobody waits for. Failures stay, as the cause of what follows them."""
        if node.wanted or node.followers or node.failed or node.state in (State.RUNNING, State.ELSEWHERE):
            return
        if self._nodes.pop(node.job.key, None) is None:
            return
        if node.yielded and node.job.parent_key is not None:
            self._forgotten.add(bytes.fromhex(node.job.key))
        for need in node.needs:
            need.followers.pop(node.job.key, None)
            self._forget(need)

    def _move(self, node: Node, state: State) -> None:
        assert state in TRANSITIONS[node.state], f"{node.job.sequence}: {node.state.value} to {state.value}"
        node.state = state

    def _check(self) -> None:
        """Compare everything that is known with everything else; only where tests ask for it."""
        if not self._checked:
            return
        queued = {(rank, key) for rank, _, key in self._ready}
        for key, node in self._nodes.items():
            words = f"{node.job.sequence or 'baseline'} is {node.state.value}"
            assert node.wanted == sum(node in chain for chain in self._open.values()), words
            assert all(self._nodes.get(need.job.key) is need for need in node.needs), words
            assert all(need.followers.get(key) is node for need in node.needs), words
            assert (node in self._elsewhere) == (node.state is State.ELSEWHERE), words
            assert not node.over or (node.record is not None and node.yielded), words
            assert node.failed == (node.record is not None and node.record.error is not None), words
            if node.state is State.READY:
                assert node.can_start, words
                assert not node.wanted or (node.rank, key) in queued, words
            if node.state is State.WAITING and node.wanted:
                assert not node.can_start, words
        for number, chain in self._open.items():
            assert number in chain[-1].ends, number
            assert not chain[-1].over, number
            assert all(self._nodes.get(node.job.key) is node for node in chain), number


def _may_join(node: Node, other: Node) -> bool:
    return node.job.sequence == other.job.sequence and not (
        node.alone or node.apart or other.alone or other.apart
    )


def _failed_record(job: NodeJob, before: Record | None, *, error: str) -> Record:
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
