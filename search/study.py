"""Studies of ours: opened with a check that they ask the same question, filled with a design, cleaned up.

A study is plain Optuna; what makes it ours is the user attribute `ordercomp` (task, space, objectives). Each
trial carries `sequence`, `seed` and `design` ("paired": enqueued so that every order meets the same knobs and
seeds; "adaptive": proposed by a sampler), and, once finished, `record` with all that was measured.
"""

import contextlib
import datetime
import importlib.util
import os
import platform
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ordercomp.codec import encode
from ordercomp.files import TABLE, lock_of, refuse_link, start_ticks
from ordercomp.objectives import Direction, Objectives
from ordercomp.records import ADAPTIVE, PAIRED
from ordercomp.search.space import Space
from ordercomp.search.streams import RELEASER, RETRY
from ordercomp.sequence import StageSequence

# Where a study lives: an SQLite file, a journal file, or a database by URL.


Storage = BaseStorage  # for those above this layer, who only pass it on


_JOURNAL_ENDINGS = (".log", ".journal")


_WAIT_SECONDS = 300  # for a lock that another process holds on an SQLite file


def open_storage(storage: str | Path | BaseStorage | None) -> BaseStorage:
    """Open a storage for Optuna studies; one that is open already is returned as it is.

    A path is an SQLite file, or a journal file if it ends in .log or .journal; a URL goes to a database,
    such as `postgresql://user:password@host/name`; None keeps the study in memory. Raises ValueError if
    the storage cannot be reached, its folder is missing, its driver is not installed, or the file is
    something else or a link, or if its text asks for SQLite in memory.
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    text = str(storage)
    if "://" not in text:
        _check_folder(Path(text))
    if "://" not in text and text.endswith(_JOURNAL_ENDINGS):
        return _open_journal(Path(text).resolve())
    url = text if "://" in text else f"sqlite:///{text}"
    if re.fullmatch(r"sqlite(\+\w+)?:(//|///|///:memory:)", url):
        raise ValueError(f"storage {text!r} would be lost with this process; give the path of a file")
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        _check_folder(path)
        try:
            with lock_of(path):  # Optuna makes its tables without one: of two processes the later would fail
                _use_write_ahead_log(path)
                return _open_database(url)
        except sqlite3.Error as error:
            raise ValueError(f"storage {text!r} cannot be opened: {error}") from None
    return _open_database(url)


@contextlib.contextmanager
def naming_the_storage(what: str) -> Iterator[None]:
    """Turn what a damaged or failing storage raises into an OSError of one line that names `what`."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise OSError(f"the storage of {what} failed: {_without_password(reason)}") from error


def _open_database(url: str) -> BaseStorage:
    url = _with_installed_driver(url)
    wait = {"connect_args": {"timeout": _WAIT_SECONDS}} if url.startswith("sqlite") else {}
    shown = _without_password(url)
    try:
        storage = RDBStorage(url, engine_kwargs={**wait, **_pool(url)})
    except ArgumentError:
        raise ValueError(f"storage must be a path or a database URL, got {shown!r}") from None
    except ImportError as error:
        reason = f"its driver is not installed ({error.__cause__ or error})"
        advice = "; try pip install psycopg2-binary" if url.startswith("postgresql") else ""
        raise ValueError(f"storage {shown!r} cannot be opened: {reason}{advice}") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"storage {shown!r} cannot be reached: {_without_password(reason)}") from None
    if url.startswith("sqlite"):
        _make_safe_and_quick(storage)
    return optuna.storages.get_storage(storage)


def _make_safe_and_quick(storage: RDBStorage) -> None:
    """Serialize transactions on an SQLite file, and let it answer before the disk has written.

    Optuna reads a trial's state and then sets it, and relies on row locks, which SQLite lacks: two processes
    could take the same waiting trial. A transaction that locks at its beginning prevents that. A trial takes
    some 20 commits, 10 ms each if every one waits for the disk; without that a killed process loses nothing,
    and a power failure the last trials but not their records.
    """

    def on_connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so
        connection.execute("PRAGMA synchronous=NORMAL")

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", on_connect)
    event.listen(storage.engine, "begin", on_begin)
    storage.engine.dispose()  # connections opened before the listeners were there


def _use_write_ahead_log(path: Path) -> None:
    """Make a new SQLite file one that many processes can read while one writes."""
    if not path.exists():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def _with_installed_driver(url: str) -> str:
    """Name the one PostgreSQL driver there is: what a bare URL means depends on SQLAlchemy's version."""
    installed = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)]
    if url.startswith("postgresql://") and len(installed) == 1:
        return url.replace("postgresql://", f"postgresql+{installed[0]}://", 1)
    return url


def _pool(url: str) -> dict[str, object]:
    """Keep one connection to a server: it allows few, and it may drop one while a stage trains for hours."""
    if url.startswith("sqlite"):
        return {}
    return {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 1}


