"""Trials of ours: the attributes that they carry, which worker holds one, and how one is released.

A trial carries `sequence`, `seed` and `design`: "paired" if it was enqueued so that every order meets the
same knobs and seeds, "adaptive" if a sampler proposed it, "prefix" if it was trained on the way to another.
Once finished it carries `record`, with all that was measured.

A process killed by force leaves its trials running for ever. On the same machine its absence is seen in the
process table; elsewhere, and where there is none to read, by a heartbeat that the study holds.
"""

import contextlib
import datetime
import math
import os
import platform
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from ordercomp.files import TABLE, start_ticks
from ordercomp.records import ADAPTIVE, PAIRED
from ordercomp.search.space import Space
from ordercomp.sequence import StageSequence

PREFIX = "prefix"  # value of `design`, beside PAIRED and ADAPTIVE
RETRY = "retry_of"  # attribute of a trial that was enqueued again, so proposed before
RELEASER = "released_by"  # attribute of a trial that was failed to be enqueued again: who did so

BEAT_SECONDS = 30.0
DEAD_SECONDS = 300.0  # a worker unheard for longer counts as dead; generous, for clocks that disagree


def node_of(trial: FrozenTrial) -> tuple[object, object]:
    """Give the sequence text and the seed of a trial: equal for trials that mean the same result."""
    return trial.user_attrs.get("sequence"), trial.user_attrs.get("seed")


def design_of(trial: FrozenTrial | Trial) -> str | None:
    """Why there is the trial: "paired", "adaptive" or "prefix"; None before anybody said so."""
    return trial.user_attrs.get("design")


def was_released(trial: FrozenTrial) -> bool:
    """Whether a trial was failed to be enqueued again: its place is that of the one in its stead."""
    return trial.state == TrialState.FAIL and RELEASER in trial.user_attrs


def is_void(trial: FrozenTrial) -> bool:
    """Whether a trial failed without a result: its process died, or the reason was a passing one."""
    return trial.state == TrialState.FAIL and "record" not in trial.user_attrs


def this_worker() -> str:
    """Name this process: host, process id, and its start time where the system tells it."""
    return f"{platform.node()}:{os.getpid()}:{start_ticks(os.getpid()) or 0}"


def is_alive(worker: str, study: optuna.Study) -> bool:
    """Whether the process named `worker` still runs, by the process table or else by its heartbeat.

    A worker that is unknown here and never beat counts as dead.
    """
    worker = worker.partition("#")[0]  # a claim of that worker
    host, pid, started = worker.rsplit(":", 2)
    if host == platform.node() and (TABLE / "self" / "stat").exists():
        return start_ticks(int(pid)) == (int(started) or None)
    beat = study.user_attrs.get(f"heartbeat:{worker}")
    return isinstance(beat, (int, float)) and time.time() - beat < DEAD_SECONDS


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """While entered, writes the time into the study every 30 seconds, from a thread of its own."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._name = f"heartbeat:{this_worker()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._study.set_user_attr(self._name, time.time())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(StorageInternalError):  # the run itself will notice
                self._study.set_user_attr(self._name, time.time())


def release_trial(study: optuna.Study, trial: FrozenTrial | Trial, space: Space) -> bool:
    """Fail one unfinished trial and enqueue it again; False if someone else was faster.

    A trial that a sampler had not yet given its sequence comes back without one, and the sampler gives it
    that, from the stream of the first one; so does one of which nobody had said what it is for.
    """
    try:
        Trial(study, trial._trial_id).set_user_attr(RELEASER, this_worker())
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    _enqueue_again(study, trial, space)
    return True


def release_stale_trials(study: optuna.Study, space: Space, *, unsigned_seconds: float = DEAD_SECONDS) -> int:
    """Fail the running trials of processes that are gone, enqueue them again, and return how many there were.

    What such a process had finished training lies in the store, so the new trial starts from there. A trial
    that nobody has signed within `unsigned_seconds` counts as one of a process that is gone.
    """
    released = 0
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY) for trial in trials}
    for trial in trials:
        if was_released(trial) and trial.number not in retried:
            if not is_alive(trial.user_attrs[RELEASER], study):  # killed between failing and enqueueing it
                _enqueue_again(study, trial, space)
        elif trial.state == TrialState.RUNNING:
            worker = trial.user_attrs.get("worker")  # None: asked for just now, and not yet signed, maybe
            is_held = is_alive(worker, study) if worker else _age_seconds(trial) < unsigned_seconds
            released += not is_held and release_trial(study, trial, space)
    return released


def retry_lost_trials(study: optuna.Study, space: Space) -> None:
    """Enqueue again what a sampler proposed and an earlier run could not measure for a passing reason.

    A design sees to its own trials. Within a run such a trial stays lost.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY) for trial in trials}
    for trial in trials:
        was_lost = is_void(trial) and "error" in trial.user_attrs
        if was_lost and design_of(trial) == ADAPTIVE and trial.number not in retried:
            _enqueue_again(study, trial, space)


def _enqueue_again(study: optuna.Study, trial: FrozenTrial | Trial, space: Space) -> None:
    attributes: dict[str, Any] = {"design": ADAPTIVE, **trial.user_attrs}
    if attributes["design"] not in (PAIRED, ADAPTIVE):
        return
    carried: dict[str, Any] = {
        name: attributes[name] for name in ("sequence", "seed", "design") if name in attributes
    }
    sequence = carried.get("sequence")  # a trial may hold a part of its parameters
    params = {} if sequence is None else space.params(StageSequence.parse(sequence))
    study.enqueue_trial(params, user_attrs={**carried, RETRY: trial.number})


def _age_seconds(trial: FrozenTrial) -> float:
    started = trial.datetime_start
    return math.inf if started is None else (datetime.datetime.now() - started).total_seconds()
