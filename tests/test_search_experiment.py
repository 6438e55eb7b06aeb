"""The search experiment on the synthetic world: from a plan to a result."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from ordercomp.records import Record, read_records
from ordercomp.search.cost_aware import CostOptions
from ordercomp.search.synthetic import SyntheticWorld
from ordercomp.search.tabular import TableRunner
from ordercomp.sequence import StageSequence
from ordercomp.studies.search import SearchPlan, run_search, task_space
from ordercomp.studies.search_result import SearchResult
from ordercomp.task import load_task

optuna.logging.set_verbosity(optuna.logging.WARNING)

DIGITS = load_task("digits")


def world(sequence: StageSequence, seed: int) -> Record:
    """The synthetic world, for the knobs of the real stages."""
    return replace(SyntheticWorld()(sequence, seed), task="digits")


def plan(out: Path, **changes: object) -> SearchPlan:
    return SearchPlan(**{"task": DIGITS, "out": out, "trials": 12, "sampler": "random", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return run_search(plan(tmp_path_factory.mktemp("search"), trials=25), runner=TableRunner(world))


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
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["task"] == "digits"
    assert data["trials"]["complete"] >= 25
    assert data["networks"] == len(result.records)
    assert data["value"] == pytest.approx(data["progress"][-1][1])
    assert [value for _, value in data["progress"]] == sorted(value for _, value in data["progress"])
    assert set(data["best"]) == {"0.002", "0.006", "0.01", "0.02"}
    assert set(data["importances"]) == {"accuracy", "log2_bitops_cr"}
    assert sum(one["on_front"] for one in data["orders"]) == len(data["front"])


def test_the_command_makes_the_best_network_again(result: SearchResult) -> None:
    best = result.best(0.05)
    assert best is not None
    line = result.compress_line(0.05)
    assert (
        line == f"ordercomp compress '{best.record.sequence}' --task digits --seed 0 --out best.safetensors"
    )
    assert result.compress_line(0.0) is None or result.best(0.0) is not None


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
    for trials in (6, 12):
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
    assert designs.count("adaptive") == 12


def test_costs_can_be_weighed(tmp_path: Path) -> None:
    cost = CostOptions(startup=3, candidates=3, trees=3)
    assert run_search(plan(tmp_path, trials=6, cost=cost), runner=TableRunner(world)).records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "trials must not be fewer than the 2 workers, got 1"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"sampler": "oracle"}, "sampler must be one of"),
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
