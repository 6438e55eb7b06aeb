"""Which processes run: this one, none, one that has ended and was not asked for its end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordercomp import files
from ordercomp import files as process_table
from ordercomp.files import is_running, start_ticks

NOBODY = 999_999_999  # larger than any process id


@pytest.fixture
def zombie() -> Iterator[int]:
    """The id of a child that has ended, as long as nobody asks for its end."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    yield child
    os.waitpid(child, 0)


def test_this_process_runs_and_nobody_does_not() -> None:
    assert is_running(os.getpid())
    assert not is_running(NOBODY)
    assert start_ticks(NOBODY) is None


def test_without_a_table_a_signal_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_table, "TABLE", tmp_path)
    assert start_ticks(os.getpid()) is None
    assert is_running(os.getpid())
    assert not is_running(NOBODY)


def test_the_draft_of_a_process_that_has_ended_is_removed(zombie: int, tmp_path: Path) -> None:
    left, ours = (tmp_path / f"law.json.{files._HOST}-{pid}-00000000.part" for pid in (zombie, os.getpid()))
    left.touch()
    ours.touch()
    files.drop_drafts(tmp_path)
    assert not left.exists()
    assert ours.exists()
