"""Folders that hold what is not ours, or lead elsewhere: refused before anything is trained or written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ordercomp.jobs.discover import discover
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.running.task import TASKS

JOBS: dict[str, Callable[[Path], object]] = {
    "discover": lambda out: discover(TASKS["digits"], out=out, workers=1),
    "search": lambda out: run_search(SearchPlan(task=TASKS["digits"], out=out)),
}


@pytest.mark.integration
@pytest.mark.parametrize("job", JOBS)
def test_a_folder_of_networks_that_is_a_link_is_refused(job: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "networks").symlink_to(tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"networks is a link to .*, and links are not written through"):
        JOBS[job](tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["networks"]


@pytest.mark.integration
@pytest.mark.parametrize("job", JOBS)
def test_a_store_of_other_files_is_refused_and_stays_as_it_is(job: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is no store of ours, it holds mine"):
        JOBS[job](tmp_path)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine.safetensors"]
