"""The runner on threads, with fake work functions that count their calls."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ordercomp.records import Record
from ordercomp.running.jobs import Finished, NodeJob, Request
from ordercomp.running.runner import DiskFullError, Runner, WorkerDiedError
from ordercomp.running.store import Store
from ordercomp.running.workers import ExternalPool
from ordercomp.sequence import StageSequence, permutations
from tests import fakes
from tests.fakes import FakeTask, calls


def requests(*orders: str, seed: int = 0) -> list[Request]:
    return [Request(StageSequence.parse(order), seed) for order in orders]


def orders_of(finished: list[Finished]) -> list[str]:
    return [item.record.order for item in finished]


@pytest.fixture
def task(tmp_path: Path) -> FakeTask:
    return FakeTask(tmp_path / "calls")


def test_each_node_of_all_permutations_is_trained_and_yielded_once(task, store, pool) -> None:
    runner = Runner(task, store, executor=pool, work=fakes.work)
    orders = orders_of(list(runner.run(requests(*permutations("DPQE")))))
    assert len(orders) == len(set(orders)) == 64
    assert sorted(calls(task)) == sorted(["- 0", *(f"{order} 0" for order in orders)])
    assert all(order[:-1] in orders[:place] for place, order in enumerate(orders) if len(order) > 1)
    assert (runner.trainings.done, runner.trainings.baselines) == (64, 1)
    assert (runner.trainings.reused, runner.trainings.unshared) == (0, 196)


def test_a_second_run_reuses_everything(task, store, pool) -> None:
    first = list(Runner(task, store, executor=pool, work=fakes.work).run(requests("DPQ", "QD")))
    before = calls(task)
    again = Runner(task, store, executor=pool, work=fakes.work)
    second = list(again.run(requests("DPQ", "QD")))
    assert calls(task) == before
    assert all(item.reused for item in second)
    assert sorted(orders_of(second)) == sorted(orders_of(first))
    assert {item.record.sequence: item.record for item in second} == {
        item.record.sequence: item.record for item in first
    }
    assert (again.trainings.done, again.trainings.reused, again.trainings.baselines) == (0, 5, 0)


def test_seeds_do_not_share_nodes_but_repeated_requests_do(task, store, pool) -> None:
    runner = Runner(task, store, executor=pool, work=fakes.work)
    twice = [*requests("DP"), *requests("DP"), *requests("DP", seed=1)]
    finished = list(runner.run(twice))
    assert sorted((item.record.order, item.request.seed) for item in finished) == [
        ("D", 0),
        ("D", 1),
        ("DP", 0),
        ("DP", 1),
    ]
    assert sorted(calls(task)) == ["- 0", "- 1", "D 0", "D 1", "DP 0", "DP 1"]


def test_one_worker_finishes_the_oldest_request_first(task, store, pool) -> None:
    runner = Runner(task, store, workers=1, executor=pool, work=fakes.work)
    assert orders_of(list(runner.run(requests("DPQ", "DQP", "PD")))) == [
        "D", "DP", "DPQ", "DQ", "DQP", "P", "PD",
    ]  # fmt: skip


def test_requests_are_taken_only_when_a_worker_is_idle(task, store, pool) -> None:
    taken: list[str] = []
    seen: list[str] = []

    def ask() -> Iterator[Request]:
        for order in ("DP", "QE", "PD"):
            assert len(seen) >= 2 * len(taken)  # everything asked for before was yielded
            taken.append(order)
            yield requests(order)[0]

    runner = Runner(task, store, workers=1, executor=pool, work=fakes.work)
    for finished in runner.run(ask()):
        seen.append(finished.record.order)
    assert seen == ["D", "DP", "Q", "QE", "P", "PD"]


def test_an_endless_source_is_taken_no_further_than_the_lookahead(task, store, pool) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield Request(StageSequence.parse(f"P(ratio=0.{taken:04d})"), 0)

    run = Runner(task, store, executor=pool, work=fakes.work).run(endless(), lookahead=5)
    next(run)
    assert taken <= 6
    run.close()


def test_workers_are_never_idle_while_a_node_is_ready(task, store, pool) -> None:
    most, now, lock = 0, 0, threading.Lock()

    def watched(job: NodeJob) -> Record:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        try:
            return fakes.work(job)
        finally:
            with lock:
                now -= 1

    list(Runner(task, store, executor=pool, work=watched).run(requests(*permutations("DPQ"))))
    assert most == 2


def test_descendants_of_a_failed_stage_come_as_failed_records_without_training(task, store, pool) -> None:
    runner = Runner(task, store, executor=pool, work=fakes.fail_at_p)
    finished = list(runner.run(requests("DPQE", "DPEQ", "QD")))
    errors = {item.record.order: item.record.error for item in finished}
    assert sorted(calls(task)) == ["- 0", "D 0", "DP 0", "Q 0", "QD 0"]
    assert errors == {
        "D": None,
        "DP": "the loss is not finite",
        "DPQ": "not trained: its prefix D P failed: the loss is not finite",
        "DPQE": "not trained: its prefix D P failed: the loss is not finite",
        "DPE": "not trained: its prefix D P failed: the loss is not finite",
        "DPEQ": "not trained: its prefix D P failed: the loss is not finite",
        "Q": None,
        "QD": None,
    }
    assert all(item.kept for item in finished)
    failed = [item.record for item in finished if item.record.error]
    assert all(record.points == () and record.baseline.accuracy == 0.99 for record in failed)
    again = list(Runner(task, store, executor=pool, work=fakes.fail_at_p).run(requests("DPQE")))
    assert [item.record.error for item in again] == [errors[order] for order in ("D", "DP", "DPQ", "DPQE")]
    assert len(calls(task)) == 5


def test_running_out_of_memory_is_reported_but_not_kept(task, store, pool) -> None:
    finished = list(
        Runner(task, store, executor=pool, work=fakes.run_out_of_memory_at_q).run(requests("DQE"))
    )
    errors = [item.record.error for item in finished]
    assert errors[:2] == [None, "MemoryError: no memory left"]
    assert errors[2] == "not trained: its prefix D Q failed: MemoryError: no memory left"
    assert [item.kept for item in finished] == [True, False, False]
    again = list(Runner(task, store, executor=pool, work=fakes.work).run(requests("DQE")))
    assert [(item.record.error, item.kept) for item in again] == [(None, True)] * 3


def test_a_node_that_lacks_memory_beside_others_is_trained_again_alone(task, store) -> None:
    class Threads(ExternalPool):
        """They count as processes of our own."""

        external = False

    running, most_beside, tries = set(), [], []

    def short(job: NodeJob) -> Record:
        running.add(job.key)
        try:
            if job.sequence.order == "DP":
                tries.append(job.alone)
                most_beside.append(len(running))
                if not job.alone:
                    raise MemoryError
            time.sleep(0.01)
            return fakes.work(job)
        finally:
            running.discard(job.key)

    with ThreadPoolExecutor(3) as pool:
        runner = Runner(task, store, workers=3, executor=pool, work=short)
        runner._pool = Threads(pool)
        finished = list(runner.run(requests("DPQ", "DQP", "QDP", "PDQ")))
    assert all(one.record.error is None for one in finished)
    assert len(finished) == 11
    assert tries == [False, True]
    assert most_beside[1] == 1


def test_bad_input_in_a_worker_and_a_failing_baseline_are_raised(task, store, pool) -> None:
    def reject(job: NodeJob) -> Record:
        if job.sequence.order == "P":
            raise ValueError("model cannot be traced")
        return fakes.work(job)

    def no_data(job: NodeJob) -> Record:
        raise FileNotFoundError("no data set here")

    with pytest.raises(FileNotFoundError, match="no data set here"):
        list(Runner(task, store, executor=pool, work=no_data).run(requests("D")))
    with pytest.raises(ValueError, match="cannot be traced"):
        list(Runner(task, store, executor=pool, work=reject).run(requests("P", "D")))
    assert all(store.claim(path.stem) for path in (store.folder / "locks").glob("*.lock"))


def test_nothing_starts_after_the_budget_is_spent(task, store, pool, monkeypatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("ordercomp.running.runner.time", SimpleNamespace(monotonic=lambda: clock.now))

    def take_a_second(job: NodeJob) -> Record:
        clock.now += 1.0
        return fakes.work(job)

    runner = Runner(task, store, workers=1, executor=pool, budget_seconds=5.5, work=take_a_second)
    assert orders_of(list(runner.run(requests(*permutations("DPQE"))))) == ["D", "DP", "DPQ", "DPQE", "DPE"]
    assert (runner.budget_spent, runner.interrupted, runner.seconds) == (True, False, 6.0)
    assert list(runner.run(requests("QE"))) == []  # one budget for all runs of a runner


def test_what_runs_when_the_budget_ends_is_waited_for(task, store, pool) -> None:
    slow = FakeTask(task.log, seconds=0.05)
    runner = Runner(slow, store, executor=pool, budget_seconds=0.06, work=fakes.work)
    finished = list(runner.run(requests(*permutations("DPQE"))))
    assert len(calls(task)) == len(finished) + 1
    assert len(finished) < 8


def test_an_evicted_prefix_is_trained_again_but_not_yielded_again(task, store, pool) -> None:
    list(Runner(task, store, executor=pool, work=fakes.work).run(requests("DPQ")))
    assert len(Store(store.folder, cap_bytes=0).evict()) == 4
    runner = Runner(task, store, executor=pool, work=fakes.work)
    finished = list(runner.run(requests("DPQE")))
    assert [(item.record.order, item.reused) for item in finished] == [
        ("D", True), ("DP", True), ("DPQ", True), ("DPQE", False),
    ]  # fmt: skip
    assert calls(task)[4:] == ["- 0", "D 0", "DP 0", "DPQ 0", "DPQE 0"]


def test_a_cap_too_small_for_one_network_still_lets_every_request_finish(task, tmp_path: Path, pool) -> None:
    store = Store(tmp_path / "small", cap_bytes=0)
    finished = list(Runner(task, store, executor=pool, work=fakes.work).run(requests("DPQ", "QPD")))
    assert len(finished) == 6
    assert all(item.record.error is None for item in finished)
    assert list(store.folder.glob("*.safetensors")) == []


def test_a_network_that_is_never_kept_ends_in_an_error_instead_of_a_loop(task, store, pool) -> None:
    def forget(job: NodeJob) -> Record:
        record = fakes.work(job)
        if job.sequence.order == "D":
            store.network_path(job.key).unlink()
        return record

    finished = list(Runner(task, store, executor=pool, work=forget).run(requests("DP")))
    assert finished[-1].record.error == (
        "not trained: its prefix D failed: its network or its worker was lost in each of 3 trainings"
    )


@pytest.mark.parametrize("order", ["D", "DP", "DPQ"])
def test_a_store_that_is_removed_in_a_run_loses_no_record(task, store, pool, order: str) -> None:
    gone: list[str] = []

    def work(job: NodeJob) -> Record:
        if job.sequence.order == order and not gone:
            gone.append(order)
            shutil.rmtree(store.folder, ignore_errors=True)  # another job may rename a file meanwhile
        return fakes.work(job)

    finished = list(Runner(task, store, executor=pool, work=work).run(requests("DPQ", "DQP")))
    assert gone == [order]
    assert sorted(orders_of(finished)) == ["D", "DP", "DPQ", "DQ", "DQP"]
    assert [item.record.error for item in finished] == [None] * 5


def test_a_broken_executor_of_the_caller_is_reported_at_once(task, store) -> None:
    class Broken(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

    with pytest.raises(WorkerDiedError, match="lost its workers or its scheduler while training the b"):
        list(Runner(task, store, executor=Broken(), work=fakes.work).run(requests("D")))


def test_closing_the_run_early_keeps_what_was_in_training(task, store, pool) -> None:
    run = Runner(task, store, executor=pool, work=fakes.work).run(requests("DPQ"))
    assert next(run).record.order == "D"
    run.close()
    assert len(list(store.folder.glob("*.json"))) == len(calls(task))


def test_a_later_run_of_the_same_runner_counts_each_node_once(task, store, pool) -> None:
    runner = Runner(task, store, executor=pool, work=fakes.work)
    list(runner.run(requests("DP")))
    again = list(runner.run(requests("DPQ")))
    assert [(item.record.order, item.reused) for item in again] == [("D", True), ("DP", True), ("DPQ", False)]
    trainings = runner.trainings
    assert (trainings.done, trainings.reused, trainings.baselines, trainings.unshared) == (3, 0, 1, 6)


def test_bad_settings_are_refused(task, store) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Runner(task, store, workers=0, work=fakes.work)
    with pytest.raises(ValueError, match=r"budget_seconds must be positive, got -1\.0"):
        Runner(task, store, budget_seconds=-1.0, work=fakes.work)


def test_a_full_disk_ends_the_run_instead_of_failing_every_stage(task, store, pool) -> None:
    def fill(job: NodeJob) -> Record:
        if job.sequence.order == "DP":
            raise OSError(28, "No space left on device")
        return fakes.work(job)

    runner = Runner(task, store, workers=1, executor=pool, work=fill)
    told = []
    with pytest.raises(DiskFullError, match=r"took no more results .*make room and run again"):
        told.extend(runner.run(requests("DPQ", "QD")))
    assert "QD 0" not in calls(task)
