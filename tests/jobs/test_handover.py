"""A search that goes on from a race: its networks count, and its best orders are tried first."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_record
from optuna.trial import TrialState
from page_data import a_law

from ordercomp.analysis.answer import Answer, AnswerAt, Standing
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.codec import write_json
from ordercomp.jobs.search import LEAST_CHANCE, Handover, SearchPlan, run_search, task_space
from ordercomp.objectives import DEFAULT_OBJECTIVES
from ordercomp.records import write_records
from ordercomp.running.task import TASKS
from ordercomp.search.samplers import make_sampler
from ordercomp.search.study import open_study
from ordercomp.sequence import StageSequence

TASK = replace(TASKS["digits"], stages="PQE")


def standing(chance: float) -> Standing:
    return Standing(value=1.0, behind=0.0, interval=(0.0, 1.0), probability_best=chance, seeds=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a race left: PQE and QP may be best; PQE ran at two settings, of which one at seed 1 alone."""
    best = {"PQE": standing(0.7), "QP": standing(0.001), "EQP": standing(0.0)}
    asked = AnswerAt(loss=0.02, recommended="PQE", best_set=("PQE", "QP"), standings=best)
    file = LawFile(law=a_law("undecided", "PQE"), answer=Answer(asked=asked))
    write_json(tmp_path / "law.json", file)
    light = {"P": {"ratio": 0.2}, "Q": {"weights": 4, "activations": 8}}
    records = []
    for order, seed, knobs in [
        ("PQE", 0, {}),
        ("PQE", 1, light),
        ("QP", 0, {}),
        ("EQP", 0, {}),
        ("P", 0, {}),
    ]:
        made = make_record(order, seed, task="digits")
        records.append(replace(made, sequence=str(TASK.sequence(order, knobs))))
    write_records(tmp_path / "records.jsonl", records)
    return tmp_path


def test_what_the_race_measured_at_the_seed_is_told_once(folder: Path) -> None:
    space, objectives = task_space(TASK), DEFAULT_OBJECTIVES
    study = open_study(
        None, name="x", space=space, objectives=objectives, sampler=make_sampler("random", space), task="x"
    )
    race = Handover.of(folder, TASK)
    assert race.tell(study, space, objectives, seed=0) == 4
    assert race.tell(study, space, objectives, seed=0) == 0
    told = study.get_trials(states=(TrialState.COMPLETE,))
    assert Counter(trial.user_attrs["design"] for trial in told) == {"prefix": 4}
    assert sorted(len(StageSequence.parse(trial.user_attrs["sequence"])) for trial in told) == [1, 2, 3, 3]


def test_orders_that_may_be_best_come_first_at_all_settings_that_they_ran_at(folder: Path) -> None:
    race = Handover.of(folder, TASK)
    assert race.chances == {"PQE": 0.7, "QP": LEAST_CHANCE}
    assert [one.order for one in race.first(task_space(TASK))] == ["PQE", "PQE", "QP"]


def test_chances_weigh_the_neighbors_of_the_leader(folder: Path) -> None:
    space = task_space(TASK)

    def proposed(chances: dict[str, float]) -> Counter[str]:
        sampler = make_sampler("neighbors", space, chances=chances)
        study = open_study(
            None, name="x", space=space, objectives=DEFAULT_OBJECTIVES, sampler=sampler, task="x"
        )
        Handover.of(folder, TASK).tell(study, space, DEFAULT_OBJECTIVES, seed=0)
        orders: Counter[str] = Counter()
        for _ in range(40):
            trial = study.ask()
            orders[space.suggest(trial).order] += 1
            study.tell(trial, state=TrialState.FAIL)
        return orders

    assert proposed({"PQE": 0.98, "QP": 0.02})["PQE"] > proposed({"QP": 1.0})["PQE"]


@pytest.mark.parametrize("what", ["nothing", "another task"])
def test_a_folder_of_no_race_or_another_task_is_refused(folder: Path, tmp_path: Path, what: str) -> None:
    if what == "nothing":
        (folder / "law.json").unlink()
        with pytest.raises(
            ValueError, match=r"from must be a folder that discover wrote, got .* without law.json"
        ):
            run_search(SearchPlan(task=TASK, out=tmp_path / "out", source=folder, trials=2, workers=1))
    else:
        with pytest.raises(ValueError, match="records of task 'digits', not 'other'"):
            Handover.of(folder, replace(TASK, name="other"))
    assert not (tmp_path / "out").exists()
