"""What trains, what is done and how long it still takes: a live view on a terminal, else plain lines.

The view hears of finished nodes from the caller, of what workers train from the log of the runner.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.report.tables import duration_text, loss_text, times_text
from ordercomp.cli.output import console
from ordercomp.running.jobs import Finished, NodeJob
from ordercomp.running.runner import ENDED, STARTED, node_label

_MOST_WORKERS = 8  # lines of the live view
_WIDTH = 30  # of the bar
_PLAIN_SECONDS = 30.0  # between two lines that say how far a run is


class View:
    """What is known of a run. Call it with each finished node."""

    def __init__(
        self,
        shown: Console,
        total: int | None,
        *,
        budget_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = shown
        self._clock = clock
        self._begun = clock()
        self._budget = budget_seconds
        self._total = total
        self._unit = "networks"
        self._done = 0  # of the total
        self._counted_elsewhere = False  # whether `count` says how much is done
        self._trained = self._reused = self._failed = 0
        self._running: dict[str, tuple[NodeJob, float]] = {}
        self._last = ""
        self._notes: list[str] = []
        self._told_at = self._begun  # when a plain line last said how far the run is

    def __call__(self, finished: Finished) -> None:
        """Take in a finished node."""
        record = finished.record
        self._trained += not finished.reused and finished.kept
        self._reused += finished.reused
        self._failed += record.error is not None
        self._done += not self._counted_elsewhere
        result = record.error or f"{record.metric} {record.points[0].accuracy:.3f}"
        self._last = f"{record.order} seed {record.seed}: {result}"
        if not self._console.is_terminal:
            note = "reused" if finished.reused else f"{record.seconds:.1f} s"
            self._say(f"{self._last[:100]}, {note}")
            self._say_how_far()

    def plan(self, total: int) -> None:
        """Say how many nodes there will be, once that is known."""
        self._total = total

    def count(self, done: int, total: int, unit: str) -> None:
        """Say how far the run is in units of its own, such as trials; nodes alone do not count then."""
        self._counted_elsewhere, self._done, self._total, self._unit = True, done, total, unit

    def note(self, *lines: str) -> None:
        """Show what is known of the answer so far, in place of what was shown before."""
        if list(lines) != self._notes and not self._console.is_terminal:
            for line in lines:
                self._say(line)
        self._notes = list(lines)

    def started(self, job: NodeJob) -> None:
        """A worker took a node."""
        self._running[job.key] = (job, self._clock())
        if not self._console.is_terminal and job.parent_key is None:
            self._say(f"training {node_label(job)}")

    def ended(self, job: NodeJob) -> None:
        """A worker is done with a node, or lost."""
        self._running.pop(job.key, None)

    def say(self, text: str) -> None:
        """Print a line that stays, above the view."""
        self._say(text)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the pace so far, at most what the budget leaves; None as long as nothing says."""
        return min(self._estimates(self._clock() - self._begun).values(), default=None)

    def _estimates(self, elapsed: float) -> dict[str, float]:
        """Seconds left, by what says so, in words with a place for them."""
        estimates = {}
        if self._total is not None and self._trained and self._done:
            fresh = self._done if self._counted_elsewhere else self._trained
            estimates["about {} left"] = elapsed / fresh * max(0, self._total - self._done)
        if self._budget is not None:
            estimates["{} of the budget left"] = max(0.0, self._budget - elapsed)
        return estimates

    def __rich__(self) -> RenderableType:
        """The live view."""
        head = Table.grid(padding=(0, 1))
        total = max(self._total or 0, self._done)
        bar = ProgressBar(total=total or None, completed=self._done, width=_WIDTH, pulse=self._total is None)
        head.add_row(bar, Text(f"{self._counts}, {self._times}"))
        lines: list[RenderableType] = [head]
        now = self._clock()
        for job, since in list(self._running.values())[:_MOST_WORKERS]:
            lines.append(_line(f"  {node_label(job)}, {now - since:.0f} s", "dim"))
        if self._last:
            lines.append(_line(f"  last: {self._last}", "dim"))
        return Group(*lines, *(_line(note, "") for note in self._notes))

    @property
    def _counts(self) -> str:
        planned = "" if self._total is None else f"/{max(self._total, self._done)}"
        parts = [f"{self._done}{planned} {self._unit}", f"{self._trained} trained"]
        parts += [f"{self._reused} reused"] if self._reused else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join(parts)

    @property
    def _times(self) -> str:
        elapsed = self._clock() - self._begun
        estimate, left = min(self._estimates(elapsed).items(), key=lambda item: item[1], default=("", 0.0))
        shown = duration_text(elapsed)
        return f"{shown}, {estimate.format(duration_text(left))}" if left else shown

    def _say_how_far(self) -> None:
        if self._clock() - self._told_at >= _PLAIN_SECONDS:
            self._told_at = self._clock()
            self._say(f"{self._counts}, {self._times}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching(total: int | None = None, *, budget_seconds: float | None = None) -> Iterator[View]:
    """Show how a run of `total` nodes goes on; yields the view, to be called with each finished node.

    Meanwhile warnings of the runner and of Optuna become lines above the view.
    """
    view = View(console, total, budget_seconds=budget_seconds)
    with _listening(view):
        if not console.is_terminal:
            yield view
            return
        with Live(view, console=console, refresh_per_second=4):
            yield view


NOTED_LOSSES = (0.01, 0.02)  # whose best network is shown while a search goes on


class BestSoFar:
    """Passes nodes on to the view, and notes there the best network of this run."""

    def __init__(self, view: View, ranking: Any) -> None:
        """Prepare; `ranking` is a `jobs.search_folder.Ranking`, which is heavy to import."""
        self._view, self._ranking = view, ranking
        self._best: dict[float, Candidate] = {}

    def __call__(self, finished: Finished) -> None:
        """Take in a finished node."""
        self._view(finished)
        points = self._ranking.candidates([finished.record])
        for loss in NOTED_LOSSES:
            former = [self._best[loss]] if loss in self._best else []
            if (best := self._ranking.best([*former, *points], loss)) is not None:
                self._best[loss] = best
        lines = []
        for best, losses in itertools.groupby(self._best, key=lambda loss: self._best[loss]):
            within = ", ".join(map(loss_text, losses))
            lines.append(
                f"best so far, losing up to {within}: {times_text(best.bitops_cr)} fewer bit operations, "
                f"{times_text(best.cr)} less storage, {best.record.sequence}"
            )
        self._view.note(*lines)


def _line(text: str, style: str) -> Text:
    """One line of text, cut where the terminal ends."""
    return Text(
        " ".join(text.split()) if not text.startswith(" ") else text, style, overflow="ellipsis", no_wrap=True
    )


class _Ear(logging.Handler):
    """Tells a view what loggers say."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on jobs that start and end, and print warnings."""
        if isinstance(job := getattr(record, STARTED, None), NodeJob):
            self._view.started(job)
        elif isinstance(job := getattr(record, ENDED, None), NodeJob):
            self._view.ended(job)
        elif record.levelno >= logging.WARNING:
            self._view.say(f"ordercomp: {record.getMessage()}")


@contextmanager
def _listening(view: View) -> Iterator[None]:
    """Let the view hear the runner, and the warnings of Optuna, for as long as this lasts."""
    ear = _Ear(view)
    ours, optuna = logging.getLogger("ordercomp"), logging.getLogger("optuna")
    before = (ours.level, optuna.level, list(optuna.handlers))
    ours.setLevel(logging.INFO)
    ours.addHandler(ear)
    optuna.setLevel(logging.WARNING)
    optuna.handlers[:] = [ear]
    try:
        yield
    finally:
        ours.removeHandler(ear)
        ours.setLevel(before[0])
        optuna.setLevel(before[1])
        optuna.handlers[:] = before[2]
