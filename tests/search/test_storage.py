"""Storages that cannot be opened, break meanwhile, are damaged, or are opened by many at once."""

import contextlib
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from benchmarks.search_worlds import SyntheticWorld, TableRunner
from ordercomp.search.drive import run_study
from ordercomp.search.results import records_from_study
from ordercomp.search.study import find_study, naming_damage, open_storage, place_of
from tests.studies_on_disk import ASKED, opened, paired_study, run

pytestmark = pytest.mark.integration

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("{}/missing/study.db", "lies in a folder that does not exist"),
        ("{}", "got the folder"),
        ("{}/text.db", "cannot be reached: file is not a database"),
        ("{}/text.log", "is not a readable journal"),
        ("oracle-of-delphi://x", "must be a path or a database URL"),
        ("sqlite:///{}/missing/study.db", "folder that does not exist"),
        ("sqlite://", "would be lost with this process; give the path of a file"),
        ("sqlite:///:memory:", "would be lost with this process"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, storage: str, message: str) -> None:
    for name in ("text.db", "text.log"):
        (tmp_path / name).write_text("this is neither a database nor a journal\n" * 50)
    with pytest.raises(ValueError, match=message):
        opened(storage.format(tmp_path))


def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(ValueError, match=r"user:\*\*\*@127\.0\.0\.1:1.* cannot be reached") as caught:
        opened("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "advice"), [("mysql", False), ("postgresql+pg8000", True)])
def test_a_driver_is_advised_for_postgresql_only(scheme: str, advice: bool) -> None:
    with pytest.raises(ValueError, match="storage") as caught:
        opened(f"{scheme}://user:secret@127.0.0.1:1/none")
    assert ("psycopg2" in str(caught.value)) == advice
    assert "secret" not in str(caught.value)


def test_a_storage_that_fails_meanwhile_is_an_os_error(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.db")
    running = run_study(study, TableRunner(SyntheticWorld()), ASKED, trials=3)
    next(running)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        connection.execute("ALTER TABLE trial_user_attributes RENAME TO gone")
    with pytest.raises(
        OSError, match=r"the storage of study 'test' in .*study\.db failed: .*trial_user_attr"
    ):
        list(running)


def _open_when(go: Path, storage: Path) -> None:
    while not go.exists():
        time.sleep(0.001)
    open_storage(storage)


def test_processes_that_start_together_on_a_new_file_all_open_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    arguments = (tmp_path / "go", tmp_path / "study.db")
    processes = [fork.Process(target=_open_when, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    arguments[0].touch()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 3


@pytest.mark.parametrize("damage", ["text", "flipped", "cut", "empty page"])
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "study.db"
    run(paired_study(path, count=1))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    changed = {
        "text": b"this is no database " * 999,
        "flipped": whole[:4096] + bytes(byte ^ 255 for byte in whole[4096:9000]) + whole[9000:],
        "cut": whole[: len(whole) // 2],
        "empty page": bytes(4096) + whole[4096:],
    }[damage]
    path.write_bytes(changed)

    def use() -> None:
        opened(path)
        records_from_study(find_study(path))

    with pytest.raises((ValueError, OSError), match=r"storage|study"):
        use()


@pytest.mark.parametrize(
    "column",
    [
        *("trial_user_attributes.value_json", "study_user_attributes.value_json"),
        *("trials.state", "trials.datetime_start"),
        *("study_directions.direction", "trial_values.value_type"),
    ],
)
def test_a_changed_letter_in_a_database_is_told_with_its_file(tmp_path: Path, column: str) -> None:
    path = tmp_path / "study.db"
    run(paired_study(path, count=1))
    table, _, name = column.partition(".")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE {table} SET {name} = '{{' || substr({name}, 2)")
        connection.commit()
    for read in (opened, find_study):
        with pytest.raises(ValueError, match=r"storage '.*study\.db' is damaged and cannot be read: "):
            read(path)


def test_a_storage_that_is_open_already_is_told_by_its_place_without_a_password() -> None:
    opened_before = open_storage(None)
    opened_before._backend = SimpleNamespace(url="postgresql://user:secret@host/db")  # type: ignore[attr-defined]
    study = optuna.create_study(storage=opened_before, study_name="test")
    assert place_of(study) == "study 'test' in postgresql://user:***@host/db"
    told = r"storage 'postgresql://user:\*\*\*@host/db' is damaged"
    with pytest.raises(ValueError, match=told) as caught, naming_damage(opened_before):
        raise KeyError("state")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["op_code", "study_id", "trial_id", "user_attr"])
def test_a_changed_letter_in_a_journal_is_told_with_its_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "study.journal"
    run(paired_study(path, count=1))
    path.write_bytes(path.read_bytes().replace(b'"%b"' % key.encode(), b'"x%b"' % key[1:].encode(), 1))
    for read in (opened, find_study):
        with pytest.raises(ValueError, match=r"storage '.*study\.journal' is "):
            read(path)


@pytest.mark.parametrize("foreign", [True, False])
def test_a_database_of_something_else_is_left_as_it_was(tmp_path: Path, foreign: bool) -> None:
    path = tmp_path / "photos.db"
    path.touch()
    if foreign:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"storage '.*photos\.db' holds no studies of Optuna"):
        find_study(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["photos.db"]


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(lambda line: line[: len(line) // 2], id="half a line"),
        pytest.param(lambda line: line[:-1], id="a line without its end"),
        pytest.param(lambda line: line[:1], id="a brace"),
        pytest.param(lambda line: line[:20] + b"\xc3", id="half a letter"),
        pytest.param(lambda line: bytes(len(line)), id="zeros of a power failure"),
        pytest.param(lambda line: line[:30] + bytes(4096), id="a line that ends in zeros"),
    ],
)
def test_a_journal_whose_last_line_was_cut_is_read_and_written_on(
    tail: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "study.journal"
    run(paired_study(path, count=1))
    whole = records_from_study(find_study(path))
    path.write_bytes(path.read_bytes() + tail(path.read_bytes().splitlines(keepends=True)[-1]))
    assert records_from_study(find_study(path)) == whole
    run(paired_study(path, count=2))
    assert len(records_from_study(find_study(path))) > len(whole)


def test_a_database_whose_making_was_killed_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_storage(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX ix_studies_study_name")  # as if killed between a table and its index
        connection.commit()
    for _ in range(2):
        optuna.create_study(study_name="one", storage=open_storage(path), load_if_exists=True)
    assert len(open_storage(path).get_all_studies()) == 1
