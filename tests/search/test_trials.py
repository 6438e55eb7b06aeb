"""Trials of processes that died: told from those that live, and taken up again whole."""

import multiprocessing
import os
import platform
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.search_worlds import SyntheticWorld, TableRunner
from ordercomp.search.drive import run_study
from ordercomp.search.results import count_ended
from ordercomp.search.study import enqueue_paired_design
from ordercomp.search.trials import Heartbeat, is_alive, release_stale_trials, this_worker
from tests.studies_on_disk import ASKED, ORDERS, SPACE, opened, paired_study, run, told_sequences

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _fill(storage: Path, nodes: Connection) -> None:
    """Run the study and tell each node, slowly, until killed."""
    for finished in run_study(opened(storage), TableRunner(SyntheticWorld()), ASKED):
        nodes.send(finished.record.sequence)
        time.sleep(0.05)


@pytest.mark.integration
@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_a_killed_run_is_resumed_without_loss_or_double_count(tmp_path: Path, file: str) -> None:
    storage = tmp_path / file
    enqueue_paired_design(opened(storage), SPACE, ORDERS[:3], [0])
    fork = multiprocessing.get_context("fork")
    nodes, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_fill, args=(storage, theirs))
    process.start()
    for _ in range(5):
        nodes.recv()
    process.kill()
    process.join()
    study = opened(storage)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    run(study)
    told = study.get_trials(states=(TrialState.COMPLETE,))
    keys = [(trial.user_attrs["sequence"], trial.user_attrs["seed"]) for trial in told]
    assert len(keys) == len(set(keys)) == 3 + 6  # and D, DP, DPQ, DPE, DQ, DQP
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_running_trials_of_a_live_worker_are_left_alone() -> None:
    study = opened(None)
    mine, gone, foreign = study.ask(), study.ask(), study.ask()
    for trial in (mine, gone, foreign):
        trial.set_user_attr("sequence", str(SPACE.suggest(trial)))
        trial.set_user_attr("seed", 0)
        trial.set_user_attr("design", "adaptive")
    host, pid, _ = this_worker().rsplit(":", 2)
    mine.set_user_attr("worker", this_worker())
    gone.set_user_attr("worker", f"{host}:{pid}:1")  # the same process id, started at another time
    foreign.set_user_attr("worker", "elsewhere:1:1")
    study.set_user_attr("heartbeat:elsewhere:1:1", time.time())
    assert release_stale_trials(study, SPACE) == 1
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    assert study.trials[3].user_attrs["retry_of"] == 1
    assert study.trials[3].system_attrs["fixed_params"] == study.trials[1].params


def test_a_worker_elsewhere_lives_as_long_as_its_heart_beats() -> None:
    study = opened(None)
    assert not is_alive("elsewhere:7:9", study)
    study.set_user_attr("heartbeat:elsewhere:7:9", time.time() - 60)
    assert is_alive("elsewhere:7:9", study)
    study.set_user_attr("heartbeat:elsewhere:7:9", time.time() - 3600)
    assert not is_alive("elsewhere:7:9", study)
    begin = time.time()
    with Heartbeat(study):
        assert begin <= study.user_attrs[f"heartbeat:{this_worker()}"] <= time.time()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no table of processes to read")
def test_a_worker_that_has_ended_is_dead_even_if_its_parent_has_not_asked() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    worker, study = f"{platform.node()}:{child.pid}:{ticks}", optuna.create_study()
    assert is_alive(worker, study)
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(worker, study)
    child.wait()


def test_a_trial_of_the_design_that_died_before_all_its_knobs_comes_back_whole() -> None:
    """It had suggested its order and one knob; what is enqueued again is the sequence, not that part."""
    study = paired_study(None)
    trial = study.ask()
    trial.set_user_attr("worker", "elsewhere:1:1")
    name, distribution = next(iter(SPACE.distributions(SPACE.complete(ORDERS[0])).items()))
    trial._suggest(name, distribution)
    assert len(trial.params) == 1
    run(study)
    pairs = told_sequences(study)
    assert all(planned == measured for planned, measured in pairs)
    assert {str(SPACE.complete(order)) for order in ORDERS[:4]} <= {planned for planned, _ in pairs}


def test_a_trial_that_died_before_its_sequence_comes_back_and_proposes_what_it_would_have() -> None:
    calm, study = opened(None), opened(None)
    run(calm, trials=4)
    trial = study.ask()
    for name, value in {"worker": "elsewhere:1:1", "seed": 0, "design": "adaptive"}.items():
        trial.set_user_attr(name, value)
    trial._suggest(*next(iter(SPACE.distributions(SPACE.complete(ORDERS[0])).items())))
    assert release_stale_trials(study, SPACE) == 1
    run(study, trials=4)
    assert proposals(study) == proposals(calm)


@pytest.mark.parametrize("design", ["paired", "adaptive"])
def test_a_kill_between_failing_a_trial_and_enqueueing_it_again_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, design: str
) -> None:
    study = paired_study(None, count=1)
    trial = study.ask()
    attributes = {"worker": "elsewhere:1:1", "design": design}
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    with monkeypatch.context() as patch:
        patch.setattr("ordercomp.search.trials.this_worker", lambda: "elsewhere:2:2")
        patch.setattr(optuna.Study, "enqueue_trial", interrupt)
        with pytest.raises(KeyboardInterrupt):
            release_stale_trials(study, SPACE)
    assert [one.state for one in study.trials] == [TrialState.FAIL]
    for _ in range(2):
        release_stale_trials(study, SPACE)
    assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].system_attrs["fixed_params"] == SPACE.params(SPACE.complete(ORDERS[0]))


def test_a_trial_that_died_with_a_record_that_it_had_not_told_takes_no_second_place() -> None:
    """As on a full disk: the record is noted, the state cannot be written, and the process ends."""
    calm, study = opened(None), opened(None)
    run(calm, trials=6)
    run(study, trials=3)
    trial = study.ask()
    for name, value in {"worker": "elsewhere:1:1", "seed": 0, "design": "adaptive"}.items():
        trial.set_user_attr(name, value)
    trial.set_user_attr("sequence", str(SPACE.suggest(trial)))
    trial.set_user_attr("record", {})
    assert release_stale_trials(study, SPACE) == 1
    run(study, trials=6)
    assert proposals(study) == proposals(calm)
    assert count_ended(study) == count_ended(calm) == 6


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def proposals(study: optuna.Study) -> set[object]:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return {one.user_attrs["sequence"] for one in done if one.user_attrs["design"] == "adaptive"}


def test_an_order_is_not_dropped_by_a_kill_between_asking_and_signing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ordercomp.search.drive._UNSIGNED_SECONDS", 0.2)
    study = paired_study(None)
    study.ask()  # and then the process is killed
    run(study)
    assert {str(SPACE.complete(order)) for order in ORDERS[:4]} <= {one for one, _ in told_sequences(study)}
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_kill_between_asking_and_proposing_changes_no_later_proposal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ordercomp.search.drive._UNSIGNED_SECONDS", 0.2)
    calm, killed = opened(None), opened(None)
    run(calm, trials=7)
    run(killed, trials=3)
    killed.ask()  # and then the process is killed
    run(killed, trials=7)
    assert proposals(killed) == proposals(calm)
    assert not killed.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
