"""Studies on disk: opened, refused, resumed after a crash, shared by many."""

import contextlib
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ordercomp.orders import permutations
from ordercomp.search.ask.objective import Objectives
from ordercomp.search.ask.samplers import make_sampler
from ordercomp.search.ask.space import Space
from ordercomp.search.bench.synthetic import SYNTHETIC_KNOBS, SyntheticWorld
from ordercomp.search.bench.tabular import TableRunner
from ordercomp.search.tell.drive import Question, run_study
from ordercomp.search.tell.owners import Heartbeat, is_alive, this_worker
from ordercomp.search.tell.read_back import records_from_study
from ordercomp.search.tell.study import (
    enqueue_first,
    enqueue_paired_design,
    find_study,
    open_study,
    release_stale_trials,
)
from ordercomp.sequence import StageSequence

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
ASKED = Question(space=SPACE, objectives=Objectives())
ORDERS = [StageSequence.parse(order) for order in permutations("DPQE")]


def opened(
    storage: Path | str | None,
    *,
    space: Space = SPACE,
    objectives: Objectives | None = None,
    task: str = "synthetic",
    name: str = "test",
) -> optuna.Study:
    return open_study(
        storage,
        name=name,
        space=space,
        objectives=objectives or Objectives(),
        sampler=make_sampler("random", space),
        task=task,
    )


def run(study: optuna.Study, trials: int | None = None) -> None:
    list(run_study(study, TableRunner(SyntheticWorld()), ASKED, trials=trials))


