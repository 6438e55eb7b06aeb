"""Studies on a real PostgreSQL server, started for the test where its programs are installed."""

import getpass
import multiprocessing
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.objectives import Objectives
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.sequence import StageSequence, permutations

optuna.logging.set_verbosity(optuna.logging.WARNING)

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database: that of ORDERCOMP_POSTGRES_URL, or a server of our own on a free port."""
    return os.environ.get("ORDERCOMP_POSTGRES_URL") or request.getfixturevalue("server")[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a server of our own, and what restarts it, which takes three seconds."""
    pytest.importorskip("psycopg2")
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs, data = PROGRAMS[-1].parent, folder / "data"
    if getpass.getuser() == "root":  # the server refuses to run as root
        for path in (folder, *folder.parents[:3]):
            path.chmod(path.stat().st_mode | 0o011)
        subprocess.run(["chown", "postgres", folder], check=True)
    start = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
    try:
        _as_server(programs / "initdb", "-D", data, "-A", "trust", "-U", "ordercomp")
        _as_server(programs / "pg_ctl", "-D", data, "-o", start, "-l", folder / "server.log", "-w", "start")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"PostgreSQL does not start here: {error}")

    def restart() -> None:
        _as_server(programs / "pg_ctl", "-D", data, "-m", "fast", "stop")
        time.sleep(3)
        _as_server(programs / "pg_ctl", "-D", data, "-o", start, "-l", folder / "server.log", "-w", "start")

    yield f"postgresql://ordercomp@127.0.0.1:{port}/postgres", restart
    with suppress(subprocess.CalledProcessError):  # it may be gone, or slow to go on a busy machine
        _as_server(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def _as_server(*command: Path | str) -> None:
    who = ["runuser", "-u", "postgres", "--"] if getpass.getuser() == "root" else []
    words = [*who, *map(str, command)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def opened(url: str, *, task: str = "synthetic", name: str = "test") -> optuna.Study:
    return open_study(
        url,
        name=name,
        space=SPACE,
        objectives=Objectives(),
        sampler=make_sampler("tpe", SPACE),
        task=task,
    )


@pytest.mark.integration
def test_a_study_on_a_server_is_filled_resumed_and_guarded(url: str) -> None:
    study = opened(url)
    enqueue_paired_design(study, SPACE, map(StageSequence.parse, permutations("DPQE")[:4]), [0])
    spec = StudySpec(space=SPACE, objectives=Objectives())
    running = run_study(study, TableRunner(SyntheticWorld()), spec, trials=6)
    next(running)
    running.close()
    again = opened(url)
    list(run_study(again, TableRunner(SyntheticWorld()), spec, trials=6))
    told = again.get_trials(states=(TrialState.COMPLETE,))
    assert len({trial.user_attrs["sequence"] for trial in told}) >= 8
    assert [trial.user_attrs["design"] for trial in told].count("paired") == 4
    assert not again.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    with pytest.raises(ValueError, match="task: 'synthetic' there, 'other' now"):
        opened(url, task="other")


@pytest.mark.integration
def test_a_restart_of_the_server_is_waited_for(server: tuple[str, Callable[[], None]]) -> None:
    url, restart = server
    study = opened(url, name="restarted")
    spec = StudySpec(space=SPACE, objectives=Objectives())
    running = run_study(study, TableRunner(SyntheticWorld()), spec, trials=4)
    next(running)
    restarting = threading.Thread(target=restart)
    restarting.start()
    time.sleep(1)
    list(running)
    restarting.join()
    told = opened(url, name="restarted").get_trials(states=(TrialState.COMPLETE,))
    assert sum(trial.user_attrs["design"] != "prefix" for trial in told) == 4


def _drive(url: str, trials: int, dies_after: int | None) -> None:
    """One driver: runs the study until it holds the trials, or is gone without a word after some nodes."""
    spec = StudySpec(space=SPACE, objectives=Objectives())
    for count, _ in enumerate(
        run_study(opened(url, name="shared"), TableRunner(SyntheticWorld()), spec, trials=trials)
    ):
        if count == dies_after:
            os._exit(0)


@pytest.mark.integration
def test_several_drivers_fill_one_study_and_take_up_what_a_dead_one_left(url: str) -> None:
    design = [StageSequence.parse(order) for order in permutations("DPQE")[:6]]
    study = opened(url, name="shared")
    enqueue_paired_design(study, SPACE, design, [0, 1])
    fork = multiprocessing.get_context("fork")
    drivers = [fork.Process(target=_drive, args=(url, 30, dies_after)) for dies_after in (None, None, 5)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(120)
    assert [driver.exitcode for driver in drivers] == [0, 0, 0]
    trials = opened(url, name="shared").get_trials()
    left = [one for one in trials if one.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert [(one.number, one.state, one.user_attrs) for one in left] == []
    told = [one for one in trials if one.state == TrialState.COMPLETE]
    paired = [
        (one.user_attrs["sequence"], one.user_attrs["seed"])
        for one in told
        if one.user_attrs["design"] == "paired"
    ]
    assert sorted(paired) == sorted((str(SPACE.complete(one)), seed) for one in design for seed in (0, 1))
    assert sum(one.user_attrs["design"] != "prefix" for one in told) in (30, 31, 32)  # it had one or two
