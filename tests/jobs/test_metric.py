"""Another metric than accuracy: losses are about it, and its name stands wherever its figures do."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordercomp.cli.main import main
from ordercomp.jobs.check import check_task
from ordercomp.jobs.compress import compress
from ordercomp.jobs.discover import discover
from ordercomp.measuring.accuracy import CLASS_METRICS
from ordercomp.records import read_records
from ordercomp.running.task import Task
from ordercomp.training.recipe import Recipe

TINY = Task(
    name="tiny",
    model="resnet8(width=4)",
    data="digits",
    stages="PE",
    train_limit=128,
    metric="balanced accuracy",
    recipe=Recipe(epochs=0.2, batch_size=64, precision="float32"),
)
TOML = """
model = "resnet8(width=4)"
data = "digits"
stages = "PE"
train_limit = 128
metric = "macro F1"

[recipe]
epochs = 0.2
batch_size = 64
precision = "float32"
"""


def test_only_another_metric_than_accuracy_is_another_task() -> None:
    plain = replace(TINY, metric="accuracy")
    assert (
        plain.digest
        == Task.from_mapping(
            {"name": "tiny", "model": TINY.model, "data": "digits", "train_limit": 128}
            | {"recipe": {"epochs": 0.2, "batch_size": 64, "precision": "float32"}}
        ).digest
    )
    assert len({replace(TINY, metric=name).digest for name in CLASS_METRICS}) == len(CLASS_METRICS)


@pytest.mark.integration
def test_records_law_and_page_of_a_discovery_name_the_metric(tmp_path: Path) -> None:
    discover(TINY, out=tmp_path, seeds=1, workers=1)
    measured = [record for record in read_records(tmp_path / "records.jsonl") if record.points]
    assert {record.metric for record in measured} == {"balanced accuracy"}
    law = json.loads((tmp_path / "law.json").read_text())
    assert (law["metric"], law["answer"]["metric"]) == ("balanced accuracy", "balanced accuracy")
    page = (tmp_path / "report.html").read_text()
    assert "test balanced accuracy" in page
    assert page.count("accuracy") == page.count("balanced accuracy") + page.count("at_equal_accuracy")


@pytest.mark.integration
def test_the_terminal_names_the_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(TOML)
    with pytest.raises(SystemExit):
        main(
            [
                "compress",
                "PE",
                "--task",
                str(tmp_path / "mine.toml"),
                "--out",
                str(tmp_path / "n.safetensors"),
            ]
        )
    out = capsys.readouterr().out
    assert "validation macro F1" in out
    assert "accuracy" not in out


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (TINY, {"guarantee": True}, "which balanced accuracy is not a share of"),
        (replace(TINY, metric="macro F1"), {"guarantee": True}, "which macro F1 is not a share of"),
    ],
)
def test_what_a_metric_cannot_do_is_told_before_anything_trains(
    task: Task, options: dict[str, bool], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        compress("P", task, out=tmp_path / "n.safetensors", store=tmp_path / "store", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        discover(task, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.json"))


def test_an_unknown_metric_exits_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(TOML.replace("macro F1", "acuracy"))
    with pytest.raises(SystemExit) as ended:
        main(["discover", "--task", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "metric must be one of accuracy, balanced accuracy, top-5, macro F1" in told
    assert not (tmp_path / "out").exists()


def folder(root: Path, counts: dict[str, int]) -> Task:
    """A task on a folder with that many images in each class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return replace(TINY, name="mine", data=f"folder:{root}", train_limit=None)


@pytest.mark.integration
def test_uneven_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_task(folder(tmp_path / "even", {"cat": 20, "dog": 20}))
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        check_task(folder(tmp_path / "uneven", {"cat": 50, "dog": 10}))
    (line,) = caplog.messages
    assert "30 training images of 'cat' and 6 of 'dog'" in line
    assert "metric = 'balanced accuracy'" in line


def test_top_5_of_few_classes_is_refused(tmp_path: Path) -> None:
    task = replace(folder(tmp_path / "two", {"cat": 20, "dog": 20}), metric="top-5")
    with pytest.raises(ValueError, match=r"top-5 needs more than 5 classes, folder:.* has 2"):
        check_task(task)
