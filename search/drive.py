"""Run a study on a runner: trials become requests, finished nodes of the trie become told trials."""

import contextlib
import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from ordercomp.objectives import Objectives, bitops_reduction
from ordercomp.records import ADAPTIVE, PAIRED, Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.search.results import (
    abandon_trial,
    add_prefix_trial,
    fail_trial,
    finish_trial,
    measured_nodes,
    records_from_study,
)
from ordercomp.search.space import Space
from ordercomp.search.study import naming_the_storage, place_of
from ordercomp.search.trials import (
    PREFIX,
    Heartbeat,
    design_of,
    is_void,
    node_of,
    release_stale_trials,
    release_trial,
    this_worker,
    was_released,
)
from ordercomp.sequence import Order, StageSequence, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandonment:
    """When to give up a pipeline whose measured prefix can no longer lead anywhere; in doubt it goes on.

    Optuna has no pruner for several objectives. Such a trial is told as pruned (in Optuna's sense) with the
    reason; its trained prefixes stay results.
    """

    tolerance: float = 0.1  # accuracy below the baseline at which a network is of no use, a fraction
    recovery: float = 0.05  # accuracy that the stages to come may win back, a fraction
    slack: float = 1.0  # added to the largest log2 reduction seen of each stage to come
    evidence: int = 5  # reductions of a stage to have seen before they bound what it can do

    def __post_init__(self) -> None:
        for name in ("tolerance", "recovery", "slack"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.evidence < 1:
            raise ValueError(f"evidence must be at least 1, got {self.evidence}")

    def reason(self, prefix: Record, remaining: Order, attained: "Attained") -> str | None:
        """Say why the pipeline should end after `prefix`, with the stages `remaining`; None to go on."""
        if not prefix.points or not remaining:
            return None
        accuracy = max(point.accuracy for point in prefix.points) + self.recovery
        if accuracy < prefix.baseline.accuracy - self.tolerance:
            return f"accuracy after {prefix.order} can recover to {accuracy:.4f} at most"
        bound = attained.bound(remaining, slack=self.slack, evidence=self.evidence)
        reduction = bound + max(gain for _, gain in attained.places(prefix))
        if attained.dominates(accuracy, reduction):
            return f"after {prefix.order}, {accuracy:.4f} at 2^{reduction:.2f} at most is behind the front"
        return None


class Attained:
    """What has been measured: where every point lies, and the largest reduction that each stage brought."""

    def __init__(self, convention: str = "paper") -> None:
        self.convention = convention
        self._largest: dict[tuple[tuple[Step, ...], int], float] = {}  # log2 reduction by node
        self._gains: defaultdict[str, list[float]] = defaultdict(list)  # over the prefix, by stage
        self._places: list[tuple[float, float]] = []  # of every point, those that others beat, too

    @classmethod
    def of(cls, records: Iterable[Record], convention: str = "paper") -> "Attained":
        """What `records` tell, in whatever order they come."""
        attained = cls(convention)
        for record in sorted(records, key=lambda record: len(record.order)):
            attained.add(record)
        return attained

    def add(self, record: Record) -> None:
        """Take in a finished record, which tells of its last stage where its prefix is known."""
        places, steps = self.places(record), StageSequence.parse(record.sequence).steps
        if not places:
            return
        largest = self._largest[steps, record.seed] = max(gain for _, gain in places)
        before = 0.0 if len(steps) == 1 else self._largest.get((steps[:-1], record.seed))
        if before is not None:
            self._gains[record.order[-1]].append(largest - before)
        self._places += places

    def bound(self, remaining: Order, *, slack: float, evidence: int) -> float:
        """Bound log2 of what the stages `remaining` can still reduce; infinite while one is little known."""
        if any(len(self._gains[stage]) < evidence for stage in remaining):
            return math.inf
        return sum(max(0.0, *self._gains[stage]) + slack for stage in remaining)

    def dominates(self, accuracy: float, log2_reduction: float) -> bool:
        """Whether some measured point is at least as good in both and better in one."""
        return any(
            a >= accuracy and r >= log2_reduction and (a, r) != (accuracy, log2_reduction)
            for a, r in self._places
        )

    def places(self, record: Record) -> list[tuple[float, float]]:
        """Give accuracy and log2 reduction of each operating point."""
        return [
            (point.accuracy, math.log2(bitops_reduction(point, self.convention))) for point in record.points
        ]


_UNSIGNED_SECONDS = 5.0  # from asking for a trial to signing it, at the end of a run, where waiting costs

# Someone who takes this process for dead fails its trials and enqueues them again: leave those so.
_TAKEN_FOR_DEAD = contextlib.suppress(UpdateFinishedTrialError)


More = Callable[[], Sequence[Request] | None]


def _no_more() -> None:
    return None


class RunsRequests(Protocol):
    """The part of `ordercomp.running.runner.Runner` that a study needs."""

    workers: int  # how many nodes are in training at once

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        """Pull requests as workers become idle, and yield every node of theirs once it is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a study tries and what it is told.

    Raises ValueError for an abandonment without the objective that it looks at, log2_bitops_cr.
    """

    space: Space
    objectives: Objectives
    seed: int = 0  # of trials that a sampler proposes; enqueued ones bring their own
    abandonment: Abandonment | None = None  # never applied to the paired design

    def __post_init__(self) -> None:
        if self.abandonment is not None:
            self.objectives.check_bitops("abandonment")


def run_study(
    study: optuna.Study,
    runner: RunsRequests,
    spec: StudySpec,
    *,
    trials: int | None = None,
    more: More = _no_more,
) -> Iterator[Finished]:
    """Run waiting trials, then trials of the sampler, and yield every node that the runner finishes.

    Once nothing waits, `more` is asked while the last trainings go on: it enqueues trials and returns nodes
    that are trained beside them, outside of the space; None where that is all.

    The study ends with `trials` trials in all, those of earlier runs and of other processes counted, prefixes
    not, and more if a design still lacks some; with None it ends when nothing is waiting. A trial is told
    once its own node is finished. A sequence that this run has already measured is told at once, without a
    request. A prefix that lies in the space and is not yet in the study becomes a completed trial of design
    "prefix". If the runner stops early (budget, interrupt) or the caller stops iterating, trials that are not
    finished go back to the queue.

    Raises ValueError if a record lacks what the objectives need, OSError if the storage fails meanwhile.
    """
    driver = _Driver(study, spec, trials, more)
    # A sampler should know what is running, so it is not asked far ahead; a design is known from the start.
    lookahead = None if trials is None and more is _no_more else 2 * runner.workers
    with naming_the_storage(place_of(study)), Heartbeat(study):
        try:
            while True:
                for finished in runner.run(driver.requests(), lookahead=lookahead):
                    driver.settle(finished)
                    yield finished
                if driver.wants_another_round or driver.finds_lost_trials():
                    continue
                if not driver.finds_lost_prefixes():
                    break
        finally:
            with contextlib.suppress(StorageInternalError):
                driver.release()


class _Driver:
    """The trials that are open, and what is known of their nodes."""

    def __init__(self, study: optuna.Study, spec: StudySpec, trials: int | None, more: More) -> None:
        self._study = study
        self._more = more
        self._spec = spec
        self._trials = trials
        records = records_from_study(study) if spec.abandonment is not None else []
        self._attained = Attained.of(records, spec.objectives.convention)
        self._nodes: dict[Request, Finished] = {}
        self._lost: set[int] = set()  # trials that failed in this run for a passing reason
        self._open: defaultdict[Request, list[Trial]] = defaultdict(list)  # by the node that ends the trial
        self._requested: set[Request] = set()  # asked of the runner and not finished
        self._ready: deque[Request] = deque()  # next prefixes of open trials
        self._ended = False  # whether the last generator of requests came to its end
        self._sought = False  # whether lost prefixes were looked for
        self._held: set[tuple[object, object]] = set()  # results that the study holds, as far as seen
        self._seen = 0  # trials in the study, as far as known
        self._counted = trials or 0  # of those that take part of the number; full until the first look

    @property
    def wants_another_round(self) -> bool:
        """Whether open trials wait for a further prefix although the runner did all it was asked for."""
        return self._ended and bool(self._ready) and not self._requested

    def finds_lost_trials(self) -> bool:
        """Whether trials of processes that died meanwhile wait again, after all that was known is done."""
        if not self._ended:
            return False
        end = time.monotonic() + 2 * _UNSIGNED_SECONDS  # whatever the clock says
        while True:
            release_stale_trials(self._study, self._spec.space, unsigned_seconds=_UNSIGNED_SECONDS)
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if all("worker" in trial.user_attrs for trial in running) or time.monotonic() > end:
                return not self._is_full()
            time.sleep(_UNSIGNED_SECONDS / 10)

    def finds_lost_prefixes(self) -> bool:
        """Whether the study lacks prefixes of what it was told, which are then asked for; looks once.

        Where the store holds what follows a prefix, no run passes through it: a fault may have taken it.
        """
        if not self._ended or self._sought:
            return False
        self._sought = True
        measured = measured_nodes(self._study)
        nodes = [Request(prefix, seed) for sequence, seed in measured for prefix in sequence.prefixes]
        there = {Request(sequence, seed) for sequence, seed in measured}
        lost = [node for node in nodes if node not in there and self._spec.space.contains(node.sequence)]
        self._ready.extend(dict.fromkeys(lost))
        return bool(lost)

    def requests(self) -> Iterator[Request]:
        """Give what to train next: prefixes of open trials first, then new trials."""
        self._ended = False
        return self._requests()

    def _requests(self) -> Iterator[Request]:
        while self._ready or not self._is_full() or self._gets_more():
            if not self._ready and not self._is_full():
                with _TAKEN_FOR_DEAD:
                    self._open_trial(self._study.ask())
            if self._ready:
                request = self._ready.popleft()
                if request not in self._nodes and request not in self._requested:
                    self._requested.add(request)
                    yield request
        self._ended = True

    def _gets_more(self) -> bool:
        """Whether the caller has further work, now that nothing waits."""
        nodes = self._more()
        self._ready.extend(nodes or ())
        return nodes is not None

    def settle(self, finished: Finished) -> None:
        """Take in a finished node: tell the trials that it ends, or note it as a prefix of others."""
        node = finished.request
        steps, key = node.sequence.steps, (str(node.sequence), node.seed)
        self._nodes[node] = finished
        self._requested.discard(node)
        self._attained.add(finished.record)
        if node in self._open:
            self._held.add(key)
            for trial in self._open.pop(node):
                self._tell(trial, finished)
        elif finished.record.error is None and key not in self._held:
            self._add_prefix(node.sequence, finished.record)
        if self._spec.abandonment is not None:
            for end in list(self._open):
                if end.seed == node.seed and end.sequence.steps[: len(steps)] == steps:
                    self._advance(end)

    def release(self) -> None:
        """Put the trials that are still open back into the queue."""
        for trial in itertools.chain.from_iterable(self._open.values()):
            release_trial(self._study, trial, self._spec.space)
        self._open.clear()

    def _open_trial(self, trial: Trial) -> None:
        """Sign a new trial and let the sampler propose its sequence; ask for the way there."""
        if self._is_surplus(trial):
            trial.set_user_attr("surplus", True)
            self._study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("worker", this_worker())
        for name, value in {"seed": self._spec.seed, "design": ADAPTIVE}.items():
            if name not in trial.user_attrs:
                trial.set_user_attr(name, value)
        sequence = self._spec.space.suggest(trial)
        if trial.user_attrs.get("sequence", str(sequence)) != str(sequence):  # enqueued with a part of it
            release_trial(self._study, trial, self._spec.space)
            return
        if "sequence" not in trial.user_attrs:
            trial.set_user_attr("sequence", str(sequence))
        end = Request(sequence, int(trial.user_attrs["seed"]))
        if end in self._nodes:
            self._tell(trial, self._nodes[end])
            return
        self._open[end].append(trial)
        if len(self._open[end]) == 1:
            self._advance(end)

    def _tell(self, trial: Trial, finished: Finished) -> None:
        with _TAKEN_FOR_DEAD:
            if finished.kept:
                finish_trial(self._study, trial, finished.record, self._spec.objectives)
            else:
                self._lost.add(trial.number)
                fail_trial(self._study, trial, finished.record)

    def _add_prefix(self, sequence: StageSequence, record: Record) -> None:
        space, objectives = self._spec.space, self._spec.objectives
        with _TAKEN_FOR_DEAD:
            number = add_prefix_trial(self._study, space, objectives, sequence, record)
            if number == self._seen:
                self._seen += 1

    def _advance(self, end: Request) -> None:
        """Ask for the end of open trials, or with abandonment for the next prefix on the way there."""
        rule = self._spec.abandonment
        if rule is None or any(design_of(trial) != ADAPTIVE for trial in self._open[end]):
            self._ready.append(end)
            return
        for prefix in end.sequence.prefixes:
            node = Request(prefix, end.seed)
            if node not in self._nodes:
                self._ready.append(node)
                return
            record = self._nodes[node].record
            reason = rule.reason(record, end.sequence.order[len(prefix) :], self._attained)
            if reason is not None:
                for trial in self._open.pop(end):
                    with _TAKEN_FOR_DEAD:
                        abandon_trial(self._study, trial, record, reason)
                return

    def _is_full(self) -> bool:
        """Whether nothing is left to ask for. Reads the study only where its own count is not enough."""
        if self._trials is None:
            return all(trial.state != TrialState.WAITING for trial in self._look())
        if self._counted < self._trials:
            return False
        waiting = [trial for trial in self._look() if trial.state == TrialState.WAITING]
        return self._counted >= self._trials and all(design_of(trial) != PAIRED for trial in waiting)

    def _look(self) -> list[FrozenTrial]:
        """Read the study, which other processes may fill as well."""
        trials = self._study.get_trials(deepcopy=False)
        self._seen = len(trials)
        self._counted = sum(map(self._counts, trials))
        self._held.update(node_of(trial) for trial in trials if trial.state == TrialState.COMPLETE)
        return trials

    def _is_surplus(self, trial: Trial) -> bool:
        """Count a new trial; whether others filled the study, or emptied its queue, since the last look."""
        if self._trials is None:  # nothing is proposed
            return trial.number >= self._seen or "sequence" not in trial.user_attrs
        if trial.number > self._seen:
            return sum(map(self._counts, self._look()[: trial.number])) >= self._trials
        self._seen = max(self._seen, trial.number + 1)  # a lower number waited in the queue
        self._counted += 1
        return False

    def _counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial takes part of the number asked for: proposed, and not lost in an earlier run."""
        if design_of(trial) == PREFIX or trial.state == TrialState.WAITING or was_released(trial):
            return False
        return not is_void(trial) or trial.number in self._lost
