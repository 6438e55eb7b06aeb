"""The main job on a tiny task: what it writes, what a second run reuses, what it refuses."""

import itertools
import json
import os
import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from builders import make_record
from page_data import a_law

from ordercomp import files
from ordercomp.analysis.answer import derive_answer
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.cli.main import main
from ordercomp.codec import encode
from ordercomp.jobs import discover as job
from ordercomp.jobs.discover import Discovery, SoFar, discover
from ordercomp.jobs.law import answered, law_of_records
from ordercomp.jobs.law_folder import guaranteed_networks
from ordercomp.jobs.proxy import discover_by_proxy
from ordercomp.jobs.recordings import recorded_hints
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.jobs.search_folder import law_of_study
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import read_records, write_records
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.store import Store
from ordercomp.running.task import TASKS, Task
from ordercomp.training.recipe import Recipe

pytestmark = pytest.mark.integration

TINY = replace(
    TASKS["digits"],
    name="tiny",
    model="resnet8(width=8)",
    stages="PE",
    settings=({},),
    recipe=Recipe(epochs=0.2, batch_size=64, precision="float32"),
)

TINY_TOML = """
name = "tiny"
model = "resnet8(width=8)"
data = "digits"
stages = "PE"
knobs = { P = { ratio = 0.4 }, E = { exits = 2 } }
recipe = { epochs = 0.2, batch_size = 64, precision = "float32" }
"""


def _study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="discover", storage=f"sqlite:///{folder / 'study.db'}")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Discovery:
    return discover(TINY, out=tmp_path_factory.mktemp("discover"), seeds=3, budget_seconds=None, workers=1)


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
    orders = sorted((record.order, record.seed) for record in read_records(found.folder / "records.jsonl"))
    race = [(order, seed) for order in ("E", "EP", "P", "PE") for seed in (0, 1, 2)]
    repeated = [(order, seed) for order in ("P", "PP", "EPP") for seed in (0, 1, 2)]  # "P": as hard at once
    assert orders == sorted([*race, *repeated, ("PF", 0), ("PF", 1)])
    assert {one["seeds"] for one in law["repetition"] if one["once"] == "EP"} == {3}
    assert law["trainings"]["done"] == 3 * 4 + 9 + 2
    assert law["trainings"]["unshared"] == 3 * 6 + 3 * (1 + 2 + 3) + 2 * 2
    assert law["answer"]["loss"] == 0.02
    assert law["answer"]["recommended"] is None  # a fifth of an epoch: the control says that more would help
    assert law["answer"]["withheld"] == "3 of 4 chains gain from further epochs alone: train for longer"
    assert {network["order"] for network in law["networks"]} <= {"P", "E", "PE", "EP"}


def test_the_study_holds_a_trial_for_each_order_and_seed(found: Discovery) -> None:
    study = _study(found.folder)
    told = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted((trial.user_attrs["sequence"].count("("), trial.user_attrs["seed"]) for trial in told) == [
        (2, 0),
        (2, 0),
        (2, 1),
        (2, 1),
        (2, 2),
        (2, 2),
    ]
    assert all(len(trial.values) == 2 for trial in told)


def test_the_best_networks_load(found: Discovery) -> None:
    kept = sorted((found.folder / "networks").glob("*.safetensors"))
    assert all(CompressedNetwork.load(path).sequence.order for path in kept)
    checkpoint = found.records[0].extra["checkpoint"]
    assert str(CompressedNetwork.load(found.folder / checkpoint).sequence) == found.records[0].sequence


@pytest.mark.parametrize("budget", [None, 600.0])
def test_a_second_run_trains_nothing_and_changes_nothing(found: Discovery, budget: float | None) -> None:
    def state() -> dict[str, bytes]:
        names = ("records.jsonl", "law.json", "report.html")
        networks = (found.folder / "networks").glob("*")
        return {
            str(path): path.read_bytes() for path in (*(found.folder / name for name in names), *networks)
        }

    before, trials = state(), len(_study(found.folder).trials)
    again = discover(TINY, out=found.folder, seeds=3, budget_seconds=budget, workers=1)
    assert again.trainings.done == 0
    assert state() == before
    assert len(_study(found.folder).trials) == trials


