"""The search experiment on the synthetic world: from a plan to a result."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from benchmarks.search_worlds import SyntheticWorld, TableRunner
from ordercomp.analysis.report.result_files import SearchFile
from ordercomp.codec import decode, format_json, read_json
from ordercomp.jobs.search import SearchPlan, run_search, task_space
from ordercomp.jobs.search_folder import SearchResult, write_search_outcome
from ordercomp.objectives import Objectives
from ordercomp.records import Record, read_records
from ordercomp.running.task import load_task
from ordercomp.search.drive import Abandonment
from ordercomp.search.samplers import CostOptions, make_sampler
from ordercomp.search.study import enqueue_paired_design, find_study, open_study
from ordercomp.sequence import StageSequence
from tests.studies_on_disk import ForgetfulRunner

pytestmark = pytest.mark.integration

optuna.logging.set_verbosity(optuna.logging.WARNING)

DIGITS = load_task("digits")
BY_STORAGE = Objectives(names=("accuracy", "log2_cr"))


def world(sequence: StageSequence, seed: int) -> Record:
    """The synthetic world, for the knobs of the real stages."""
    return replace(SyntheticWorld()(sequence, seed), task="digits")


def plan(out: Path, **changes: object) -> SearchPlan:
    return SearchPlan(**{"task": DIGITS, "out": out, "trials": 6, "sampler": "random", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run_search(plan(tmp_path_factory.mktemp("search"), trials=25), runner=TableRunner(world))


def test_a_storage_that_fails_between_trials_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: optuna.Study) -> int:
        raise optuna.exceptions.StorageInternalError("database or disk is full")

    monkeypatch.setattr("ordercomp.jobs.search.count_ended", fail)
    with pytest.raises(OSError, match="the storage of the search failed: database or disk is full"):
        run_search(plan(tmp_path), runner=TableRunner(world))


def test_the_front_and_the_best_come_from_the_records(result: SearchResult) -> None:
    front = result.front
    assert all(a.bitops_cr < b.bitops_cr and a.loss <= b.loss for a, b in itertools.pairwise(front))
    best = result.best(0.05)
    assert best is not None
    assert best.loss <= 0.05
    points = [(r.baseline.accuracy - p.accuracy, p.bitops_cr) for r in result.records for p in r.points]
    assert best.bitops_cr == max(cost for loss, cost in points if loss <= 0.05)
    with pytest.raises(ValueError, match=r"tolerance must lie in \[0, 1\)"):
        result.best(1.5)


def test_the_result_is_plain_json(result: SearchResult) -> None:
    data = json.loads(format_json(result.file))
    assert data["task"] == "digits"
    assert data["trials"]["complete"] >= 25
    assert data["networks"] == len(result.records)
    assert data["value"] == pytest.approx(data["progress"][-1]["value"])
    for name in ("networks", "trainings", "seconds", "value"):
        assert [step[name] for step in data["progress"]] == sorted(step[name] for step in data["progress"])
    assert set(data["best"]) == {"0.002", "0.006", "0.01", "0.02"}
    assert set(data["importances"]) == {"accuracy", "log2_bitops_cr"}
    assert sum(one["on_front"] for one in data["orders"]) == len(data["front"])


def test_the_command_names_the_task_as_the_user_did_and_the_store(result: SearchResult) -> None:
    best = result.best(0.05)
    assert best is not None
    assert result.compress_line(0.05) == (
        f"ordercomp compress '{best.record.sequence}' --task digits --seed 0 "
        f"--store {result.out}/store --loss 5% --out {best.record.order}-loss-5.safetensors"
    )
    elsewhere = replace(result, task=replace(DIGITS, source="my tasks/digits.toml"), out=Path("my out"))
    line = str(elsewhere.compress_line(0.05))
    assert "--task 'my tasks/digits.toml' --seed 0 --store 'my out/store'" in line
    assert replace(result, records=()).compress_line(0.05) is None


def test_networks_are_named_by_percent_and_files_of_former_names_stay(
    result: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = tmp_path / "networks" / "loss-2-percent.safetensors"
    former.parent.mkdir()
    former.write_bytes(b"there before")
    monkeypatch.setattr(
        "ordercomp.jobs.law_folder.copy_with_threshold", lambda source, path, *_: path.touch()
    )
    write_search_outcome(replace(result, out=tmp_path), network_of=lambda _: Path("in the store"))
    assert former.read_bytes() == b"there before"
    names = {path.name for path in former.parent.iterdir()} - {former.name}
    within = [tolerance for tolerance, best in result.best_by_tolerance.items() if best is not None]
    assert names == {f"loss-{100 * tolerance:g}.safetensors" for tolerance in within} != set()


def test_what_breaks_a_constraint_is_no_result(result: SearchResult) -> None:
    strict = replace(result, objectives=Objectives(max_loss=0.01))
    assert max(one.loss for one in result.front) > 0.01
    assert max(one.loss for one in strict.front) <= 0.01
    assert strict.best(0.05) == result.best(0.01)
    assert strict.value < result.value


def test_the_law_of_the_same_trials_is_ranked_among_the_orders_tried(result: SearchResult) -> None:
    found = result.law
    assert found is not None
    assert found.evidence == "adaptive"
    assert found.rank == result.rank_of(found.order)
    assert 1 <= found.of <= 24
    assert replace(result, records=()).law is None


def test_trainings_count_the_prefixes_that_the_space_does_not_hold(tmp_path: Path) -> None:
    runner = TableRunner(world)
    outcome = run_search(plan(tmp_path, trials=3, optional=False), runner=runner)
    last = outcome.progress[-1]
    assert (last.networks, last.trainings) == (3, runner.trainings)
    assert last.seconds == pytest.approx(runner.seconds)
    assert last.trainings > 3


def test_orders_are_ranked_among_their_own(result: SearchResult) -> None:
    ranks = {score.order: result.rank_of(score.order) for score in result.orders}
    assert all(rank is not None and rank >= 1 for rank in ranks.values())
    assert result.rank_of("DPQEF") is None
    assert result.winner is not None
    assert ranks[result.winner] == 1


def test_the_html_shows_the_front(result: SearchResult) -> None:
    assert result._repr_html_().count("<tr>") == 1 + len(result.front)


def test_a_search_is_continued_and_its_records_are_written_once(tmp_path: Path) -> None:
    heard: list[str] = []
    for trials in (3, 6):
        outcome = run_search(
            plan(tmp_path, trials=trials),
            runner=TableRunner(world),
            on_finished=lambda finished: heard.append(finished.record.sequence),
        )
    written = [(record.sequence, record.seed) for record in read_records(tmp_path / "records.jsonl")]
    assert len(written) == len(set(written))
    assert set(written) == {(record.sequence, record.seed) for record in outcome.records}
    assert {sequence for sequence, _ in written} == set(heard)
    designs = [trial.user_attrs.get("design") for trial in outcome.study.trials]
    assert designs.count("adaptive") == 6


def test_the_folder_holds_the_outcome(tmp_path: Path) -> None:
    outcome = run_search(plan(tmp_path), runner=TableRunner(world))
    data = read_json(tmp_path / "search.json")
    assert decode(data, SearchFile, "search.json") == outcome.file
    assert "<h1>" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_records_say_that_a_sampler_chose_them(tmp_path: Path) -> None:
    run_search(plan(tmp_path), runner=TableRunner(world))
    assert {r.extra["design"] for r in read_records(tmp_path / "records.jsonl")} == {"adaptive"}


def test_a_waiting_design_stays_a_design(tmp_path: Path) -> None:
    asked = plan(tmp_path, optional=False)
    study = open_study(
        tmp_path / "study.db",
        name=asked.study,
        space=asked.space,
        objectives=asked.objectives,
        sampler=make_sampler("random", asked.space),
        task=f"{DIGITS.name} {DIGITS.digest}",
    )
    enqueue_paired_design(study, asked.space, [DIGITS.sequence("DPQE")], [0])
    run_search(asked, runner=TableRunner(world))
    designs = {
        r.order: r.extra["design"] for r in read_records(tmp_path / "records.jsonl") if r.order == "DPQE"
    }
    assert "paired" in designs.values()


def test_what_the_next_run_tries_again_is_not_written(tmp_path: Path) -> None:
    run_search(plan(tmp_path), runner=ForgetfulRunner(world))
    assert all(record.error is None for record in read_records(tmp_path / "records.jsonl"))
    again = run_search(plan(tmp_path), runner=TableRunner(world))
    assert [trial.user_attrs.get("design") for trial in again.study.trials].count("adaptive") > 6
    assert any("Q" in record.order for record in again.records)


@pytest.mark.parametrize("kept", [0, 5])
def test_records_that_a_kill_kept_from_the_file_come_back(tmp_path: Path, kept: int) -> None:
    run_search(plan(tmp_path), runner=TableRunner(world))
    path = tmp_path / "records.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:kept]))
    run_search(plan(tmp_path), runner=TableRunner(world))
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(whole)


def test_a_folder_of_another_task_is_refused_before_its_study_is_touched(tmp_path: Path) -> None:
    run_search(plan(tmp_path), runner=TableRunner(world))
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(ValueError, match="records of task 'digits', not 'other'"):
        run_search(plan(tmp_path, task=replace(DIGITS, name="other"), study="new"), runner=TableRunner(world))
    assert (tmp_path / "records.jsonl").read_bytes() == before
    assert find_study(tmp_path / "study.db").study_name == "search"


def test_a_storage_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder that does not exist"):
        run_search(plan(tmp_path / "new", storage="/nowhere/at/all/study.db"), runner=TableRunner(world))
    assert not (tmp_path / "new").exists()
    inside = tmp_path / "new" / "mine.log"
    assert run_search(plan(tmp_path / "new", storage=inside), runner=TableRunner(world)).records


def test_latency_is_measured_where_it_is_an_objective() -> None:
    for name in ("latency_ms", "log2_latency_cr"):
        assert plan(Path("out"), objectives=Objectives(names=("accuracy", name))).measures_latency
    assert plan(Path("out"), task=replace(DIGITS, latency=True)).measures_latency
    assert not plan(Path("out")).measures_latency


def test_costs_can_be_weighed(tmp_path: Path) -> None:
    cost = CostOptions(startup=3, candidates=3, trees=3)
    assert run_search(plan(tmp_path, cost=cost), runner=TableRunner(world)).records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "trials must not be fewer than the 2 workers, got 1"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"sampler": "oracle"}, "sampler must be one of"),
        ({"study": ""}, "study must be a name, got an empty one"),
        ({"abandonment": Abandonment(), "objectives": BY_STORAGE}, "objectives must hold log2_bitops_cr"),
        ({"cost": CostOptions(), "objectives": BY_STORAGE, "sampler": "tpe"}, "must hold log2_bitops_cr"),
        ({"stages": "DPX"}, "stages has no stage 'X'"),
        ({"storage": "/nowhere/at/all/study.db"}, "folder that does not exist"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_search(plan(tmp_path, **changes), runner=TableRunner(world))


def test_the_space_of_a_task_holds_the_order_that_the_task_describes() -> None:
    for order in ("DPQE", "EQPD", "P"):
        assert task_space(DIGITS).contains(DIGITS.sequence(order))


def test_knobs_off_the_grid_stay_where_the_task_sets_them() -> None:
    task = replace(DIGITS, knobs={**DIGITS.knobs, "P": {"ratio": 0.33}, "D": {"student": "fresh"}})
    space = task_space(task, "DP", optional=False, repeats=1)
    assert space.contains(task.sequence("DP"))
    assert set(space.params(task.sequence("DP"))) == {"order", "D.depth"}
    assert space.contains(task.sequence("DPP"))


@pytest.mark.parametrize(
    ("storage", "line"),
    [
        ("out/my study.db", "optuna-dashboard 'sqlite:///out/my study.db'"),
        ("out/study.log", "optuna-dashboard out/study.log"),
        ("postgresql://host/name", "optuna-dashboard postgresql://host/name"),
        ("postgresql://user:secret@host/name", None),
        ("", None),
    ],
)
def test_the_line_for_the_dashboard_opens_the_storage_and_tells_no_password(
    result: SearchResult, storage: str, line: str | None
) -> None:
    assert replace(result, storage=storage).dashboard_line == line
