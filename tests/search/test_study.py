"""Studies on disk: found again, planned once, refused if they ask something else."""

import contextlib
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS
from ordercomp.objectives import Objectives
from ordercomp.search.results import records_from_study
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_first, enqueue_paired_design, find_study
from ordercomp.sequence import StageSequence
from tests.studies_on_disk import ORDERS, SPACE, opened, run, told_sequences

optuna.logging.set_verbosity(optuna.logging.WARNING)


def content(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


@pytest.mark.integration
@pytest.mark.parametrize("file", ["study.db", "study.log", "study.journal"])
def test_a_study_in_a_file_is_found_again(tmp_path: Path, file: str) -> None:
    run(opened(tmp_path / file), trials=3)
    again = opened(tmp_path / file)
    assert len(again.get_trials(states=(TrialState.COMPLETE,))) >= 3
    assert again.metric_names == ["accuracy", "log2_bitops_cr"]
    assert len(find_study(tmp_path / file).trials) == len(again.trials)


@pytest.mark.integration
def test_plain_optuna_reads_what_we_wrote(tmp_path: Path) -> None:
    run(opened(tmp_path / "study.db"), trials=3)
    plain = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [direction.name for direction in plain.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert all(StageSequence.parse(trial.user_attrs["sequence"]) for trial in plain.trials)
    assert plain.best_trials


@pytest.mark.integration
def test_the_design_is_enqueued_once(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.db")
    assert enqueue_paired_design(study, SPACE, iter(ORDERS[:3]), iter([0, 1])) == 6
    assert enqueue_paired_design(study, SPACE, ORDERS[:3], [0, 1]) == 0
    run(study)
    again = opened(tmp_path / "study.db")
    assert enqueue_paired_design(again, SPACE, ORDERS[:3], [0, 1, 2]) == 3
    waiting = again.get_trials(states=(TrialState.WAITING,))
    assert {trial.user_attrs["seed"] for trial in waiting} == {2}


def test_a_new_study_tries_first_what_it_is_given_and_counts_it_as_proposed() -> None:
    study = opened(None)
    first = [StageSequence.parse(text) for text in ("DPQE", "PQE")]
    assert enqueue_first(study, SPACE, first, seed=3) == 2
    run(study, trials=4)
    told = [trial for trial in study.trials if trial.user_attrs["design"] == "adaptive"]
    assert [trial.user_attrs["sequence"] for trial in told[:2]] == [str(SPACE.complete(one)) for one in first]
    assert ([trial.user_attrs["seed"] for trial in told[:2]], len(told)) == ([3, 3], 4)
    assert {one.extra["design"] for one in records_from_study(study)} == {"adaptive"}
    assert enqueue_first(study, SPACE, first, seed=3) == 0


def test_a_kill_while_the_first_trials_are_enqueued_loses_none_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, first = opened(None), [StageSequence.parse(text) for text in ("DPQE", "PQE", "QE")]
    enqueue, count = optuna.Study.enqueue_trial, iter([1, 2])

    def dying(one: optuna.Study, *arguments: object, **options: object) -> None:
        if next(count) == 2:
            raise KeyboardInterrupt
        enqueue(one, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dying)
        with pytest.raises(KeyboardInterrupt):
            enqueue_first(study, SPACE, first, seed=3)
    assert enqueue_first(study, SPACE, first, seed=3) == 2
    run(study, trials=4)
    told = [trial for trial in study.trials if trial.user_attrs["design"] == "adaptive"]
    assert [one.user_attrs["sequence"] for one in told[:3]] == [str(SPACE.complete(one)) for one in first]


def test_a_study_that_held_trials_before_tries_nothing_first() -> None:
    study = opened(None)
    run(study, trials=2)
    assert enqueue_first(study, SPACE, [StageSequence.parse("DPQE")], seed=3) == 0


def test_nothing_is_enqueued_if_one_sequence_lies_outside() -> None:
    study = opened(None)
    with pytest.raises(ValueError, match="order 'DD'"):
        enqueue_paired_design(study, SPACE, [*ORDERS, StageSequence.parse("DD")], [0])
    assert not study.trials


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "other"}, "task: 'synthetic' there, 'other' now"),
        ({"space": Space("DPQ", SYNTHETIC_KNOBS, optional=True)}, "space stages: 'DPQE' there, 'DPQ' now"),
        ({"space": Space("DPQE", SYNTHETIC_KNOBS)}, "space optional: True there, False now"),
        ({"objectives": Objectives(max_loss=0.01)}, "objectives max_loss: None there, 0.01 now"),
        (
            {"objectives": Objectives(names=("accuracy", "latency_ms"))},
            r"directions: \['maximize', 'maximize'\] there, \['maximize', 'minimize'\] now",
        ),
    ],
)
def test_a_study_of_another_question_is_refused_and_left_alone(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    run(opened(tmp_path / "study.db"), trials=2)
    before = content(tmp_path / "study.db")
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / "study.db", **change)  # type: ignore[arg-type]
    assert content(tmp_path / "study.db") == before


def test_a_foreign_study_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="test", storage=url)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ValueError, match="1 trials that ordercomp did not make"):
        opened(url)


def test_find_study_lists_the_studies_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        opened(tmp_path / "study.db", name=name)
    assert find_study(tmp_path / "study.db", "two").study_name == "two"
    with pytest.raises(ValueError, match=r"one of those in the storage \(one, two\), got 'three'"):
        find_study(tmp_path / "study.db", "three")
    for storage in (tmp_path / "none.db", f"sqlite:///{tmp_path}/none.db"):
        with pytest.raises(ValueError, match="does not exist"):
            find_study(storage)
    assert not (tmp_path / "none.db").exists()


def test_a_trial_that_was_enqueued_with_a_part_of_its_knobs_is_measured_as_planned() -> None:
    """As versions before this one left it in a study."""
    study = opened(None)
    sequence = SPACE.complete(ORDERS[0])
    params = dict(list(SPACE.params(sequence).items())[:1])
    study.enqueue_trial(params, user_attrs={"sequence": str(sequence), "seed": 0, "design": "paired"})
    run(study)
    assert (str(sequence), str(sequence)) in told_sequences(study)
    assert all(planned == measured for planned, measured in told_sequences(study))
