"""The progress bar: whatever an error says, it is shown and nothing breaks."""

import io

import pytest
from builders import make_record
from rich.console import Console

from ordercomp.running.jobs import Finished, Request
from ordercomp.sequence import StageSequence
from ordercomp.studies.cli import progress


@pytest.mark.parametrize("error", ["fails in [/lib/x.cc:12]", "[bold", "[/]", "[red]no[/blue]", "\\["])
@pytest.mark.parametrize("terminal", [True, False])
def test_brackets_in_an_error_are_no_markup(
    error: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown, force_terminal=terminal, width=200))
    record = make_record("P", error=error)
    with progress.watching(1) as report:
        report(Finished(Request(StageSequence.parse(record.sequence), 0), record, reused=False))
    assert error in shown.getvalue()
