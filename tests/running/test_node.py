"""Training one node of the trie: its record, its network in the store, and what happens when it fails."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_networks import logits
from traced_once import traced_once

from ordercomp.errors import FailedRunError
from ordercomp.jobs.check import check_task
from ordercomp.measuring.accuracy import accuracy
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Record
from ordercomp.running import node, versions
from ordercomp.running import store as store_module
from ordercomp.running.jobs import NodeJob, Request, node_key
from ordercomp.running.node import create_network, make_trainer, task_data, train_node
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.running.versions import StaleCodeError
from ordercomp.sequence import StageSequence
from ordercomp.training.fit import DivergedError
from ordercomp.training.recipe import Recipe

pytestmark = pytest.mark.integration

__all__ = ["traced_once"]

TINY = Task(
    name="tiny",
    model="resnet14(width=4)",
    data="digits",
    recipe=Recipe(epochs=0.5, batch_size=32, learning_rate=0.05, precision="float32"),
    train_limit=64,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TIMED = replace(TINY, cost="latency")


def job(order: str, folder: Path, task: Task = TINY, *, seed: int = 0) -> NodeJob:
    sequence = task.sequence(order) if order else StageSequence()
    parent = StageSequence(sequence.steps[:-1])
    return NodeJob(
        task=task,
        sequence=sequence,
        seed=seed,
        key=node_key(task.digest, sequence, seed),
        parent_key=node_key(task.digest, parent, seed) if order else None,
        store_root=folder,
    )


def train(order: str, folder: Path, task: Task = TINY) -> Record:
    """Train every prefix of an order and return the last record."""
    records = [train_node(job(order[:length], folder, task)) for length in range(len(order) + 1)]
    return records[-1]


def network_of(order: str, folder: Path) -> CompressedNetwork:
    return CompressedNetwork.load(Store(folder).network_path(job(order, folder).key))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the prefixes of DPQE."""
    folder = tmp_path_factory.mktemp("store")
    train("DPQE", folder)
    return folder


def test_the_baseline_is_its_own_measure(folder: Path) -> None:
    record = Store(folder).get(job("", folder).key)
    assert record is not None
    assert (record.order, record.sequence, record.epochs) == ("", "", 0)
    (point,) = record.points
    assert (record.baseline.accuracy, record.baseline.test_accuracy) == (point.accuracy, point.test_accuracy)
    assert (point.bitops_cr, point.cr) == (1, 1)


def test_every_node_tells_its_sequence_costs_and_origin(folder: Path) -> None:
    seconds = 0.0
    for length in range(1, 5):
        order = "DPQE"[:length]
        record = Store(folder).get(job(order, folder).key)
        assert record is not None
        assert (record.order, record.sequence) == (order, str(TINY.sequence(order)))
        assert record.epochs == 0.5 * length
        assert record.extra["digest"] == job(order, folder).key
        assert record.extra["parent"] == job(order, folder).parent_key
        assert [step["step"] for step in record.extra["achieved"]] == record.sequence.split(" ")
        assert (folder.parent / record.extra["checkpoint"]).is_file()
        assert record.extra["cumulative_seconds"] > seconds
        seconds = record.extra["cumulative_seconds"]
        for name, reduction in (("paper", record.points[0].bitops_cr),):
            costs = record.extra["costs"][name]
            assert costs["baseline_bitops"] / costs["bitops"] == pytest.approx(reduction)
        assert Record.from_json(record.to_json()) == record


def test_the_network_in_the_store_has_the_accuracy_of_the_record(folder: Path) -> None:
    record = Store(folder).get(job("DPQ", folder).key)
    assert record is not None
    found = network_of("DPQ", folder)
    assert accuracy(found, task_data(TINY, 0).validation) == record.points[0].accuracy
    assert str(found.sequence) == record.sequence


def test_an_order_with_exits_has_several_points_and_the_full_run_first(folder: Path) -> None:
    record = Store(folder).get(job("DPQE", folder).key)
    assert record is not None
    assert record.points[0].threshold is None
    assert len(record.points) > 1
    assert all(len(point.extra["shares"]) == 3 for point in record.points)


