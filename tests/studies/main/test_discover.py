"""The main job on a tiny task: what it writes, what a second run reuses, what it refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from ordercomp.analysis.evidence.corpus import SEQUENTIAL
from ordercomp.analysis.evidence.planning import blocks
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import read_records
from ordercomp.studies.main.discover import Design, Discovery, discover
from ordercomp.task import TASKS, Task
from ordercomp.training.recipe import Recipe

TINY = replace(
    TASKS["digits"],
    name="tiny",
    model="resnet8(width=8)",
    stages="PE",
    cases=({},),
    recipe=Recipe(epochs=0.2, batch_size=64, precision="float32"),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Discovery:
    return discover(TINY, out=tmp_path_factory.mktemp("discover"), seeds=2, budget_seconds=None, workers=1)


def test_the_design_has_every_order_and_controls_of_static_prefixes() -> None:
    design = Design(task=TASKS["digits"], seeds=(0, 1, 2))
    assert len(design.sequences) == 2 * 24
    assert sorted({sequence.order for sequence in design.controls})[:4] == ["DF", "DPF", "DPQF", "DQF"]
    assert len(design.controls) == 2 * 15
    assert design.size == 3 * (127 + 30)  # two rungs that share E


def test_cases_share_the_prefixes_that_are_equal() -> None:
    cases = ({"P": {"ratio": 0.2}}, {"P": {"ratio": 0.4}})
    design = Design(task=replace(TINY, stages="QP", cases=cases), seeds=(0,))
    texts = {" ".join(map(str, node)) for node in design.trie}
    assert "Q(weights=2,activations=4)" in texts
    assert len(texts) == 1 + 2 + 4 + 1 + 2 + 4  # Q, two P, four pairs, and F after each


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "user_nets:dense_only", "stages": "DP"}, "found no droppable block"),
        ({"model": "user_nets:untraceable", "stages": "PQ"}, "no gradients, please"),
        ({"model": "resnet43"}, "model must be one of"),
        ({"data": "folder:nowhere"}, "nowhere"),
    ],
)
def test_a_task_that_cannot_be_measured_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        discover(replace(TINY, **changes), out=tmp_path / "out", seeds=1, workers=1)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_everything_is_written(found: Discovery) -> None:
    names = {path.name for path in found.folder.iterdir()}
    assert {"records.jsonl", "law.json", "report.html", "networks", "study.db", "store"} <= names
    law = json.loads((found.folder / "law.json").read_text())
    assert law["task"] == "tiny"
    assert law["stages"] == "PE"
    assert law["trainings"]["done"] == 2 * 5  # P, E, PE, EP and PF at two seeds
    assert law["trainings"]["unshared"] == 2 * 8
    orders = sorted((record.order, record.seed) for record in read_records(found.folder / "records.jsonl"))
    assert orders == [(order, seed) for order in ("E", "EP", "P", "PE", "PF") for seed in (0, 1)]


def test_the_study_holds_a_trial_for_each_order_and_seed(found: Discovery) -> None:
    study = optuna.load_study(study_name="discover", storage=f"sqlite:///{found.folder / 'study.db'}")
    told = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted((trial.user_attrs["sequence"].count("("), trial.user_attrs["seed"]) for trial in told) == [
        (2, 0),
        (2, 0),
        (2, 1),
        (2, 1),
    ]
    assert all(len(trial.values) == 2 for trial in told)


def test_the_best_networks_load(found: Discovery) -> None:
    kept = sorted((found.folder / "networks").glob("*.safetensors"))
    assert all(CompressedNetwork.load(path).sequence.order for path in kept)
    checkpoint = found.records[0].extra["checkpoint"]
    assert str(CompressedNetwork.load(found.folder / checkpoint).sequence) == found.records[0].sequence


def test_a_second_run_trains_nothing_and_writes_the_same_law(found: Discovery) -> None:
    before = (found.folder / "records.jsonl").read_text()
    law = json.loads((found.folder / "law.json").read_text())
    again = discover(TINY, out=found.folder, seeds=2, budget_seconds=None, workers=1)
    assert again.trainings.done == 0
    assert (found.folder / "records.jsonl").read_text() == before
    assert json.loads((found.folder / "law.json").read_text())["pairs"] == law["pairs"]


def test_a_folder_of_another_task_is_refused(found: Discovery) -> None:
    before = (found.folder / "law.json").read_text()
    other: Task = replace(TINY, name="other")
    with pytest.raises(ValueError, match="records of task 'tiny', not 'other'"):
        discover(other, out=found.folder, seeds=2, budget_seconds=None)
    assert (found.folder / "law.json").read_text() == before


def test_what_follows_from_results_is_marked_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The design at seed 0, then the planner's blocks at seed 1, which is all that it may choose from."""
    module = sys.modules["ordercomp.studies.main.discover"]
    settings = [{letter: TINY.sequence(letter, {}).steps[0].settings for letter in "PE"}]
    monkeypatch.setattr(module, "blocks", lambda *_: blocks("PE", settings, [1]))
    monkeypatch.setattr(Design, "controls", [])  # which would find these few epochs too short to judge
    found = discover(TINY, out=tmp_path, seeds=1, budget_seconds=600.0, workers=1)
    marks = {record.seed: record.extra.get("design") for record in found.records if record.order}
    assert marks == {0: None, 1: SEQUENTIAL}
    assert any(note.startswith("Seed 1 came in after looking") for note in found.law.notes)


@pytest.mark.parametrize(
    ("stages", "seeds", "message"), [("P", 2, "at least two"), ("PE", 0, "seeds must be")]
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, stages: str, seeds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        discover(replace(TINY, stages=stages), out=tmp_path / "out", seeds=seeds)
    assert not (tmp_path / "out").exists()
