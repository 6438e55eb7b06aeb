"""A real Dask cluster of several processes: each node once, workers that die or join late, other code."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from ordercomp.running import workers
from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner, WorkerDiedError
from ordercomp.running.store import Store
from ordercomp.running.workers import executor_at
from ordercomp.sequence import StageSequence
from tests import fakes

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def run(cluster: object, folder: Path, *, work=fakes.work, seconds: float = 0.0, after=lambda: None):
    task = fakes.FakeTask(folder / "calls", seconds=seconds)
    orders = [StageSequence.parse(order) for order in ("DPQ", "DQP", "PDQ")]
    cluster.wait_for_workers(len(cluster.workers))  # one may be starting again
    with (
        executor_at(cluster.scheduler_address, workers=1) as (executor, many),
        Runner(task, Store(folder / "store"), workers=many, executor=executor, work=work) as runner,
    ):
        found = []
        for finished in runner.run(Request(order, 0) for order in orders):
            found.append(finished.record)
            after() if len(found) == 1 else None
    return found, fakes.calls(task)


def test_a_cluster_trains_each_node_once(cluster: object, tmp_path: Path) -> None:
    with executor_at(cluster.scheduler_address, workers=1) as (_, workers):
        assert workers == 2
    found, calls = run(cluster, tmp_path)
    assert sorted(record.order for record in found) == ["D", "DP", "DPQ", "DQ", "DQP", "P", "PD", "PDQ"]
    assert len(calls) == len(set(calls)) == 9


def test_the_store_is_found_from_another_folder(
    cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = fakes.FakeTask(tmp_path / "calls")
    with (
        executor_at(cluster.scheduler_address, workers=1) as (executor, workers),
        Runner(task, Store("store"), workers=workers, executor=executor, work=fakes.work) as runner,
    ):
        (finished,) = runner.run([Request(StageSequence.parse("D"), 0)])
    assert finished.record.error is None
    assert len(list((tmp_path / "store").glob("*.json"))) == 2


def test_a_worker_that_is_killed_in_training_loses_nothing(cluster: object, tmp_path: Path) -> None:
    found, _ = run(cluster, tmp_path, work=fakes.die_once_at_dp)
    assert all(record.error is None for record in found)
    assert len(found) == 8


def test_a_worker_that_joins_late_takes_part(cluster: object, tmp_path: Path) -> None:
    found, _ = run(cluster, tmp_path, seconds=0.2, after=lambda: cluster.scale(3))
    assert len(found) == 8
    assert all(record.error is None for record in found)


def test_a_cluster_that_loses_all_workers_is_told_once_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.001)
    looks = iter([{"one": 1}, {}, {}, {"one": 1}, {}])
    seen = threading.Event()

    def nthreads() -> dict[str, int]:
        if (there := next(looks, None)) is None:
            seen.set()
            raise OSError("the scheduler is gone")
        return there

    with workers.watching(SimpleNamespace(nthreads=nthreads), "tcp://here"):
        assert seen.wait(10)
    assert caplog.text.count("no worker is left at tcp://here: waiting for one to join") == 2


def test_whoever_stops_at_once_waits_for_no_cluster(tmp_path: Path) -> None:
    stuck = Executor()
    stuck.submit = lambda *_: Future()  # type: ignore[method-assign]
    task = fakes.FakeTask(tmp_path / "calls")
    runner = Runner(task, Store(tmp_path / "store"), workers=1, executor=stuck, work=fakes.work)
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGTERM]).start()
    assert list(runner.run([Request(StageSequence.parse("D"), 0)])) == []
    assert runner.interrupted


def test_workers_name_nodes_as_their_runner_does(
    cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.workers.code_version", lambda: "1.0+edited")
    found, _ = run(cluster, tmp_path, work=fakes.describe_worker)
    assert {record.extra["version"] for record in found} == {"1.0+edited"}
    assert {record.extra["threads"] for record in found} == {1}


def test_a_scheduler_that_is_gone_is_told_and_finished_nodes_are_kept(tmp_path: Path) -> None:
    own = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    try:
        with pytest.raises(WorkerDiedError, match="Finished nodes are kept"):
            run(own, tmp_path, after=own.close)
    finally:
        own.close()
    assert list((tmp_path / "store").glob("*.json"))


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ordercomp.running.workers._SECONDS", 0.5)
    with (
        pytest.raises(ValueError, match=r"--dask must be the address of a running scheduler .* got 'tcp://"),
        executor_at("tcp://127.0.0.1:9", workers=1) as (executor, _),
    ):
        assert executor is None
