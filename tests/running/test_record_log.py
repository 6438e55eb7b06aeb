"""The record log: one file of records, many writers, nothing lost, doubled or stale."""

import errno
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_record

from ordercomp.records import Record, RecordError, append_record, read_records
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.record_log import RecordLog
from ordercomp.running.task import TASKS
from ordercomp.sequence import StageSequence


def done(record: Record, *, kept: bool = True) -> Finished:
    request = Request(StageSequence.parse(record.sequence), record.seed)
    return Finished(request, record, reused=False, kept=kept)


def append_many(path: Path, process: int, count: int) -> None:
    for number in range(count):
        append_record(path, make_record("DP", seed=1000 * process + number, note="x" * 5000))


def add_many(path: Path, seeds: range) -> None:
    file = RecordLog(path)
    for seed in seeds:
        file.add(done(make_record("DP", seed=seed)))


def run_together(*calls: tuple[object, ...]) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=call[0], args=call[1:]) for call in calls]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.integration
def test_no_line_is_lost_or_torn_when_six_processes_append(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run_together(*((append_many, path, process, 60) for process in range(6)))
    seeds = [record.seed for record in read_records(path)]
    assert sorted(seeds) == sorted(1000 * process + number for process in range(6) for number in range(60))


def test_runs_that_share_a_file_write_each_node_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run_together(
        (add_many, path, range(40)), (add_many, path, range(39, -1, -1)), (add_many, path, range(40))
    )
    assert sorted(record.seed for record in read_records(path)) == list(range(40))


def test_a_failure_that_may_pass_is_never_written(tmp_path: Path) -> None:
    file = RecordLog(tmp_path / "r.jsonl")
    file.add(done(make_record("P", error="MemoryError"), kept=False))
    assert file.records == []
    assert not (tmp_path / "r.jsonl").exists()


def test_a_success_takes_the_place_of_a_failure_of_the_same_node(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    failed, other = make_record("P", error="no memory", digest="a"), make_record("D", digest="b")
    for record in (failed, other):
        append_record(path, record)
    before = path.read_bytes().split(b"\n")[1]
    file, beside = RecordLog(path), RecordLog(path)
    file.add(done(replace(failed, error=None, points=other.points)))
    assert [(record.order, record.error) for record in read_records(path)] == [("P", None), ("D", None)]
    assert path.read_bytes().split(b"\n")[1] == before
    beside.add(done(failed))  # a failure never takes the place of a success
    assert beside.records == file.records == read_records(path)
    file.add(done(make_record("P", digest="other code")))
    assert len(read_records(path)) == 3


def test_a_torn_last_line_is_cut_and_the_records_of_others_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = RecordLog(path)
    file.add(done(make_record("D")))
    with path.open("ab") as torn:
        torn.write(b'{"order": "P", "seq')
    other = RecordLog(path)
    other.add(done(make_record("Q")))
    file.add(done(make_record("Q")))
    file.add(done(make_record("E")))
    assert [record.order for record in read_records(path)] == ["D", "Q", "E"]
    assert [record.order for record in file.records] == ["D", "Q", "E"]


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, make_record("D"))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append_record(path, make_record("P"))
    assert path.read_bytes().endswith(b"\n")
    assert [record.order for record in read_records(path)] == ["D"]


def test_records_of_another_task_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, make_record("D", task="digits"))
    with pytest.raises(ValueError, match="holds records of task 'digits', not 'mine'"):
        RecordLog(path, task=replace(TASKS["digits"], name="mine"))
    path.write_text("{}\n")
    with pytest.raises(RecordError, match="line 1"):
        RecordLog(path)
