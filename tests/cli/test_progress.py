"""The view of a run: what it counts, what it estimates, and that nothing which others say breaks it."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import make_record
from rich.console import Console

from ordercomp.cli import progress
from ordercomp.running.jobs import Finished, NodeJob, Request
from ordercomp.running.runner import ENDED, STARTED
from ordercomp.sequence import StageSequence


@dataclass(frozen=True)
class Named:
    """The part of a task that a job needs."""

    name: str = "fake"
    digest: str = "0"


class Clock:
    """A time that stands still unless it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def finished(order: str = "P", *, reused: bool = False, error: str | None = None) -> Finished:
    record = make_record(order, error=error)
    return Finished(Request(StageSequence.parse(record.sequence), 0), record, reused=reused)


def job(text: str, key: str) -> NodeJob:
    parent = "parent" if text else None
    return NodeJob(Named(), StageSequence.parse(text), 1, key, parent, Path("store"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a program writes that is not run on a terminal."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, force_terminal=False, width=200))
    return text


def picture(view: progress.View) -> str:
    """The live view as text."""
    text = io.StringIO()
    Console(file=text, width=160, force_terminal=False).print(view)
    return text.getvalue()


@pytest.mark.parametrize("error", ["fails in [/lib/x.cc:12]", "[bold", "[/]", "[red]no[/blue]", "\\["])
@pytest.mark.parametrize("terminal", [True, False])
def test_brackets_in_an_error_are_no_markup(
    error: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown, force_terminal=terminal, width=200))
    with progress.watching(1) as view:
        view(finished(error=error))
        view.note(error)
    assert shown.getvalue().count(error) >= 2


def test_the_view_counts_what_is_done_trained_reused_and_failed() -> None:
    view = progress.View(Console(file=io.StringIO(), force_terminal=True), 8, clock=Clock())
    for one in (finished(reused=True), finished("Q"), finished("D", error="it diverged")):
        view(one)
    assert "3/8 networks, 2 trained, 1 reused, 1 failed" in picture(view)
    assert "last: D seed 0: it diverged" in picture(view)


def test_time_left_goes_by_the_trained_ones_and_never_beyond_the_budget() -> None:
    clock = Clock()
    view = progress.View(
        Console(file=io.StringIO(), force_terminal=True), 10, budget_seconds=100.0, clock=clock
    )
    assert view.seconds_left == 100.0
    for one in (finished(reused=True), finished("Q"), finished("D")):
        view(one)
    clock.now = 20.0
    assert view.seconds_left == pytest.approx(70.0)  # seven at ten seconds each
    clock.now = 60.0
    assert view.seconds_left == pytest.approx(40.0)  # what the budget leaves
    clock.now = 200.0
    assert view.seconds_left == 0.0


def test_what_the_budget_leaves_is_told_as_such() -> None:
    class Running(Clock):
        def __call__(self) -> float:
            self.now += 1e-6  # as a clock does between two looks
            return self.now

    clock, terminal = Running(), Console(file=io.StringIO(), force_terminal=True)
    view = progress.View(terminal, 10, budget_seconds=90.0, clock=clock)
    clock.now = 30.0
    assert "30 s, 60 s of the budget left" in picture(view)
    view(finished())  # nine more would take longer
    assert "30 s, 60 s of the budget left" in picture(view)
    view.plan(2)
    assert "30 s, about 30 s left" in picture(view)


def test_nothing_is_said_of_the_time_left_before_something_is_known() -> None:
    clock = Clock()
    view = progress.View(Console(file=io.StringIO(), force_terminal=True), None, clock=clock)
    view(finished(reused=True))
    clock.now = 5.0
    assert view.seconds_left is None
    assert "1 networks, 0 trained, 1 reused, 5 s\n" in picture(view)


def test_units_of_the_caller_take_the_place_of_nodes() -> None:
    clock = Clock()
    view = progress.View(Console(file=io.StringIO(), force_terminal=True), None, clock=clock)
    view.count(0, 20, "trials")
    for one in (finished("D"), finished("P"), finished("Q")):
        view(one)
    view.count(2, 20, "trials")
    clock.now = 30.0
    assert view.seconds_left == pytest.approx(270.0)
    assert "2/20 trials, 3 trained, 30 s, about 4.5 min left" in picture(view)


def test_a_plain_run_says_each_node_once_and_now_and_then_how_far_it_is(shown: io.StringIO) -> None:
    clock = Clock()
    view = progress.View(progress.console, 4, clock=clock)
    view.started(job("", "b"))
    view(finished("D"))
    clock.now = 31.0
    view(finished("P", reused=True))
    view.note("best so far: D")
    view.note("best so far: D")
    assert shown.getvalue().splitlines() == [
        "training the baseline at seed 1",
        "D seed 0: accuracy 0.950, 1.0 s",
        "P seed 0: accuracy 0.950, reused",
        "2/4 networks, 1 trained, 1 reused, 31 s, about 62 s left",
        "best so far: D",
    ]


def test_the_log_of_the_runner_tells_what_is_in_training_and_optuna_only_warns(shown: io.StringIO) -> None:
    ours, optuna = logging.getLogger("ordercomp.running.runner"), logging.getLogger("optuna.study")
    before = (logging.getLogger("ordercomp").level, logging.getLogger("optuna").level)
    with progress.watching(2) as view:
        for text, key in (("D", "d"), ("Q", "q")):
            ours.info("training %s", text, extra={STARTED: job(text, key)})
        ours.info("no longer", extra={ENDED: job("D", "d")})
        now = picture(view)
        optuna.info("Trial 3 finished with value [1]")
        optuna.warning("[bold] is odd")
    assert "Q at seed 1, 0 s" in now
    assert "D at seed 1" not in now
    assert shown.getvalue().splitlines() == ["ordercomp: [bold] is odd"]
    assert (logging.getLogger("ordercomp").level, logging.getLogger("optuna").level) == before