def test_a_node_trained_again_elsewhere_is_the_same_network(folder: Path, tmp_path: Path) -> None:
    train("DP", tmp_path)
    first, again = network_of("DP", folder), network_of("DP", tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(logits(first), logits(again), strict=True))


def test_swapped_stages_share_their_random_numbers() -> None:
    """P in DP and P in PD draw the same batches: a paired comparison."""
    trainer = make_trainer(TINY, seed=3)
    assert trainer.for_stage("P1").seed == make_trainer(TINY, seed=3).for_stage("P1").seed
    assert trainer.for_stage("P1").seed != make_trainer(TINY, seed=4).for_stage("P1").seed


def test_recovery_learns_from_the_baseline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = []
    original = node.DataTrainer.train

    def watch(self: Any, network: CompressedNetwork, **settings: Any) -> float:
        teachers.append(settings.get("teacher"))
        return original(self, network, **settings)

    monkeypatch.setattr(node.DataTrainer, "train", watch)
    record = train_node(job("DK", folder))
    assert record.error is None
    assert teachers[-1].lineage == ()
    baseline = network_of("", folder)
    assert all(torch.equal(one, two) for one, two in zip(logits(teachers[-1]), logits(baseline), strict=True))


def failed(record: Record, folder: Path, order: str, message: str, task: Task = TINY) -> None:
    assert record.points == ()
    assert record.error is not None
    assert message in record.error
    assert "\n" not in record.error
    stored = Store(folder).get(job(order, folder, task).key)
    assert stored is not None
    assert stored.error == record.error
    assert not Store(folder).has_network(job(order, folder, task).key)
    assert record.baseline.accuracy > 0


def test_a_stage_that_diverges_leaves_a_record_with_its_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Any, network: CompressedNetwork, **_settings: Any) -> float:
        raise DivergedError("the training loss became nan within 1 of 2 steps")

    monkeypatch.setattr(node.DataTrainer, "train", diverge)
    record = train_node(job("DQ", folder))
    failed(record, folder, "DQ", "Q(weights=2,activations=4): the training loss became nan")


def test_a_network_that_gives_no_numbers_leaves_a_record_with_its_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: Any, network: CompressedNetwork, **_settings: Any) -> float:
        with torch.no_grad():
            network.module.body.classifier.bias.fill_(float("nan"))  # type: ignore[union-attr]
        return 1.0

    monkeypatch.setattr(node.DataTrainer, "train", spoil)
    failed(train_node(job("DF", folder)), folder, "DF", "images are no finite numbers")


def test_a_stage_that_does_not_fit_the_model_leaves_a_record_with_its_error(tmp_path: Path) -> None:
    flat = replace(TINY, model="user_nets:flat")
    record = train("D", tmp_path, flat)
    failed(record, tmp_path, "D", "D(depth=0.5): D(depth=0.5) found no droppable block", flat)


def test_the_runner_goes_on_beside_a_failed_stage(tmp_path: Path) -> None:
    """D cannot be applied to a flat model: orders that start with it fail, the others are measured."""
    flat = replace(TINY, model="user_nets:flat")
    requests = [Request(flat.sequence(order), 0) for order in ("DP", "PQ")]
    with ThreadPoolExecutor(1) as pool:
        runner = Runner(flat, Store(tmp_path), executor=pool, work=train_node)
        errors = {item.record.order: item.record.error for item in runner.run(requests)}
    assert set(errors) == {"D", "DP", "P", "PQ"}
    assert errors["P"] is errors["PQ"] is None
    assert "no droppable block" in str(errors["D"])
    assert "no droppable block" in str(errors["DP"])


def test_a_baseline_that_diverges_is_an_error_of_the_run(tmp_path: Path) -> None:
    wild = replace(TINY, model="user_nets:flat", recipe=Recipe(epochs=40, learning_rate=1e12))
    with pytest.raises(ValueError, match="cannot be trained on digits: the training loss became"):
        train_node(job("", tmp_path, wild))
    assert Store(tmp_path).get(job("", tmp_path, wild).key) is None


