"""A race on a cheaper copy before the race on the task: what is trained where, and what is told."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ordercomp.jobs import proxy as job
from ordercomp.jobs.proxy import Proxy, discover_by_proxy, suggested
from ordercomp.records import read_records
from ordercomp.running.task import TASKS, Task
from ordercomp.training.recipe import Recipe

TINY = Task(
    name="tiny",
    model="resnet8(width=4)",
    data="digits",
    stages="PQ",
    knobs={"P": {"ratio": 0.3}, "Q": {"weights": 4, "activations": 8}},
    loss=0.3,
    recipe=Recipe(epochs=6, batch_size=64, learning_rate=0.1, precision="float32"),
    train_limit=400,
)


@pytest.mark.integration
def test_a_race_on_a_copy_comes_before_the_one_on_the_task(tmp_path: Path) -> None:
    told: list[str] = []
    task = replace(TINY, ladder="fixed")
    done = discover_by_proxy(
        task,
        Proxy(epochs=0.5),
        out=tmp_path,
        budget_seconds=None,
        seeds=2,
        workers=1,
        told=lambda *lines: told.extend(lines),
    )
    first, raced, guess, cost = told
    assert first.startswith("measuring the baselines of the task and of a cheaper copy")
    assert raced.startswith("raced first on a copy with epochs=0.5, about 50 % of the work")
    assert guess.startswith("by the copy alone: Take ")
    assert cost.startswith("Against the best of the ")
    copied, own = (read_records(tmp_path / folder / "records.jsonl") for folder in ("proxy", "."))
    assert {record.task for record in copied} == {"tiny at epochs=0.5"}
    assert {record.task for record in own} == {"tiny"}
    assert done.answer.recommended is not None
    assert done.answer.asked.standings[done.answer.recommended].seeds > 0
    again = json.loads((tmp_path / "law.json").read_text())
    assert again["answer"]["recommended"] == done.answer.recommended


def test_a_run_that_is_stopped_on_the_copy_does_not_go_on_to_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced: list[str] = []

    class Stopped:
        interrupted = True

    def race(task: Task, **_: object) -> Stopped:
        raced.append(task.name)
        return Stopped()

    monkeypatch.setattr(job, "discover", race)
    assert discover_by_proxy(TINY, Proxy(epochs=0.5), out=tmp_path).interrupted
    assert raced == ["tiny at epochs=0.5"]


@pytest.mark.integration
def test_a_copy_near_chance_gives_way_to_a_better_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced: list[tuple[str, float]] = []
    monkeypatch.setattr(job, "discover", lambda task, **_: raced.append((task.name, task.loss)))
    with caplog.at_level(logging.WARNING), pytest.raises(AttributeError):  # there is nothing to go on from
        discover_by_proxy(TINY, Proxy(epochs=0.02), out=tmp_path)
    assert "a copy with epochs=0.02 reaches" in caplog.text
    assert "epochs=0.04 instead" in caplog.text
    ((name, loss),) = raced
    assert name.startswith("tiny at epochs=")
    assert loss > TINY.loss


@pytest.mark.integration
def test_a_copy_whose_baseline_only_guesses_after_an_epoch_gives_way_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced: list[str] = []
    monkeypatch.setattr(job, "discover", lambda task, **_: raced.append(task.name))
    hardly = replace(TINY, recipe=replace(TINY.recipe, learning_rate=1e-9))  # learns nothing in any epoch
    with caplog.at_level(logging.WARNING):
        discover_by_proxy(hardly, Proxy(epochs=0.5), out=tmp_path)
    assert "a copy with epochs=0.5 is of no use, as the uncompressed network gets" in caplog.text
    assert "full instead" in caplog.text
    assert raced == ["tiny"]


def test_a_copy_is_suggested_that_keeps_half_an_epoch() -> None:
    assert suggested(TASKS["digits"]) == Proxy(epochs=0.25)
    short = replace(TINY, recipe=replace(TINY.recipe, epochs=1.0))
    assert suggested(short) == Proxy(images=0.25)


@pytest.mark.integration
def test_a_copy_that_cannot_be_built_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images = 0\.01 of a proxy leaves 4 images of digits"):
        discover_by_proxy(TINY, Proxy(images=0.01), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_time_that_baselines_take_is_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.time, "monotonic", lambda: 100.0)
    assert job._left(60.0, 90.0) == 50.0
    assert job._left(60.0, 0.0) == 1.0  # a run that is over still answers
    assert job._left(None, 0.0) is None