def _open_journal(path: Path) -> BaseStorage:
    try:
        # The lock is a file of its own: a link to the journal would dangle if the path were relative.
        return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
    except (OSError, ValueError) as error:
        raise ValueError(f"storage {str(path)!r} is not a readable journal of studies: {error}") from None


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise ValueError(f"storage {str(path)!r} lies in a folder that does not exist: {path.parent}")
    refuse_link(path)
    if path.is_dir():
        raise ValueError(f"storage must be a file or a database URL, got the folder {str(path)!r}")


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


# Who runs a trial: names for worker processes, and whether one is still alive.
#
# A process killed by force leaves its trials running for ever. On the same machine its absence is seen in the
# process table; elsewhere, and where there is none to read, by a heartbeat that the study holds.


BEAT_SECONDS = 30.0


SILENT_SECONDS = 300.0  # a worker unheard for longer counts as dead; generous, for clocks that disagree


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
    beat = study.user_attrs.get(_attribute(worker))
    return isinstance(beat, (int, float)) and time.time() - beat < SILENT_SECONDS


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """While entered, writes the time into the study every 30 seconds, from a thread of its own."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._name = _attribute(this_worker())
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


def _attribute(worker: str) -> str:
    return f"heartbeat:{worker}"


_IDENTITY = "ordercomp"


_PROPOSED = ("sequence", "seed", "design")


_FIRST = "first"  # attribute of a study: the sequences that it tries before its sampler is asked


def open_study(
    storage: str | Path | BaseStorage | None,
    *,
    name: str,
    space: Space,
    objectives: Objectives,
    sampler: BaseSampler,
    task: str,
) -> optuna.Study:
    """Open the study `name`, or make it, and fail the trials that dead processes left running.

    Args:
        storage: as for `open_storage`: a path, a URL, a storage that is open, or None for memory.
        name: the study's name in the storage.
        space: what may be tried; an existing study must have been made with the same one.
        objectives: what is told; likewise.
        sampler: proposes trials that are not enqueued; may differ from run to run.
        task: name and digest of model, data and recipe; an existing study must have the same one.

    Raises:
        ValueError: if the storage cannot be reached, or holds a study of this name that asks something
            else; the message says what differs, and the study stays as it was.
    """
    opened = open_storage(storage)
    with naming_the_storage(f"study {name!r}"):
        return _open(opened, name, space, objectives, sampler, task)


def _open(
    opened: BaseStorage, name: str, space: Space, objectives: Objectives, sampler: BaseSampler, task: str
) -> optuna.Study:
    identity = {"task": task, "space": space.describe(), "objectives": encode(objectives)}
    existing = _load(opened, name)
    if existing is not None and (existing.user_attrs.get(_IDENTITY) is not None or existing.trials):
        _check_identity(existing, name, identity, objectives.directions)
    study = optuna.create_study(
        study_name=name,
        storage=opened,
        sampler=sampler,
        directions=objectives.directions,
        load_if_exists=True,
    )
    if _IDENTITY not in study.user_attrs:
        study.set_user_attr(_IDENTITY, identity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(objectives.names))
    release_stale_trials(study, space)
    _retry_lost_trials(study, space)
    return study


def find_study(storage: str | Path, name: str | None = None) -> optuna.Study:
    """Load a study for reading, without a check of its question; `name` may be left out if there is only one.

    Raises ValueError if the storage cannot be reached or lacks the study; the message lists those it has.
    """
    file = str(storage).removeprefix("sqlite:///")
    if "://" not in file and not Path(file).exists():
        raise ValueError(f"storage {str(storage)!r} does not exist")
    opened = open_storage(storage)
    with naming_the_storage(file):
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            listed = ", ".join(names) or "none"
            raise ValueError(f"study must name one of those in the storage ({listed}), got {name!r}")
        return optuna.load_study(study_name=name, storage=opened)


def enqueue_paired_design(
    study: optuna.Study, space: Space, sequences: Iterable[StageSequence], seeds: Iterable[int]
) -> int:
    """Enqueue each sequence at each seed as a trial, one seed after the other; return how many are new.

    What the study already holds of the design, waiting, running or finished, is not enqueued again; a stage
    that failed stays failed. Raises ValueError, and enqueues nothing, if a sequence lies outside the space.
    """
    chosen = [space.complete(sequence) for sequence in sequences]
    wanted = [(sequence, seed) for seed in seeds for sequence in chosen]
    params = [space.params(sequence) for sequence, _ in wanted]
    there = {
        (trial.user_attrs.get("sequence"), trial.user_attrs.get("seed"))
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get("design") == PAIRED and not _is_void(trial)
    }
    new = 0
    for (sequence, seed), values in zip(wanted, params, strict=True):
        if (str(sequence), seed) not in there:
            there.add((str(sequence), seed))
            attributes = {"sequence": str(sequence), "seed": seed, "design": PAIRED}
            study.enqueue_trial(values, user_attrs=attributes)
            new += 1
    return new


def enqueue_first(study: optuna.Study, space: Space, sequences: Iterable[StageSequence], *, seed: int) -> int:
    """Enqueue what a new study should try first, before its sampler is asked; return how many are new.

    A study that held trials before is no new one. One whose first process died in here gets what it lacks of
    the sequences that it began with. Raises ValueError if a sequence lies outside the space.
    """
    chosen = [space.complete(sequence) for sequence in sequences]
    params = [space.params(sequence) for sequence in chosen]
    trials = study.get_trials(deepcopy=False)
    if not trials:
        study.set_user_attr(_FIRST, list(map(str, chosen)))
    there = {trial.user_attrs.get("sequence") for trial in trials}
    wanted = set(study.user_attrs.get(_FIRST, ())) - there
    new = 0
    for sequence, values in zip(chosen, params, strict=True):
        if str(sequence) in wanted:
            attributes = {"sequence": str(sequence), "seed": seed, "design": ADAPTIVE}
            study.enqueue_trial(values, user_attrs=attributes)
            new += 1
    return new


def release_stale_trials(
    study: optuna.Study, space: Space, *, unsigned_seconds: float = SILENT_SECONDS
) -> int:
    """Fail the running trials of processes that are gone, enqueue them again, and return how many there were.

    What such a process had finished training lies in the store, so the new trial starts from there. A trial
    that nobody has signed within `unsigned_seconds` counts as one of a process that is gone.
    """
    released = 0
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY) for trial in trials}
    for trial in trials:
        releaser = trial.user_attrs.get(RELEASER)
        if trial.state == TrialState.FAIL and releaser and trial.number not in retried:
            if not is_alive(releaser, study):  # it was killed between failing the trial and enqueueing it
                _enqueue_again(study, trial, space)
            continue
        if trial.state != TrialState.RUNNING:
            continue
        worker = trial.user_attrs.get("worker")
        if worker is None and _age_seconds(trial) < unsigned_seconds:
            continue  # between the process asking for the trial and signing it, which may wait for a lock
        if not (worker and is_alive(worker, study)) and release_trial(study, trial, space):
            released += 1
    return released


def _retry_lost_trials(study: optuna.Study, space: Space) -> None:
    """Enqueue again what a sampler proposed and an earlier run could not measure for a passing reason.

    A design sees to its own trials. Within a run such a trial stays lost.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY) for trial in trials}
    for trial in trials:
        was_proposed = trial.user_attrs.get("design") == ADAPTIVE and trial.number not in retried
        if was_proposed and _is_void(trial) and "error" in trial.user_attrs:
            _enqueue_again(study, trial, space)


