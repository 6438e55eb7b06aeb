"""Where a study lives: an SQLite file, a journal file, or a database by URL."""

import contextlib
import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import Connection, event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ordercomp.files import lock_of, refuse_link

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
