"""The results that ship with the project: their records give the verdicts and the index beside them."""

import json
import math
import shutil
from pathlib import Path

import pytest

from ordercomp.studies.results import write_index
from ordercomp.studies.run import read_experiment

pytestmark = pytest.mark.integration

RESULTS = Path(__file__).parents[2] / "studies" / "results"
FOLDERS = sorted(marker.parent for marker in RESULTS.rglob("experiment.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(RESULTS)))
def test_the_records_give_the_verdicts_that_are_told(folder: Path) -> None:
    experiment, records = read_experiment(folder)
    told = json.loads((folder / "outcome.json").read_text())
    found = experiment.decide(records).findings
    assert [(one.claim, one.verdict) for one in found] == [
        (one["claim"], one["verdict"]) for one in told["findings"]
    ]
    effects = [math.nan if one.effect is None else one.effect for one in found]
    before = [math.nan if one["effect"] is None else one["effect"] for one in told["findings"]]
    assert effects == pytest.approx(before, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("out", sorted({folder.parent for folder in FOLDERS}), ids=lambda out: out.name)
def test_the_index_is_that_of_the_outcomes(out: Path, tmp_path: Path) -> None:
    shutil.copytree(
        out, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("index.md", "*.jsonl", "*.svg")
    )
    write_index(tmp_path)
    assert (out / "index.md").read_text() == (tmp_path / "index.md").read_text()
