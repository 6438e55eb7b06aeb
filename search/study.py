"""Where studies live, and studies of ours: opened with a check that they ask the same, filled, looked up.

A storage is an SQLite file, a journal file, or a database by URL. A study is plain Optuna; what makes it ours
is the user attribute `ordercomp` (task, space, objectives) and what its trials carry (`trials`).
"""

import contextlib
import importlib.util
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._rdb.models import BaseModel
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file
from sqlalchemy import Connection, event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ordercomp.codec import differences, encode
from ordercomp.errors import one_line
from ordercomp.files import lock_of, refuse_link
from ordercomp.objectives import Direction, Objectives
from ordercomp.records import ADAPTIVE, PAIRED
from ordercomp.search.space import Space
from ordercomp.search.trials import design_of, is_void, node_of, release_stale_trials, retry_lost_trials
from ordercomp.sequence import StageSequence

Storage = BaseStorage  # for those above this layer, who only pass them on
Study = optuna.Study
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)  # what Optuna trips with

_JOURNAL_ENDINGS = (".log", ".journal")
_JOURNAL_START = b'{"op_code":'
_WAIT_SECONDS = 300  # for a lock that another process holds on an SQLite file
_RESTART_SECONDS = 60.0  # that a server is waited for which was there before
_IDENTITY = "ordercomp"  # attribute of a study: what it asks
_FIRST = "first"  # attribute of a study: the sequences that it tries before its sampler is asked


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
    if "://" not in text and text.endswith(_JOURNAL_ENDINGS):
        return _open_journal(Path(text))
    url = text if "://" in text else f"sqlite:///{text}"
    if re.fullmatch(r"sqlite(\+\w+)?:(//|///|///:memory:)", url):
        raise ValueError(f"storage {text!r} would be lost with this process; give the path of a file")
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        _check_folder(path)
        try:
            with lock_of(path):  # Optuna makes its tables without one: of two processes the later would fail
                if not path.exists():
                    _use_write_ahead_log(path)
                return _open_database(url)
        except sqlite3.Error as error:
            raise ValueError(f"storage {text!r} cannot be opened: {error}") from None
    return _open_database(url)


@contextlib.contextmanager
def naming_the_storage(owner: str) -> Iterator[None]:
    """Turn what a damaged or failing storage raises into an OSError of one line that names `owner`."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise OSError(f"the storage of {owner} failed: {_without_password(reason)}") from error


def place_of(study: Study) -> str:
    """A study's name, and the file or database that it lies in, without a password."""
    return _place(study.study_name, study._storage)


def _place(name: str, storage: BaseStorage) -> str:
    return f"study {name!r}" + (f" in {address}" if (address := _address(storage)) else "")


def _address(storage: BaseStorage) -> str:
    """The database or the file of an open storage, without a password; empty for memory."""
    backend = getattr(storage, "_backend", None)
    return _without_password(str(getattr(backend, "url", "") or getattr(backend, "_file_path", "")))


def _open_database(url: str) -> BaseStorage:
    url = _with_installed_driver(url)
    options: dict[str, Any] = {"connect_args": {"timeout": _WAIT_SECONDS}}
    if not url.startswith("sqlite"):  # a server allows few connections, and may drop one while a stage trains
        options = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 1}
    shown = _without_password(url)
    try:
        storage = RDBStorage(url, engine_kwargs=options)
    except ArgumentError:
        raise ValueError(f"storage must be a path or a database URL, got {shown!r}") from None
    except ImportError as error:
        reason = f"its driver is not installed ({error.__cause__ or error})"
        advice = "; try pip install psycopg2-binary" if url.startswith("postgresql") else ""
        raise ValueError(f"storage {shown!r} cannot be opened: {reason}{advice}") from None
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"storage {shown!r} cannot be reached: {_without_password(reason)}") from None
    if url.startswith("sqlite"):
        _complete_indexes(storage)
        _make_safe_and_quick(storage)
    else:
        event.listen(storage.engine, "do_connect", _connect_patiently)
    return optuna.storages.get_storage(storage)


def _connect_patiently(dialect: Any, _: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Connect to a server that was there before, and wait for one that is being restarted."""
    end = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(_RESTART_SECONDS / 100)


def _complete_indexes(storage: RDBStorage) -> None:
    """Make what a process that was killed while it made the tables left out: Optuna makes whole tables alone.

    One of the indexes forbids two studies of a name, which Optuna relies on to find the one that is there.
    """
    for table in BaseModel.metadata.sorted_tables:
        for index in table.indexes:
            index.create(storage.engine, checkfirst=True)


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
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _with_installed_driver(url: str) -> str:
    """Name the one PostgreSQL driver there is: what a bare URL means depends on SQLAlchemy's version."""
    installed = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)]
    if url.startswith("postgresql://") and len(installed) == 1:
        return url.replace("postgresql://", f"postgresql+{installed[0]}://", 1)
    return url


def _open_journal(path: Path) -> BaseStorage:
    _check_folder(path)
    file = str(path.resolve())
    try:
        # The lock is a file of its own: a link to the journal would dangle if the path were relative.
        lock = JournalFileOpenLock(file)
        _mend_last_line(path, lock)
        return JournalStorage(JournalFileBackend(file, lock))
    except (OSError, *_DAMAGE) as error:
        raise ValueError(
            f"storage {file!r} is not a readable journal of studies: {one_line(error)}"
        ) from None


