"""One state per node: allowed moves, needed networks, and every request finished whatever is evicted."""

import tempfile
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordercomp.records import Record
from ordercomp.running.graph import TRANSITIONS, Graph, State
from ordercomp.running.jobs import Finished, NodeJob, Request, job_chain
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.sequence import StageSequence
from tests import fakes
from tests.fakes import FakeTask, calls


class AtOnce(Executor):
    """Does the work while it is submitted."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def request(text: str, seed: int = 0) -> Request:
    return Request(StageSequence.parse(text), seed)


def learn_from_the_baseline(job: NodeJob) -> Record:
    """Like the fake work, but K and teacher=baseline load the baseline's network."""
    last = job.sequence.steps[-1:]
    if any(step.stage == "K" or step.settings.get("teacher") == "baseline" for step in last):
        baseline = job_chain(job.task, Request(job.sequence, job.seed), job.store_root)[0]
        Store(job.store_root).network_path(baseline.key).read_text()
    return fakes.work(job)


def run(folder: Path, requests: list[Request], *, cap: int, work: Any) -> tuple[list[Finished], FakeTask]:
    task = FakeTask(folder / "calls")
    store = Store(folder / "store", cap_bytes=cap)
    return list(Runner(task, store, executor=AtOnce(), work=work).run(requests)), task


@pytest.mark.parametrize("text", ["D P K", "D P(teacher=baseline) Q(teacher=baseline)", "K K D K"])
def test_stages_that_learn_from_the_baseline_find_it_in_a_small_store(tmp_path: Path, text: str) -> None:
    finished, task = run(tmp_path, [request(text)], cap=0, work=learn_from_the_baseline)
    assert [item.record.error for item in finished] == [None] * len(StageSequence.parse(text))
    assert len(calls(task)) <= 2 * len(StageSequence.parse(text)) + 1


def test_an_evicted_baseline_is_trained_again_for_the_stage_that_learns_from_it(tmp_path: Path) -> None:
    first, task = run(tmp_path, [request("D P")], cap=2**30, work=learn_from_the_baseline)
    store = Store(tmp_path / "store")
    baseline = job_chain(task, request("D"), store.folder)[0]
    store.network_path(baseline.key).unlink()
    again, _ = run(tmp_path, [request("D P K")], cap=2**30, work=learn_from_the_baseline)
    assert [(item.record.order, item.record.error) for item in again] == [
        ("D", None),
        ("DP", None),
        ("DPK", None),
    ]
    assert calls(task)[3:] == ["- 0", "DPK 0"]
    assert len(first) == 2


def test_a_node_moves_only_where_the_table_says(tmp_path: Path) -> None:
    graph = Graph(FakeTask(tmp_path / "calls"), Store(tmp_path / "store"))
    graph.add(request("D"))
    baseline = graph.next_node()
    assert baseline is not None
    graph.start(baseline)
    with pytest.raises(AssertionError, match="running here to running elsewhere"):
        graph.leave_to_others(baseline)
    assert TRANSITIONS[State.FAILED] == TRANSITIONS[State.FAILED_FOR_NOW] == frozenset()
    assert set(TRANSITIONS) == set(State)


def test_what_is_finished_is_forgotten_but_never_told_twice(tmp_path: Path) -> None:
    task, store = FakeTask(tmp_path / "calls"), Store(tmp_path / "store")
    graph = Graph(task, store)
    told = []
    for text in ("D P", "D Q", "D P"):
        told += graph.add(request(text))
        while (node := graph.next_node()) is not None:
            graph.start(node)
            told += graph.finish(node, fakes.work(node.job), reused=False)
        assert graph.open_requests == 0
        assert not graph._nodes  # nothing is kept in memory
    assert [item.record.order for item in told] == ["D", "DP", "DQ"]
    assert calls(task) == ["- 0", "D 0", "DP 0", "DQ 0"]


TEXTS = st.lists(
    st.tuples(st.text("DPQK", min_size=1, max_size=4), st.integers(0, 1)), min_size=1, max_size=8
)


@pytest.mark.integration
@settings(max_examples=60)
@given(texts=TEXTS, cap=st.sampled_from([0, 4, 2**30]), bad=st.sampled_from(["", "P", "DP", "Q", "K"]))
def test_every_request_ends_once_whatever_fails_and_is_evicted(
    texts: list[tuple[str, int]], cap: int, bad: str
) -> None:
    def work(job: NodeJob) -> Record:
        if bad and job.sequence.order == bad:
            if job.seed:
                raise MemoryError("no memory left")
            record = fakes.make_record(job, error="the loss is not finite")
            Store(job.store_root).put(job.key, record)
            return record
        return learn_from_the_baseline(job)

    with tempfile.TemporaryDirectory() as folder:
        finished, _ = run(Path(folder), [request(text, seed) for text, seed in texts], cap=cap, work=work)
    wanted = {(text[: n + 1], seed) for text, seed in texts for n in range(len(text))}
    told = [(item.record.order, item.record.seed) for item in finished]
    assert sorted(told) == sorted(wanted)
    assert all(
        (order[:-1], seed) in told[:place] for place, (order, seed) in enumerate(told) if len(order) > 1
    )
    for item in finished:
        broken = bool(bad) and item.record.order.startswith(bad)
        assert (item.record.error is not None) == broken
        assert item.kept == (not broken or item.record.seed == 0)
