"""A record trained again: equal bit for bit, or told where it differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ordercomp.cli.main import main
from ordercomp.errors import FailedRunError
from ordercomp.jobs.rerun import choose_record, rerun
from ordercomp.records import Record, read_records, write_records
from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task

pytestmark = pytest.mark.integration

TOML = """
model = "resnet8(width=2)"
data = "digits"
train_limit = 256
[recipe]
epochs = 4
batch_size = 32
learning_rate = 0.1
precision = "float32"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerun")
    (folder / "tiny.toml").write_text(TOML)
    task = load_task(str(folder / "tiny.toml"))
    with Runner(task, Store(folder / "store"), workers=1) as runner:
        done = list(runner.run([Request(task.sequence("EP"), 0)]))
    write_records(folder / "records.jsonl", [one.record for one in done])
    return folder


@pytest.fixture
def task(folder: Path) -> Task:
    return load_task(str(folder / "tiny.toml"))


@pytest.fixture
def record(folder: Path) -> Record:
    return choose_record(folder / "records.jsonl", sequence="EP")


def test_a_record_comes_again_bit_for_bit(record: Record, task: Task) -> None:
    done = rerun(record, task)
    assert done.differences == ()
    assert done.same_setting
    assert done.again.points == record.points


def test_a_changed_digit_is_told_with_its_place(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = read_records(folder / "records.jsonl")
    changed = replace(first, points=(replace(first.points[0], accuracy=0.5), *first.points[1:]))
    write_records(tmp_path / "records.jsonl", [changed, second])
    with pytest.raises(SystemExit) as ended:
        main(["rerun", str(tmp_path), "--line", "1", "--json"])
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert "differs on the same code and hardware: points 0 accuracy: 0.5 there" in told.err
    assert json.loads(told.out)["equal"] is False


def test_another_task_is_refused_before_training(record: Record, task: Task) -> None:
    longer = replace(task, recipe=replace(task.recipe, epochs=2))
    with pytest.raises(ValueError, match=r"is not what the record of .* was made with"):
        rerun(record, longer)


def test_a_node_that_cannot_be_trained_is_a_failed_run(
    record: Record, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "run", lambda self, requests: iter(()))
    with pytest.raises(FailedRunError, match="was not trained again: it was interrupted"):
        rerun(record, task)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"line": 3}, "line must be one of the 2 records"),
        ({"sequence": "D"}, "must hold one record of 'D' at seed 0, it holds 0"),
        ({"sequence": "EP", "seed": 4}, "at seed 4, it holds 0"),
    ],
)
def test_a_record_that_is_not_there_is_named(folder: Path, chosen: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_record(folder / "records.jsonl", **chosen)


def test_other_hardware_is_named(record: Record, task: Task) -> None:
    assert torch.backends.cpu.get_cpu_capability() in record.extra["hardware"]
    elsewhere = replace(record, extra={**record.extra, "hardware": "another CPU, AVX2, 1 thread(s)"})
    done = rerun(elsewhere, task)
    assert (done.same_setting, done.same_hardware) == (False, False)
