"""What a run could not measure, or what a fault took from a study: measured by the next run, as it was."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.running.jobs import Finished, Request
from ordercomp.search.drive import run_study
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design
from ordercomp.sequence import StageSequence
from tests.search.test_drive import PERMUTATIONS, SUBSETS, of_design, opened, paired, spec
from tests.studies_on_disk import ForgetfulRunner

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.integration
def test_what_failed_for_a_passing_reason_ends_no_run_late_and_is_tried_again_by_the_next(
    tmp_path: Path,
) -> None:
    space, storage = Space("Q", SYNTHETIC_KNOBS), tmp_path / "study.db"
    study = opened(space, storage)
    list(run_study(study, ForgetfulRunner(SyntheticWorld()), spec(space), trials=20))
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}
    assert len(study.trials) == 20
    assert all(trial.user_attrs["error"] == "no memory left" for trial in study.trials)
    assert not any("record" in trial.user_attrs for trial in study.trials)
    again = opened(space, storage, seed=1)
    list(run_study(again, TableRunner(SyntheticWorld()), spec(space), trials=5))
    assert len(again.get_trials(states=(TrialState.COMPLETE,))) == 5


@pytest.mark.integration
def test_a_proposal_that_failed_for_a_passing_reason_comes_back_as_it_was(tmp_path: Path) -> None:
    def tried(study: optuna.Study) -> set[str]:
        done = study.get_trials(states=(TrialState.COMPLETE,))
        return {one.user_attrs["sequence"] for one in done if one.user_attrs["design"] == "adaptive"}

    calm = opened()
    list(run_study(calm, TableRunner(SyntheticWorld()), spec(), trials=8))
    list(
        run_study(opened(storage=tmp_path / "study.db"), ForgetfulRunner(SyntheticWorld()), spec(), trials=8)
    )
    again = opened(storage=tmp_path / "study.db")
    list(run_study(again, TableRunner(SyntheticWorld()), spec(), trials=8))
    assert tried(again) == tried(calm)
    assert not again.get_trials(states=(TrialState.WAITING,))


def test_a_paired_trial_that_failed_for_a_passing_reason_is_enqueued_again() -> None:
    study = opened(PERMUTATIONS)
    paired(study, PERMUTATIONS)
    list(run_study(study, ForgetfulRunner(SyntheticWorld()), spec(PERMUTATIONS)))
    assert paired(study, PERMUTATIONS) == 24


class DeepRunner(TableRunner):
    """Holds what follows D in its store, so does not pass through D unless that is asked for."""

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        asked: set[str] = set()

        def noted() -> Iterator[Request]:
            for request in requests:
                asked.add(str(request.sequence))
                yield request

        for finished in super().run(noted(), lookahead=lookahead):
            if finished.record.order != "D" or finished.record.sequence in asked:
                yield finished


def test_a_prefix_that_no_training_passes_through_is_measured_all_the_same() -> None:
    study = opened()
    enqueue_paired_design(study, SUBSETS, [StageSequence.parse("DPQE")], [0])
    list(run_study(study, DeepRunner(SyntheticWorld()), spec()))
    found = {StageSequence.parse(one.user_attrs["sequence"]).order for one in of_design(study, "prefix")}
    assert found == {"D", "DP", "DPQ"}
    trials = len(study.trials)
    list(run_study(study, DeepRunner(SyntheticWorld()), spec()))
    assert len(study.trials) == trials
