"""Records out of a study, labelled by who chose them."""

from pathlib import Path

import optuna
import pytest
from builders import make_record
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.objectives import Objectives
from ordercomp.records import is_paired
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.results import attach_record, records_from_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, find_study, open_study
from ordercomp.sequence import StageSequence, permutations

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = Space("DPQ", SYNTHETIC_KNOBS, optional=True)
RATE = {"lr": FloatDistribution(0.01, 1.0)}


def study_with(storage: Path | None, *, orders: list[str], trials: int) -> optuna.Study:
    study = open_study(
        storage,
        name="evidence",
        space=SPACE,
        objectives=Objectives(),
        sampler=make_sampler("random", SPACE, seed=1),
        task="synthetic",
    )
    enqueue_paired_design(study, SPACE, map(StageSequence.parse, orders), [0, 1])
    spec = StudySpec(space=SPACE, objectives=Objectives())
    list(run_study(study, TableRunner(SyntheticWorld()), spec, trials=trials))
    return study


@pytest.mark.integration
def test_a_designed_study_gives_all_its_nodes_as_pairs(tmp_path: Path) -> None:
    study_with(tmp_path / "study.db", orders=permutations("DPQ"), trials=12)
    records = records_from_study(find_study(tmp_path / "study.db"))
    assert len(records) == 2 * 15
    assert all(is_paired(record) for record in records)
    world = SyntheticWorld()
    assert all(
        record.points == world(StageSequence.parse(record.sequence), record.seed).points for record in records
    )


def test_what_a_sampler_chose_is_labelled_adaptive() -> None:
    records = records_from_study(study_with(None, orders=["DP"], trials=12))
    paired = [record for record in records if is_paired(record)]
    assert sorted((record.order, record.seed) for record in paired) == [
        ("D", 0),
        ("D", 1),
        ("DP", 0),
        ("DP", 1),
    ]
    assert {record.extra["design"] for record in records} == {"paired", "adaptive"}


def test_a_record_without_a_label_may_be_paired() -> None:
    assert is_paired(make_record("D"))
    assert is_paired(make_record("D", design="paired"))
    assert not is_paired(make_record("D", design="adaptive"))


def test_a_result_counts_once() -> None:
    records = records_from_study(study_with(None, orders=["DP", "D"], trials=20))
    keys = [(record.sequence, record.seed) for record in records]
    assert len(keys) == len(set(keys))


def test_a_foreign_study_is_refused() -> None:
    study = optuna.create_study(study_name="foreign")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ValueError, match="no trial of study 'foreign' has a record; ordercomp did not run"):
        records_from_study(study)
    study = optuna.create_study(study_name="torn")
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"record": {"order": "D"}}))
    with pytest.raises(ValueError, match="trial 0 of study 'torn': record lacks the key 'sequence'"):
        records_from_study(study)


@pytest.mark.parametrize(
    ("trial", "told"),
    [
        pytest.param({"values": [1.0, 1.0]}, True, id="a result"),
        pytest.param(
            {"values": [1.0, 1.0], "user_attrs": {"sequence": "D P"}}, True, id="a sequence by hand"
        ),
        pytest.param({"values": [1.0, 1.0], "params": {"lr": 0.1}, "distributions": RATE}, True, id="knobs"),
        pytest.param({"state": TrialState.FAIL}, False, id="a failure"),
        pytest.param({"state": TrialState.PRUNED}, False, id="one that was given up"),
        pytest.param({"state": TrialState.RUNNING}, False, id="one that runs elsewhere"),
    ],
)
def test_trials_that_others_added_are_left_out_with_a_line_and_the_search_goes_on(
    trial: dict[str, object], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_with(None, orders=["DP"], trials=2)
    ours = records_from_study(study)
    study.add_trial(optuna.trial.create_trial(**trial))
    assert records_from_study(study) == ours
    assert ("1 trials without a record are left out" in caplog.text) == told
    spec = StudySpec(space=SPACE, objectives=Objectives())
    list(run_study(study, TableRunner(SyntheticWorld()), spec, trials=8))
    assert len(records_from_study(study)) > len(ours)


def test_records_of_no_trial_are_kept_beside_and_read_back() -> None:
    study = study_with(None, orders=["DP"], trials=2)
    world = SyntheticWorld()
    control, tried = world(StageSequence.parse("D(depth=0.5) F"), 1), records_from_study(study)
    for record in (control, *tried):
        attach_record(study, SPACE, record)
    found = records_from_study(study)
    assert [(one.sequence, one.seed) for one in found[len(tried) :]] == [(control.sequence, 1)]
    assert found[-1].points == control.points
    assert is_paired(found[-1])