def _mend_last_line(path: Path, lock: JournalFileOpenLock) -> None:
    """Take back a line that was cut, as by a power failure, lest the next one be written right behind it."""
    if not path.exists() or not os.access(path, os.W_OK):
        return
    with get_lock_file(lock), path.open("r+b") as file:
        content = file.read()
        if content.startswith(_JOURNAL_START) and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise ValueError(f"storage {str(path)!r} lies in a folder that does not exist: {path.parent}")
    refuse_link(path)
    if path.is_dir():
        raise ValueError(f"storage must be a file or a database URL, got the folder {str(path)!r}")


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


def open_study(
    storage: str | Path | BaseStorage | None,
    *,
    name: str,
    space: Space,
    objectives: Objectives,
    sampler: BaseSampler,
    task: str,
) -> Study:
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
    identity = {"task": task, "space": space.describe(), "objectives": encode(objectives)}
    with naming_the_storage(_place(name, opened)):
        if name in _names(opened):
            _check_identity(_load(opened, name), identity, objectives.directions)
        with naming_damage(opened):
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
        with naming_damage(opened):
            release_stale_trials(study, space)
            retry_lost_trials(study, space)
    return study


def find_study(storage: str | Path, name: str | None = None) -> Study:
    """Load a study for reading, without a check of what it asks; `name` may be left out if there is only one.

    Raises ValueError if the storage cannot be reached or lacks the study; the message lists those it has.
    """
    file = str(storage).removeprefix("sqlite:///")
    if "://" not in file and not Path(file).exists():
        raise ValueError(f"storage {str(storage)!r} does not exist")
    if not _holds_studies(file):
        raise ValueError(f"storage {str(storage)!r} holds no studies of Optuna")
    opened = open_storage(storage)
    with naming_the_storage(_address(opened)):
        names = _names(opened)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            listed = ", ".join(names) or "none"
            raise ValueError(f"study must name one of those in the storage ({listed}), got {name!r}")
        return _load(opened, name)


def _holds_studies(file: str) -> bool:
    """Whether a database has tables of studies: Optuna would make them in whatever it opens."""
    if "://" in file or file.endswith(_JOURNAL_ENDINGS):
        return True
    with contextlib.closing(
        sqlite3.connect(f"{Path(file).absolute().as_uri()}?mode=ro", uri=True)
    ) as database:
        try:
            return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchall())
        except sqlite3.Error:
            return True  # which opening it tells better


def _names(storage: BaseStorage) -> list[str]:
    with naming_damage(storage):
        return optuna.get_all_study_names(storage)


def _load(storage: BaseStorage, name: str) -> Study:
    """Load a study, and read all of it once."""
    with naming_damage(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        study.get_trials(deepcopy=False)
    return study


@contextlib.contextmanager
def naming_damage(storage: BaseStorage) -> Iterator[None]:
    """Name the storage where a letter has changed: a database does not notice, and Optuna trips over it."""
    try:
        yield
    except _DAMAGE as error:
        reason = f"is damaged and cannot be read: {one_line(error)}"
        raise ValueError(f"storage {_address(storage)!r} {reason}") from None


def enqueue_paired_design(
    study: Study, space: Space, sequences: Iterable[StageSequence], seeds: Iterable[int]
) -> int:
    """Enqueue each sequence at each seed as a trial, one seed after the other; return how many are new.

    What the study already holds of the design, waiting, running or finished, is not enqueued again; a stage
    that failed stays failed. Raises ValueError, and enqueues nothing, if a sequence lies outside the space.
    """
    completed = [space.complete(sequence) for sequence in sequences]
    there = {
        node_of(trial)
        for trial in study.get_trials(deepcopy=False)
        if design_of(trial) == PAIRED and not is_void(trial)
    }
    wanted = [(sequence, seed) for seed in seeds for sequence in completed]
    return _enqueue(study, space, [node for node in wanted if (str(node[0]), node[1]) not in there], PAIRED)


def enqueue_first(study: Study, space: Space, sequences: Iterable[StageSequence], *, seed: int) -> int:
    """Enqueue what a new study should try first, before its sampler is asked; return how many are new.

    A study that held trials before is no new one. One whose first process died in here gets what it lacks of
    the sequences that it began with. Raises ValueError if a sequence lies outside the space.
    """
    completed = [space.complete(sequence) for sequence in sequences]
    for sequence in completed:
        space.params(sequence)  # raises before the study is changed
    trials = study.get_trials(deepcopy=False)
    if not trials:
        study.set_user_attr(_FIRST, list(map(str, completed)))
    wanted = set(study.user_attrs.get(_FIRST, ())) - {trial.user_attrs.get("sequence") for trial in trials}
    return _enqueue(
        study, space, [(sequence, seed) for sequence in completed if str(sequence) in wanted], ADAPTIVE
    )


def _enqueue(study: Study, space: Space, nodes: Iterable[tuple[StageSequence, int]], design: str) -> int:
    """Enqueue each distinct node, if the space holds all of them; return how many there were."""
    params = {node: space.params(node[0]) for node in nodes}
    for (sequence, seed), values in params.items():
        study.enqueue_trial(values, user_attrs={"sequence": str(sequence), "seed": seed, "design": design})
    return len(params)


def _check_identity(study: Study, wanted: dict[str, Any], directions: list[Direction]) -> None:
    """Raise ValueError if an existing study asks something else, or holds trials that are not ours."""
    identity, name = study.user_attrs.get(_IDENTITY), study.study_name
    if identity is None and not study.trials:
        return
    if identity is None:
        raise ValueError(
            f"study {name!r} has {len(study.trials)} trials that ordercomp did not make; choose another name"
        )
    there = [direction.name.lower() for direction in study.directions]
    changes = [f"directions: {there} there, {directions} now"] if there != directions else []
    changes += differences(identity, wanted)
    if changes:
        raise ValueError(
            f"study {name!r} asks another question: {'; '.join(changes[:5])}; choose another name or storage"
        )
