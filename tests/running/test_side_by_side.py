"""Seeds of one sequence trained as one network: which are, what their records say, and that none is lost."""

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
import torch

from ordercomp.jobs.rerun import rerun
from ordercomp.records import Record
from ordercomp.running.jobs import NodeJob, Request
from ordercomp.running.node import SIDE_BY_SIDE
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.training import together as together_module
from ordercomp.training.recipe import Recipe
from ordercomp.training.together import seats
from tests import fakes
from tests.fakes import FakeTask, calls

beside: dict[tuple[str, int], int] = {}  # how many seeds each node was done with


def work(job: NodeJob) -> Record:
    beside[job.sequence.order, job.seed] = seats()
    return fakes.work(job)


def fail_beside_others(job: NodeJob) -> Record:
    if seats() > 1 and job.sequence.order == "D":
        raise RuntimeError("as if its shape did not fit")
    return work(job)


@pytest.fixture
def task(tmp_path: Path) -> FakeTask:
    beside.clear()
    return FakeTask(tmp_path / "calls")


def requests(*orders: str, seeds: int) -> list[Request]:
    return [Request(StageSequence.parse(order), seed) for order in orders for seed in range(seeds)]


def test_seeds_of_a_sequence_are_trained_together_and_each_is_yielded_once(task, store, pool) -> None:
    runner = Runner(task, store, workers=1, executor=pool, work=work, side_by_side=3)
    done = list(runner.run(requests("DP", "Q", seeds=3)))
    assert set(beside.values()) == {3}
    assert len(calls(task)) == len(set(calls(task))) == 12
    assert sorted((one.record.order, one.request.seed) for one in done) == [
        (order, seed) for order in ("D", "DP", "Q") for seed in range(3)
    ]
    assert (runner.trainings.done, runner.trainings.baselines) == (9, 3)


def test_seeds_are_not_put_together_where_a_worker_would_idle(task, store, pool) -> None:
    list(Runner(task, store, workers=2, executor=pool, work=work, side_by_side=2).run(requests("D", seeds=2)))
    assert set(beside.values()) == {1}


def test_unless_asked_for_nothing_is_trained_side_by_side(task, store, pool) -> None:
    list(Runner(task, store, workers=1, executor=pool, work=work).run(requests("D", seeds=2)))
    assert set(beside.values()) == {1}
    with pytest.raises(ValueError, match="side_by_side must be at least 1 seed, got 0"):
        Runner(task, store, side_by_side=0)


def test_seeds_without_a_record_are_trained_again_each_alone(task, store, pool) -> None:
    runner = Runner(task, store, workers=1, executor=pool, work=fail_beside_others, side_by_side=2)
    done = list(runner.run(requests("DP", seeds=2)))
    assert [{beside[order, seed] for seed in range(2)} for order in ("", "D")] == [{2}, {1}]
    assert not any(one.record.error for one in done)
    assert len(calls(task)) == 6


@pytest.mark.parametrize(("side_by_side", "read"), [(1, 1), (2, 3)])
def test_of_what_a_sampler_asks_for_only_the_seeds_of_a_sequence_are_read_ahead(
    task, store, pool, side_by_side: int, read: int
) -> None:
    """They end where another sequence comes, which is then read, too."""
    taken: list[Request] = []

    def asked() -> Iterator[Request]:
        for request in requests("D", "P", "Q", seeds=2):
            taken.append(request)
            yield request

    runner = Runner(task, store, workers=1, executor=pool, work=work, side_by_side=side_by_side)
    run = runner.run(asked(), lookahead=1)
    next(run)
    assert len(taken) == read
    run.close()


@pytest.mark.integration
def test_networks_of_twenty_seeds_are_as_good_side_by_side_as_alone(
    tmp_path: Path, pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one of them is trained again bit for bit."""
    torch.set_num_threads(1)
    monkeypatch.setattr(together_module, "_speedup", lambda *_things: 2.0)
    recipe = Recipe(epochs=2.0, batch_size=32, learning_rate=0.1, precision="float32")
    task = Task(name="tiny", model="resnet8(width=4)", data="digits", recipe=recipe, train_limit=128)
    wanted = [Request(task.sequence("Q"), seed) for seed in range(20)]
    found: dict[int, dict[tuple[str, int], Record]] = {}
    for count in (1, 4):
        runner = Runner(task, Store(tmp_path / str(count)), workers=1, executor=pool, side_by_side=count)
        found[count] = {(one.record.order, one.record.seed): one.record for one in runner.run(wanted)}
    assert all(SIDE_BY_SIDE not in record.extra for record in found[1].values())
    assert found[4]["Q", 5].extra[SIDE_BY_SIDE] == [[1, 4]] * 2
    gaps = np.array(
        [found[4][key].points[0].accuracy - record.points[0].accuracy for key, record in found[1].items()]
    )
    assert abs(gaps.mean()) < 3 * gaps.std() / len(gaps) ** 0.5 + 1e-3
    assert rerun(found[4]["Q", 5], task).differences == ()