def release_trial(study: optuna.Study, trial: FrozenTrial | Trial, space: Space) -> bool:
    """Fail one unfinished trial and enqueue it again; False if someone else was faster.

    A trial that a sampler had not yet given its sequence comes back without one, and the sampler gives it
    that, from the stream of the first one; so does one of which nobody had said what it is for.
    """
    try:
        Trial(study, trial._trial_id).set_user_attr(RELEASER, this_worker())
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    _enqueue_again(study, trial, space)
    return True


def _enqueue_again(study: optuna.Study, trial: FrozenTrial | Trial, space: Space) -> None:
    attributes = {"design": ADAPTIVE, **trial.user_attrs}
    if attributes["design"] not in (PAIRED, ADAPTIVE):
        return
    kept = {name: attributes[name] for name in _PROPOSED if name in attributes}
    sequence = kept.get("sequence")  # a trial may hold a part of its parameters
    params = {} if sequence is None else space.params(StageSequence.parse(sequence))
    study.enqueue_trial(params, user_attrs={**kept, RETRY: trial.number})


def _load(storage: BaseStorage, name: str) -> optuna.Study | None:
    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _check_identity(
    study: optuna.Study, name: str, wanted: dict[str, Any], directions: list[Direction]
) -> None:
    found = study.user_attrs.get(_IDENTITY)
    if found is None:
        raise ValueError(
            f"study {name!r} has {len(study.trials)} trials that ordercomp did not make; choose another name"
        )
    there = [direction.name.lower() for direction in study.directions]
    differences = [f"directions {there} there, {directions} now"] if there != directions else []
    differences += _differences("", found, wanted)
    if differences:
        raise ValueError(
            f"study {name!r} asks another question: {'; '.join(differences[:5])}; "
            "choose another name or storage"
        )


def _differences(place: str, there: Any, now: Any) -> list[str]:
    """Say where two JSON values differ, innermost keys only."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = sorted({*there, *now})
        return [line for key in keys for line in _differences(f"{place}{key} ", there.get(key), now.get(key))]
    return [] if there == now else [f"{place}is {there!r} there, {now!r} now"]


def _is_void(trial: FrozenTrial) -> bool:
    """A trial that failed without a result: its process died."""
    return trial.state == TrialState.FAIL and "record" not in trial.user_attrs


def _age_seconds(trial: FrozenTrial) -> float:
    started = trial.datetime_start
    return float("inf") if started is None else (datetime.datetime.now() - started).total_seconds()