def test_the_seed_decides_split_and_weights() -> None:
    one, other = create_network(TINY, seed=0), create_network(TINY, seed=1)
    assert not torch.equal(next(one.module.parameters()), next(other.module.parameters()))
    assert not torch.equal(task_data(TINY, 0).train.labels, task_data(TINY, 1).train.labels)
    assert task_data(TINY, 1) is task_data(TINY, 1)


def test_a_worker_that_makes_other_results_trains_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "_adopted", ["0.1.0+before"])
    with pytest.raises(
        StaleCodeError,
        match=r"changed while a run went on.*it began with 0\.1\.0\+before, this worker has 0\.",
    ):
        train_node(job("DF", folder))
    assert issubclass(StaleCodeError, FailedRunError)  # ends the run, as no later worker can do better


def test_a_network_that_does_not_fit_is_removed_and_made_again(tmp_path: Path) -> None:
    train("D", tmp_path)
    key = job("D", tmp_path).key
    other = CompressedNetwork.create("user_nets:flat", classes=10, channels=1, size=(8, 8))
    other.save(Store(tmp_path).network_path(key))
    with pytest.raises(FileNotFoundError, match=r"was removed: .* it names 'user_nets:flat', not 'resnet14"):
        train_node(job("DP", tmp_path))
    assert Store(tmp_path).get(key) is None


def test_nothing_is_built_or_counted_twice_to_price_a_node(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("D", tmp_path)
    counted, opened = [], []
    count, fingerprint = node.measure_cost, store_module._fingerprint
    monkeypatch.setattr(node, "measure_cost", lambda network: counted.append(1) or count(network))
    monkeypatch.setattr(store_module, "_fingerprint", lambda path: opened.append(path) or fingerprint(path))
    train_node(job("DP", tmp_path))
    assert len(counted) == 1
    assert [path.suffix == ".part" for path in opened] == [True]  # only what was written


def test_a_lack_of_memory_is_no_lasting_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_short(self: Any, network: CompressedNetwork, **_settings: Any) -> float:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(node.DataTrainer, "train", run_short)
    for order in ("DK", ""):
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            train_node(job(order, folder, replace(TINY, train_limit=64)))


def test_a_node_alone_that_lacks_memory_takes_a_smaller_batch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, train_whole = [], node.DataTrainer.train

    def run_short(self: Any, network: CompressedNetwork, **settings: Any) -> float:
        sizes.append(self.recipe.batch_size)
        if self.recipe.batch_size > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_whole(self, network, **settings)

    monkeypatch.setattr(node.DataTrainer, "train", run_short)
    record = train_node(replace(job("", tmp_path), alone=True))
    assert sizes == [32, 16, 8]
    assert record.extra["batch_size"] == 8
    assert Store(tmp_path).get(job("", tmp_path).key) == record


def test_a_node_alone_that_fits_in_no_memory_fails_for_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_short(self: Any, network: CompressedNetwork, **_settings: Any) -> float:
        raise MemoryError

    monkeypatch.setattr(node.DataTrainer, "train", run_short)
    with pytest.raises(MemoryError, match="memory was short at batches of 32 to 8: MemoryError"):
        train_node(replace(job("DQ", folder, replace(TINY, train_limit=64)), alone=True))


def test_where_latency_is_the_cost_every_point_tells_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    for order in ("", "Q", "QE"):
        record = train_node(job(order, tmp_path, TIMED))
        told = record.extra["latency"]
        assert record.points
        assert len(told["exits_ms"]) == len(record.points[0].extra["shares"])
        for point in record.points:
            expected = sum(
                share * ms for share, ms in zip(point.extra["shares"], told["exits_ms"], strict=True)
            )
            assert point.extra["latency_ms"] == pytest.approx(expected)
            assert point.extra["latency_cr"] == pytest.approx(told["baseline_ms"] / expected)


def test_latency_without_the_extra_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ordercomp.shipping.latency", None)
    with pytest.raises(ValueError, match=r"needs the extra: pip install 'ordercomp\[export\]'"):
        train_node(job("", tmp_path, TIMED))
    with pytest.raises(ValueError, match="needs the extra"):
        check_task(TIMED)
    assert list(tmp_path.iterdir()) == []