def content(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("file", ["study.db", "study.log", "study.journal"])
def test_a_study_in_a_file_is_found_again(tmp_path: Path, file: str) -> None:
    run(opened(tmp_path / file), trials=3)
    again = opened(tmp_path / file)
    assert len(again.get_trials(states=(TrialState.COMPLETE,))) >= 3
    assert again.metric_names == ["accuracy", "log2_bitops_cr"]
    assert len(find_study(tmp_path / file).trials) == len(again.trials)


def test_plain_optuna_reads_what_we_wrote(tmp_path: Path) -> None:
    run(opened(tmp_path / "study.db"), trials=3)
    plain = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [direction.name for direction in plain.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert all(StageSequence.parse(trial.user_attrs["sequence"]) for trial in plain.trials)
    assert plain.best_trials


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


def test_nothing_is_enqueued_if_one_sequence_lies_outside() -> None:
    study = opened(None)
    with pytest.raises(ValueError, match="order 'DD'"):
        enqueue_paired_design(study, SPACE, [*ORDERS, StageSequence.parse("DD")], [0])
    assert not study.trials


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "other"}, "task is 'synthetic' there, 'other' now"),
        ({"space": Space("DPQ", SYNTHETIC_KNOBS, optional=True)}, "space stages is 'DPQE' there, 'DPQ' now"),
        ({"space": Space("DPQE", SYNTHETIC_KNOBS)}, "space optional is True there, False now"),
        ({"objectives": Objectives(max_loss=0.01)}, "objectives max_loss is None there, 0.01 now"),
        (
            {"objectives": Objectives(names=("accuracy", "latency_ms"))},
            r"directions \['maximize', 'maximize'\] there, \['maximize', 'minimize'\] now",
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


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("{}/missing/study.db", "lies in a folder that does not exist"),
        ("{}", "got the folder"),
        ("{}/text.db", "cannot be reached: file is not a database"),
        ("{}/text.log", "is not a readable journal"),
        ("oracle-of-delphi://x", "must be a path or a database URL"),
        ("sqlite:///{}/missing/study.db", "folder that does not exist"),
        ("sqlite://", "would be lost with this process; give the path of a file"),
        ("sqlite:///:memory:", "would be lost with this process"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, storage: str, message: str) -> None:
    for name in ("text.db", "text.log"):
        (tmp_path / name).write_text("this is neither a database nor a journal\n" * 50)
    with pytest.raises(ValueError, match=message):
        opened(storage.format(tmp_path))


def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(ValueError, match=r"user:\*\*\*@127\.0\.0\.1:1.* cannot be reached") as caught:
        opened("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "advice"), [("mysql", False), ("postgresql+pg8000", True)])
def test_a_driver_is_advised_for_postgresql_only(scheme: str, advice: bool) -> None:
    with pytest.raises(ValueError, match="storage") as caught:
        opened(f"{scheme}://user:secret@127.0.0.1:1/none")
    assert ("psycopg2" in str(caught.value)) == advice
    assert "secret" not in str(caught.value)


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


KILLED = """
import sys, time, optuna
from ordercomp.search.ask.objective import Objectives
from ordercomp.search.tell.drive import Question, run_study
from ordercomp.search.ask.samplers import make_sampler
from ordercomp.search.ask.space import Space
from ordercomp.search.tell.study import open_study
from ordercomp.search.bench.synthetic import SYNTHETIC_KNOBS, SyntheticWorld
from ordercomp.search.bench.tabular import TableRunner
optuna.logging.set_verbosity(optuna.logging.WARNING)
space = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
study = open_study(sys.argv[1], name="test", space=space, objectives=Objectives(),
                   sampler=make_sampler("random", space), task="synthetic")
question = Question(space=space, objectives=Objectives())
for finished in run_study(study, TableRunner(SyntheticWorld()), question):
    print(finished.record.sequence, flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_a_killed_run_is_resumed_without_loss_or_double_count(tmp_path: Path, file: str) -> None:
    storage = tmp_path / file
    enqueue_paired_design(opened(storage), SPACE, ORDERS[:3], [0])
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(storage), "0.05"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
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


def test_a_storage_that_fails_meanwhile_is_an_os_error(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.db")
    running = run_study(study, TableRunner(SyntheticWorld()), ASKED, trials=3)
    next(running)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        connection.execute("ALTER TABLE trial_user_attributes RENAME TO gone")
    with pytest.raises(OSError, match=r"the storage of study 'test' failed: .*trial_user_attributes"):
        list(running)


def test_a_worker_elsewhere_lives_as_long_as_its_heart_beats() -> None:
    study = opened(None)
    assert not is_alive("elsewhere:7:9", study)
    study.set_user_attr("heartbeat:elsewhere:7:9", time.time() - 60)
    assert is_alive("elsewhere:7:9", study)
    study.set_user_attr("heartbeat:elsewhere:7:9", time.time() - 3600)
    assert not is_alive("elsewhere:7:9", study)
    with Heartbeat(study):
        assert study.user_attrs[f"heartbeat:{this_worker()}"] == pytest.approx(time.time(), abs=10)


def paired_study(storage: Path | None, count: int = 4) -> optuna.Study:
    study = opened(storage)
    enqueue_paired_design(study, SPACE, ORDERS[:count], [0])
    return study


def told_sequences(study: optuna.Study) -> list[tuple[object, object]]:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted((t.user_attrs["sequence"], t.user_attrs["record"]["sequence"]) for t in done)


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
        patch.setattr("ordercomp.search.tell.study.this_worker", lambda: "elsewhere:2:2")
        patch.setattr(optuna.Study, "enqueue_trial", interrupt)
        with pytest.raises(KeyboardInterrupt):
            release_stale_trials(study, SPACE)
    assert [one.state for one in study.trials] == [TrialState.FAIL]
    for _ in range(2):
        release_stale_trials(study, SPACE)
    assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].system_attrs["fixed_params"] == SPACE.params(SPACE.complete(ORDERS[0]))


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def proposals(study: optuna.Study) -> set[object]:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return {one.user_attrs["sequence"] for one in done if one.user_attrs["design"] == "adaptive"}


def test_an_order_is_not_dropped_by_a_kill_between_asking_and_signing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ordercomp.search.tell.drive._UNSIGNED_SECONDS", 0.2)
    study = paired_study(None)
    study.ask()  # and then the process is killed
    run(study)
    assert {str(SPACE.complete(order)) for order in ORDERS[:4]} <= {one for one, _ in told_sequences(study)}
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_kill_between_asking_and_proposing_changes_no_later_proposal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ordercomp.search.tell.drive._UNSIGNED_SECONDS", 0.2)
    calm, killed = opened(None), opened(None)
    run(calm, trials=7)
    run(killed, trials=3)
    killed.ask()  # and then the process is killed
    run(killed, trials=7)
    assert proposals(killed) == proposals(calm)
    assert not killed.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_trial_that_was_enqueued_with_a_part_of_its_knobs_is_measured_as_planned() -> None:
    """As versions before this one left it in a study."""
    study = opened(None)
    sequence = SPACE.complete(ORDERS[0])
    params = dict(list(SPACE.params(sequence).items())[:1])
    study.enqueue_trial(params, user_attrs={"sequence": str(sequence), "seed": 0, "design": "paired"})
    run(study)
    assert (str(sequence), str(sequence)) in told_sequences(study)
    assert all(planned == measured for planned, measured in told_sequences(study))


STARTS = """
import sys, time
from pathlib import Path
from ordercomp.search.tell.storage import open_storage
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
open_storage(sys.argv[1])
"""


def test_processes_that_start_together_on_a_new_file_all_open_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path / "study.db"), str(tmp_path / "go")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(1.5)
    (tmp_path / "go").touch()
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3


@pytest.mark.parametrize("damage", ["text", "flipped", "cut", "empty page"])
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "study.db"
    run(paired_study(path, count=1))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    changed = {
        "text": b"this is no database " * 999,
        "flipped": whole[:4096] + bytes(byte ^ 255 for byte in whole[4096:9000]) + whole[9000:],
        "cut": whole[: len(whole) // 2],
        "empty page": bytes(4096) + whole[4096:],
    }[damage]
    path.write_bytes(changed)

    def use() -> None:
        opened(path)
        records_from_study(find_study(path))

    with pytest.raises((ValueError, OSError), match=r"storage|study"):
        use()
