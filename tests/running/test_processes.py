"""The runner on real processes: sharing, crashes, Ctrl-C, kill -9."""

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from ordercomp.files import start_ticks
from ordercomp.records import Record
from ordercomp.running import workers as processes
from ordercomp.running.jobs import NodeJob, Request
from ordercomp.running.runner import Runner, WorkerDiedError
from ordercomp.running.store import Store
from ordercomp.running.workers import LocalPool
from ordercomp.sequence import StageSequence, permutations
from tests import fakes
from tests.fakes import FakeTask, calls

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds until a test gives up, whatever the load
LONG = 600.0  # seconds of a training that nothing may wait for: whatever does runs out of patience


def run_here(folder: Path, work: Callable[[NodeJob], Record], *orders: str) -> tuple[FakeTask, list[Record]]:
    task = FakeTask(folder / "calls")
    with Runner(task, Store(folder / "store"), work=work) as runner:
        requests = [Request(StageSequence.parse(order), 0) for order in orders]
        return task, [finished.record for finished in runner.run(requests)]


def start(folder: Path, seconds: float, *orders: str) -> subprocess.Popen[str]:
    program = "from tests.runner_program import main; main()"  # workers need not import it again
    command = [sys.executable, "-c", program, str(folder), str(seconds), *orders]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def children(pid: int, kind: str = "") -> list[int]:
    """Child processes, of all kinds or of those whose command line holds a word."""
    table = subprocess.run(
        ["ps", "-wwo", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in table.stdout.splitlines() if kind in line]


def workers_of(pid: int) -> list[int]:
    """The worker processes of a program: forks of its server."""
    return [worker for server in children(pid, "forkserver") for worker in children(server)]


def assert_dead(pid: int) -> None:
    """Wait until a process has ended, whether or not it was asked for its end."""
    wait_until(lambda: start_ticks(pid) is None)


def assert_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def wait_until(happened: Callable[[], bool]) -> None:
    """Look again and again, for as long as the slowest machine may need."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_dead_worker_is_replaced_and_its_nodes_trained_again(tmp_path: Path) -> None:
    task, records = run_here(tmp_path, fakes.die_once_at_dp, "DP", "QD")
    assert sorted(record.order for record in records) == ["D", "DP", "Q", "QD"]
    assert all(record.error is None for record in records)
    assert calls(task).count("DP 0") == 2


def test_seeds_whose_worker_died_side_by_side_are_trained_again_each_alone(tmp_path: Path) -> None:
    task, store = FakeTask(tmp_path / "calls"), Store(tmp_path / "store")
    wanted = [Request(StageSequence.parse("DP"), seed) for seed in range(2)]
    with Runner(task, store, workers=1, work=fakes.die_beside_others_at_dp, side_by_side=2) as runner:
        records = [one.record for one in runner.run(wanted)]
    assert sorted((one.order, one.seed) for one in records) == [("D", 0), ("D", 1), ("DP", 0), ("DP", 1)]
    assert all(one.error is None for one in records)
    assert sorted(calls(task)[-2:]) == ["DP 0", "DP 1"]


def test_a_second_dead_worker_ends_the_run_with_advice(tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match=r"died while training .*D P at seed 0.*; was memory short"):
        run_here(tmp_path, fakes.die_at_dp, "DP")
    assert len(list((tmp_path / "store").glob("*.json"))) == 2  # the baseline and D are kept


def test_workers_compute_with_one_thread_and_name_nodes_as_their_runner_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.workers.code_version", lambda: "before an edit")
    _, records = run_here(tmp_path, fakes.describe_worker, "D")
    assert records[0].extra == {"threads": 1, "version": "before an edit"}


def test_two_programs_on_one_store_train_each_node_once(tmp_path: Path) -> None:
    orders = permutations("DPQ")
    programs = [start(tmp_path, 0.05, *orders), start(tmp_path, 0.05, *reversed(orders))]
    outputs = [program.communicate(timeout=PATIENCE)[0].split() for program in programs]
    trained = (tmp_path / "calls").read_text().splitlines()
    assert len(trained) == len(set(trained)) == 16
    assert [len(set(output[:-2])) for output in outputs] == [15, 15]
    assert sum(int(output[-1]) for output in outputs) == 15


def test_ctrl_c_yields_what_was_running_and_ends_cleanly(tmp_path: Path) -> None:
    program = start(tmp_path, 0.3, *permutations("DPQE"))
    first = wait_for_line(program)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to the workers too
    output, errors = program.communicate(timeout=PATIENCE)
    *orders, state, stages = output.split()
    assert program.returncode == 0
    assert re.fullmatch(r"stopping: \d running trainings are finished first; .*\n", errors)
    assert state == "interrupted"
    trained = (tmp_path / "calls").read_text().splitlines()
    assert sorted([first, *orders]) == sorted(line.split()[0] for line in trained if line != "- 0")
    assert int(stages) == len(trained) - 1 <= 4


@pytest.mark.parametrize("to_all", [True, False])
def test_sigterm_ends_at_once_with_what_is_finished(tmp_path: Path, to_all: bool) -> None:
    program = start(tmp_path, LONG, *permutations("DPQE"))
    wait_until((tmp_path / "calls").exists)
    workers = children(program.pid)
    (os.killpg if to_all else os.kill)(program.pid, signal.SIGTERM)
    output, errors = program.communicate(timeout=PATIENCE)
    assert (program.returncode, errors, output.split()) == (0, "", ["interrupted", "0"])
    assert_gone(workers)


def test_a_worker_that_is_stopped_for_good_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.workers.STOPPED_SECONDS", 0.5)
    task, records = run_here(tmp_path, fakes.stop_once_at_dp, "DP", "QD")
    assert sorted(record.order for record in records) == ["D", "DP", "Q", "QD"]
    assert all(record.error is None for record in records)
    assert calls(task).count("DP 0") == 2


def finish(pool: LocalPool, futures: list[Future[Any]]) -> list[Any]:
    """Results of jobs, or their exceptions."""
    wait_until(lambda: [pool.ended(0.05)] != [] and all(future.done() for future in futures))
    return [future.exception() or future.result() for future in futures]


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    pool = LocalPool(2)
    yield pool
    pool.kill()


def two_workers(pool: LocalPool) -> list[int]:
    """The ids of both workers, once both have done a job."""
    pids: list[int] = []
    while len(set(pids)) < 2:
        pids = finish(pool, [pool.submit(fakes.sleep, 0.5) for _ in range(2)])
    return pids


def test_the_death_of_an_idle_worker_costs_nothing(pool: LocalPool) -> None:
    victim, _ = two_workers(pool)
    os.kill(victim, signal.SIGKILL)
    assert_dead(victim)
    pids = two_workers(pool)
    assert victim not in pids
    pool.close()
    assert_gone(pids)


def test_the_death_of_a_busy_worker_costs_its_own_job(pool: LocalPool) -> None:
    victim, other = two_workers(pool)
    futures = [pool.submit(fakes.sleep, 2.0) for _ in range(2)]
    os.kill(victim, signal.SIGKILL)
    lost, done = sorted(finish(pool, futures), key=lambda result: result == other)
    assert isinstance(lost, BrokenExecutor)
    assert done == other
    assert finish(pool, [pool.submit(fakes.sleep, 0.0)]) == [other]
    pool.close()
    assert_gone([victim, other])


def test_a_pool_is_closed_or_killed_whatever_its_workers_do(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.workers._END_SECONDS", 0.5)
    pids = two_workers(pool)
    os.kill(pids[0], signal.SIGSTOP)
    pool.close()
    assert_gone(pids)
    future = pool.submit(fakes.sleep, LONG)
    pool.kill()
    assert isinstance(future.exception(timeout=0), BrokenExecutor)
    pool.close()
    assert_gone(workers_of(os.getpid()))


def test_errors_come_with_their_origin_and_what_cannot_be_sent_is_told(pool: LocalPool) -> None:
    error, unsent = finish(pool, [pool.submit(fakes.divide, 0), pool.submit(fakes.make_lambda, 0)])
    assert isinstance(error, ZeroDivisionError)
    assert "in divide" in str(error.__cause__)
    assert "lambda" in str(unsent)
    assert finish(pool, [pool.submit(fakes.divide, 2)]) == [0.5]


def test_a_worker_that_could_not_be_started_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_process, refused = BaseProcess.start, []

    def start_or_refuse(process: BaseProcess) -> None:
        if not refused:
            refused.append(process)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        start_process(process)

    monkeypatch.setattr(BaseProcess, "start", start_or_refuse)
    _, records = run_here(tmp_path, fakes.describe_worker, "D", "P")
    assert refused
    assert sorted(record.order for record in records) == ["D", "P"]
    assert all(record.error is None for record in records)


@pytest.mark.parametrize(("victim", "interrupted"), [("first", True), ("second", False), ("server", False)])
def test_a_run_goes_on_and_ends_after_a_death(tmp_path: Path, victim: str, interrupted: bool) -> None:
    """One of the two workers is idle then, the other one is not; the server of both forks them."""
    program = start(tmp_path, 0.5, "D", "PQEFPQEF")
    log = tmp_path / "calls"
    wait_until(lambda: log.exists() and "PQ 0" in log.read_text())
    workers = workers_of(program.pid)
    assert len(workers) == 2
    victims = {"first": workers[0], "second": workers[1], "server": children(program.pid, "forkserver")[0]}
    os.kill(victims[victim], signal.SIGKILL)
    if interrupted:
        for _ in range(2):
            os.kill(program.pid, signal.SIGINT)
            time.sleep(0.3)
    output, _ = program.communicate(timeout=PATIENCE)
    assert_gone(workers)
    if not interrupted:
        assert program.returncode == 0
        assert len(output.split()) == 9 + 2


def test_a_worker_that_cannot_watch_its_parent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.threading.Thread, "start", refuse_to_start)
    monkeypatch.setattr(processes.os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        processes._follow_parent()


def refuse_to_start(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_ctrl_c_while_the_workers_start_does_not_break_them(tmp_path: Path) -> None:
    program = start(tmp_path, 0.0, *permutations("DPQE"))
    wait_until(lambda: bool(children(program.pid)))
    os.killpg(program.pid, signal.SIGINT)
    output, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode in (0, -signal.SIGINT)
    assert "interrupted" in output or program.returncode == -signal.SIGINT  # before the run began


def test_a_second_ctrl_c_kills_the_workers(tmp_path: Path) -> None:
    program = start(tmp_path, LONG, "D")
    wait_until((tmp_path / "calls").exists)
    os.kill(program.pid, signal.SIGINT)
    assert program.stderr is not None
    assert program.stderr.readline().startswith("stopping: 1 running trainings")  # the baseline
    os.kill(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=PATIENCE)
    assert program.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert list((tmp_path / "store").glob("*.json")) == []


def test_kill_9_loses_at_most_what_was_in_training(tmp_path: Path) -> None:
    program = start(tmp_path, 0.1, *permutations("DPQ"))
    for _ in range(4):
        wait_for_line(program)
    workers = children(program.pid)
    program.kill()
    program.communicate()
    assert_gone(workers)
    started = (tmp_path / "calls").read_text().splitlines()
    kept = len(list((tmp_path / "store").glob("*.json")))
    assert len(started) - 2 <= kept
    output, _ = start(tmp_path, 0.0, *permutations("DPQ")).communicate(timeout=PATIENCE)
    everything = (tmp_path / "calls").read_text().splitlines()
    assert len(output.split()) == 15 + 2
    assert len(everything) - len(set(everything)) == len(started) - kept <= 2


@pytest.mark.parametrize(
    ("cores", "gibibytes", "gpus", "wanted"),
    [(16, 128, 0, 16), (16, 9, 0, 4), (64, 512, 2, 16), (1, 1, 0, 1), (4, 64, 1, 4)],
)
def test_workers_suit_the_cores_the_memory_and_the_gpus(
    monkeypatch: pytest.MonkeyPatch, cores: int, gibibytes: int, gpus: int, wanted: int
) -> None:
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(processes, "_memory_bytes", lambda: gibibytes * 2**30)
    monkeypatch.setattr(processes.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: gpus)
    assert processes.usable_workers() == wanted


@pytest.mark.parametrize(("gpus", "wanted"), [(0, []), (1, []), (3, [0, 1, 2, 0])])
def test_each_worker_has_a_gpu_of_its_own_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, gpus: int, wanted: list[int]
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(processes.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(processes.torch.cuda, "set_device", taken.append)
    for place in range(4):
        processes._pin_to_gpu(place)
    assert taken == wanted


def test_idle_workers_end_by_themselves_where_others_hold_their_pipes(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = multiprocessing.get_context("fork")  # the second worker holds this end of the first one's pipe
    monkeypatch.setattr("ordercomp.running.workers._start_method", lambda: fork)
    monkeypatch.setattr("ordercomp.running.workers._END_SECONDS", LONG)
    pids = two_workers(pool)
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    assert_gone(pids)
    closing.join(PATIENCE)
    assert not closing.is_alive()