@pytest.mark.parametrize("damage", ["killed", "cut", "flipped"])
def test_what_a_kill_or_a_fault_left_of_the_networks_is_made_whole(
    found: Discovery, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    folder = tmp_path / "out" / "networks"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    gone = folder / min(whole)
    content = bytearray(gone.read_bytes())
    if damage == "killed":
        gone.rename(folder / f"{gone.name}.{files._HOST}-999999999-00000000.part")
    else:
        content[-1] ^= 1  # a bit of a weight
        gone.write_bytes(content if damage == "flipped" else content[:1305])
    again = discover(TINY, out=tmp_path / "out", seeds=3, budget_seconds=None, workers=1)
    assert again.trainings.done == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_records_and_a_page_that_were_lost_come_back(found: Discovery, tmp_path: Path) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    (tmp_path / "out" / "report.html").write_text("damaged")
    path = tmp_path / "out" / "records.jsonl"
    before = path.read_text().splitlines()
    path.write_text("\n".join(before[3:]) + "\n")
    again = discover(TINY, out=tmp_path / "out", seeds=3, budget_seconds=None, workers=1)
    assert sorted(path.read_text().splitlines()) == sorted(before)
    assert again.trainings.done == 0
    assert path.with_name("report.html").read_text().endswith("</html>")


def test_a_prefix_lost_from_records_and_store_is_trained_again_though_what_follows_it_is_there(
    found: Discovery, tmp_path: Path
) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    lost = next(record for record in found.records if record.order == "P" and record.seed == 0)
    path = tmp_path / "out" / "records.jsonl"
    path.unlink()
    write_records(path, [record for record in read_records(found.folder / path.name) if record != lost])
    for suffix in ("json", "safetensors"):
        (tmp_path / "out" / "store" / f"{lost.extra['digest']}.{suffix}").unlink()
    again = discover(TINY, out=tmp_path / "out", seeds=3, budget_seconds=None, workers=1)
    assert again.trainings.done == 1
    (back,) = (one for one in again.records if (one.sequence, one.seed) == (lost.sequence, 0))
    assert back.points == lost.points
    assert {(one.sequence, one.seed) for one in again.records} == {
        (one.sequence, one.seed) for one in found.records
    }


def test_further_seeds_go_on_from_a_finished_race(found: Discovery, tmp_path: Path) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    heard: list[SoFar] = []
    again = discover(
        TINY,
        out=tmp_path / "out",
        seeds=4,
        budget_seconds=None,
        workers=1,
        answered=heard.append,
    )
    assert heard[-1].seeds == 4
    assert heard[-1].ladder == again.ladder == found.ladder
    assert again.trainings.done == 4
    assert {record.seed for record in again.records} == {0, 1, 2, 3}


def test_a_folder_of_another_batch_is_told_and_never_pooled(
    found: Discovery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    versions = {"ordercomp": "0.1.0+former", "torch": "2.0.0"}
    former = [replace(one, extra={**one.extra, "versions": versions}) for one in found.records]
    write_records(tmp_path / "out" / "records.jsonl", former)
    again = discover(TINY, out=tmp_path / "out", seeds=4, budget_seconds=None, workers=1)
    assert f"{len(former)} records at seeds 0 to 2 are of another batch (results former, torch" in caplog.text
    assert {record.seed for record in again.records} == {0, 1, 2}
    assert again.file.answer is not None
    assert "4 records at seed 3 (results" in again.file.answer.batches


def test_the_law_of_the_study_is_that_of_the_records(found: Discovery) -> None:
    law = law_of_study(found.folder / "study.db", loss=0.02)
    ours = law_of_records(found.records, loss=0.02)
    assert isinstance(law, LawFile)
    assert len(law.law.convergence) > 0  # controls and prefixes are there, too
    theirs, own = encode(law), encode(ours)
    for key in ("answer", "convergence", "pairs", "orders", "networks"):
        assert theirs[key] == own[key]


def test_one_seed_recommends_nothing_and_has_no_controls(tmp_path: Path) -> None:
    found = discover(TINY, out=tmp_path, seeds=1, budget_seconds=None, workers=1)
    assert found.answer.recommended is None
    assert found.answer.asked.seeds_needed == 2
    assert not any(record.order.endswith("F") for record in found.records)


def test_a_shorter_chain_that_stays_in_the_race_is_trained_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = iter([(("P", 1), ("EP", 1)), ()])
    monkeypatch.setattr("ordercomp.jobs.race.next_cells", lambda *_, **__: next(blocks))
    monkeypatch.setattr("ordercomp.jobs.race.Race.repetitions", lambda *_: [])  # which start at whole chains
    found = discover(TINY, out=tmp_path, seeds=3, budget_seconds=None, workers=1)
    trained = {(record.order, record.seed) for record in found.records}
    assert {("E", 0), ("E", 1), ("EP", 0), ("EP", 1), ("P", 0), ("P", 1), ("PE", 0)} <= trained
    assert ("PE", 1) not in trained


def test_the_seeds_of_a_sequence_are_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that they can be one network, those of prefixes as well, which are trained beside the study."""
    asked: list[Request] = []

    def run_study(*args: Any, more: Any = None, **options: Any) -> Iterator[Finished]:
        if more is None:
            yield from real(*args, **options)
        else:
            asked.extend(more() or ())

    real = job.run_study
    monkeypatch.setattr(job, "run_study", run_study)
    discover(replace(TINY, loss=0.9), out=tmp_path, workers=1, budget_seconds=None)
    sequences = [request.sequence for request in asked]
    assert max(Counter(sequences).values()) > 1
    assert len(list(itertools.groupby(sequences))) == len(set(sequences))


def test_a_folder_of_another_task_is_refused(found: Discovery) -> None:
    before = (found.folder / "law.json").read_text()
    other: Task = replace(TINY, name="other")
    with pytest.raises(ValueError, match="records of task 'tiny', not 'other'"):
        discover(other, out=found.folder, seeds=3, budget_seconds=None)
    assert (found.folder / "law.json").read_text() == before


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            replace(TINY, recipe=replace(TINY.recipe, learning_rate=0.25)),
            r"recipe\.learning_rate = .*, not 0\.25",
        ),
        (replace(TINY, model="resnet8(width=3)"), r"model = '.*', not 'resnet8\(width=3\)'"),
    ],
)
def test_records_of_another_recipe_or_width_are_never_mixed(
    found: Discovery, tmp_path: Path, other: Task, told: str, lost: bool
) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    (tmp_path / "out" / "study.db").unlink()
    if lost:
        (tmp_path / "out" / "task.json").unlink()
    before = (tmp_path / "out" / "records.jsonl").read_bytes()
    message = "another model, data or recipe" if lost else told
    with pytest.raises(ValueError, match=f"holds records of the same task with {message}; choose another"):
        discover(other, out=tmp_path / "out", seeds=3, budget_seconds=None)
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == before


def test_a_search_goes_on_in_the_folder_of_a_race(found: Discovery, tmp_path: Path) -> None:
    shutil.copytree(found.folder, tmp_path / "out")
    done = run_search(SearchPlan(task=TINY, out=tmp_path / "out", trials=2, workers=1))
    assert done.records
    assert {one.sequence for one in found.records} < {
        one.sequence for one in read_records(tmp_path / "out" / "records.jsonl")
    } | {""}
    again = discover(TINY, out=tmp_path / "out", seeds=3, budget_seconds=None, workers=1)
    assert again.answer.recommended == found.answer.recommended


@pytest.mark.parametrize(
    ("stages", "seeds", "message"), [("P", 2, "at least two"), ("PE", 0, "seeds must be")]
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, stages: str, seeds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        discover(replace(TINY, stages=stages), out=tmp_path / "out", seeds=seeds)
    assert not (tmp_path / "out").exists()


def test_certified_networks_are_the_order_s_own_and_make_again_by_their_command(
    found: Discovery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(found.folder / "store")
    ran = [record for record in found.records if "F" not in record.order]  # which says: train for longer
    answer = derive_answer(ran, stages="PE", loss=0.95)
    taken = {one.loss: one for one in guaranteed_networks(TINY, store, found.records, answer)}
    assert taken[0.95].order == answer.recommended
    assert taken[0.95].note == "certified: it loses at most 95 % with 95 % confidence"
    file = LawFile(law=a_law("undecided", "PE"))
    told = answered(file, answer, found.records, store=store.folder, certified=list(taken.values()))
    assert told.networks is not None
    words = shlex.split(told.networks[-1].command)
    assert "--threshold" in words
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    words = [str(tmp_path / "tiny.toml") if word == "tiny" else word for word in words]
    made = tmp_path / "made.safetensors"
    with pytest.raises(SystemExit) as ended:
        main([*words[1:-1], str(made)])
    assert not ended.value.code, capsys.readouterr().err
    threshold = CompressedNetwork.load(made).serving.threshold
    assert threshold == pytest.approx(taken[0.95].threshold)


def test_a_loss_that_cannot_be_certified_writes_no_network(
    found: Discovery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    out = tmp_path / "made.safetensors"
    words = ["compress", "PE", "--task", str(tmp_path / "tiny.toml"), "--store", str(found.folder / "store")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--guarantee", "--loss", "0.1%", "--out", str(out)])
    assert ended.value.code == 1
    assert (
        "the loss of PE cannot be certified to be at most 0.1 % with 95 % confidence"
        in capsys.readouterr().err
    )
    assert not out.exists()
    with pytest.raises(SystemExit) as ended:
        main([*words, "--guarantee", "--threshold", "0.5", "--out", str(out)])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main([*words, "--threshold", "1.5", "--out", str(out)])
    assert ended.value.code == 2


def test_sigterm_leaves_the_law_of_what_was_measured_until_then(tmp_path: Path) -> None:
    def terminate(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    found = discover(TINY, out=tmp_path, seeds=3, budget_seconds=None, workers=1, report=terminate)
    assert found.interrupted
    assert "ended in the pilot" in found.ladder
    assert 0 < len(read_records(tmp_path / "records.jsonl")) < 4
    assert json.loads((tmp_path / "law.json").read_text())["stages"] == "PE"


def test_runs_compute_with_one_thread_beside_their_workers_and_give_the_caller_back_his_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def tried(task: Task) -> None:
        seen.append(torch.get_num_threads())
        raise ValueError("enough")

    for module in ("discover", "search", "proxy"):
        monkeypatch.setattr(f"ordercomp.jobs.{module}.check_task", tried)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for run in (
            lambda: discover(TINY, out=tmp_path / "discover"),
            lambda: discover_by_proxy(TINY, out=tmp_path / "proxy"),
            lambda: run_search(SearchPlan(task=TINY, out=tmp_path / "search", trials=4)),
        ):
            with pytest.raises(ValueError, match="enough"):
                run()
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 1]


def test_a_discovery_in_which_most_networks_failed_says_so_first_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = [make_record(order, error="P cannot be applied") for order in ("P", "DP")]
    records = (make_record(""), *bad, make_record("D", error="loss is NaN"), make_record("Q"))
    nothing: Any = {}
    found = Discovery(
        answer=nothing,
        law=nothing,
        file=nothing,
        records=records,
        trainings=nothing,
        interrupted=False,
        folder=tmp_path,
    )
    assert replace(found, records=(*records, make_record("E"), make_record("PQ"))).failures == ""
    monkeypatch.setattr("ordercomp.jobs.discover.discover", lambda *_, **__: found)
    with pytest.raises(SystemExit) as ended:
        main(["discover", "--out", str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "{}\n")
    assert "3 of 5 networks failed, most of all because P cannot be applied" in err


def test_recorded_tasks_are_heard_and_named_in_a_race_at_later_seeds(tmp_path: Path) -> None:
    task = replace(TINY, loss=0.5, settings=({"P": {"ratio": 0.1}},))
    found = discover(
        task,
        out=tmp_path,
        seeds=2,
        first_seed=7,
        budget_seconds=None,
        workers=1,
        hints=recorded_hints(["cifar10"], "PE"),
    )
    assert {record.seed for record in found.records} == {7, 8}
    assert found.answer.prior == ("cifar10",)
    assert encode(found.file)["answer"]["prior"] == ["cifar10"]
    told = law_of_records(found.records, loss=0.5, prior=["cifar10"]).answer
    assert told is not None
    assert (told.recommended, told.best_set) == (found.answer.recommended, found.answer.best_set)
