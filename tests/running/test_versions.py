"""Versions of results: an upgrade keeps stored trainings, and a change of what a training makes is noticed.

The golden trainings of golden_results.json are repeated here. Where one differs, the room named first changed
what it makes: bump its number in RESULT_VERSIONS, then write the file anew with

    PYTHONPATH=tests python tests/running/test_versions.py
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeTask, calls, describe_origin
from tiny_networks import logits

from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Record
from ordercomp.running import jobs, versions
from ordercomp.running import store as care
from ordercomp.running.jobs import Request, former_keys, job_chain, key_of_record, node_key
from ordercomp.running.node import create_network, task_data, train_node
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.running.versions import RESULT_VERSIONS, code_version
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import STAGES
from ordercomp.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_results.json")
TASK = Task(
    name="golden",
    model="resnet14(width=4)",
    data="digits",
    recipe=Recipe(epochs=1.5, batch_size=32, learning_rate=0.05, precision="float32"),
    train_limit=96,
)
ORDERS = ("", *STAGES, "DPQE", "EDS")
TOLERANCE = 1e-3  # of a vector's length: what processors may differ in after a few steps
FORMER = "0.0.9+0123456789abcdef"
THREAD = ThreadPoolExecutor(1)


def project(values: torch.Tensor) -> list[float]:
    """Three numbers that tell a vector from others: its length, and its shadow on two random directions."""
    flat = values.detach().double().flatten().numpy()
    directions = np.random.default_rng(0).standard_normal((2, flat.size)) / flat.size**0.5
    return [float(np.linalg.norm(flat)), *(float(one) for one in directions @ flat)]


def weights(network: CompressedNetwork) -> torch.Tensor:
    state = sorted(network.module.state_dict().items())
    return torch.cat([value.flatten().double() for _, value in state if value.is_floating_point()])


def golden_results() -> dict[str, dict[str, list[float]]]:
    """By room, in the order in which a change shows first, what a few tiny trainings come out with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data, start = task_data(TASK, 0), create_network(TASK, seed=0)
    records, networks = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for order in ORDERS:
            sequence = TASK.sequence(order) if order else StageSequence()
            for job in job_chain(TASK, Request(sequence, 0), Path(folder)):
                store = Store(folder)
                records[order] = store.get(job.key) or train_node(job)
            networks[order] = CompressedNetwork.load(store.network_path(job.key))
    torch.set_num_threads(before)
    names = ("resnet8(width=4)", "vgg8(width=8)", "mobilenet_v2(width=0.5)")
    models = {name: CompressedNetwork.create(name, classes=10, channels=3, size=(32, 32)) for name in names}
    return {
        "data": {"images": project(data.train.images), "labels": project(data.train.labels)},
        "models": {name: project(weights(network)) for name, network in models.items()},
        "training": {"baseline": project(weights(networks[""]) - weights(start))},
        "stages": {order: project(weights(networks[order])) for order in ORDERS[1:]},
        "networks": {"logits": project(logits(networks["DPQE"])[-1])},
        "measuring": {order: measured(record) for order, record in records.items()},
    }


def measured(record: Record) -> list[float]:
    """The mean over the operating points of what is measured of each."""
    points = [(p.accuracy, p.test_accuracy, np.log2(p.bitops_cr), np.log2(p.cr)) for p in record.points]
    return [float(one) for one in np.mean(points, axis=0)]


@pytest.mark.integration
def test_a_golden_training_that_changes_names_the_version_to_bump() -> None:
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    now = golden_results()
    assert list(now) == list(kept["results"])
    for room, values in now.items():
        for name, numbers in values.items():
            golden = kept["results"][room][name]
            # an accuracy is of a few hundred images, some of which are near the border
            slack = 0.02 if room == "measuring" else TOLERANCE * max(1.0, abs(golden[0]))
            assert numbers == pytest.approx(golden, rel=0, abs=slack), (
                f"{room}, {name}: trainings come out differently. If that is meant, raise "
                f"RESULT_VERSIONS[{room!r}] in ordercomp/running/versions.py, so that stored results are "
                f"made again, and run: PYTHONPATH=tests python tests/running/test_versions.py"
            )
    assert kept["versions"] == dict(RESULT_VERSIONS), (
        "run: PYTHONPATH=tests python tests/running/test_versions.py"
    )


@pytest.mark.integration
def test_an_edit_to_any_module_leaves_every_key(tmp_path: Path) -> None:
    """What shapes a training is told by declared versions, so that no edit alone makes a store worthless."""
    package = tmp_path / "ordercomp"
    shutil.copytree(ROOT / "ordercomp", package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    edited = [path for path in package.rglob("*.py") if path.parent.name != "templates"]
    for path in edited:
        path.write_text(
            path.read_text(encoding="utf-8") + "\n\n# an edit\n_EDITED = True\n", encoding="utf-8"
        )
    program = (
        "from ordercomp.running import jobs, node\nfrom ordercomp.sequence import StageSequence\n"
        "assert jobs._EDITED and node._EDITED\n"
        "print(jobs.node_key('task', StageSequence.parse('D(depth=0.5) P(ratio=0.4)'), 3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = node_key("task", StageSequence.parse("D(depth=0.5) P(ratio=0.4)"), 3)
    assert (done.stderr, done.stdout.strip()) == ("", expected)
    assert len(edited) > 100


@pytest.mark.parametrize("room", RESULT_VERSIONS)
def test_a_version_that_is_raised_gives_every_node_another_key(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = node_key("task", StageSequence(), 0), code_version()
    monkeypatch.setattr(versions, "RESULT_VERSIONS", {**RESULT_VERSIONS, room: RESULT_VERSIONS[room] + 1})
    versions._own_version.cache_clear()
    try:
        assert node_key("task", StageSequence(), 0) != before
        assert code_version().partition("+")[0] == version.partition("+")[0]
    finally:
        versions._own_version.cache_clear()


def former_build(monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    """Let stores be written as a build that named results by a hash over its source did."""
    for module in (versions, jobs, care):
        if hasattr(module, "FORMER_BUILDS"):
            monkeypatch.setattr(module, "FORMER_BUILDS", (FORMER,))
    monkeypatch.setattr(versions, "_adopted", [build])


def runner_on(task: FakeTask, store: Store) -> Runner:
    return Runner(task, store, work=describe_build, executor=THREAD, workers=1)


def fill_as_former_build(
    task: FakeTask, store: Store, monkeypatch: pytest.MonkeyPatch, build: str
) -> list[Record]:
    with monkeypatch.context() as patch:
        former_build(patch, build)
        with runner_on(task, store) as runner:
            requests = [Request(StageSequence.parse(order), 0) for order in ("DP", "PD")]
            records = [finished.record for finished in runner.run(requests)]
    return records


def describe_build(job: jobs.NodeJob) -> Record:
    """A record as real trainings leave it: with its key and the version of the code."""
    record = describe_origin(job)
    record = replace(record, extra={**record.extra, "versions": {"ordercomp": code_version()}})
    store = Store(job.store_root)
    text = store.network_path(job.key).read_text()
    store.put(job.key, record, lambda path: _write(path, text))
    return record


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def test_results_of_a_former_build_that_still_hold_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task, store = FakeTask(tmp_path / "log"), Store(tmp_path / "store")
    former = fill_as_former_build(task, store, monkeypatch, FORMER)
    trained = calls(task)
    monkeypatch.setattr(jobs, "FORMER_BUILDS", (FORMER,))
    monkeypatch.setattr(care, "FORMER_BUILDS", (FORMER,))
    monkeypatch.setattr(versions, "FORMER_BUILDS", (FORMER,))
    with (
        caplog.at_level(logging.WARNING),
        Runner(task, store, work=describe_build, executor=THREAD, workers=1) as runner,
    ):
        requests = [Request(StageSequence.parse(order), 0) for order in ("DP", "PD")]
        found = list(runner.run(requests))
        network = runner.whole_network(former[0])
    assert calls(task) == trained  # nothing was trained again
    assert all(finished.reused for finished in found)
    assert sorted(map(str, (one.record.extra for one in found))) == sorted(str(one.extra) for one in former)
    assert "5 results of a former version are used" in caplog.text  # four nodes and the baseline
    assert network is not None
    assert network.read_text() == former[0].sequence
    caplog.clear()
    with (
        caplog.at_level(logging.WARNING),
        Runner(task, store, work=describe_build, executor=THREAD, workers=1) as runner,
    ):
        assert len([*runner.run(requests)]) == 4
    assert caplog.text == ""  # told once


def test_results_of_other_builds_are_left_where_they_are_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task, store = FakeTask(tmp_path / "log"), Store(tmp_path / "store")
    fill_as_former_build(task, store, monkeypatch, "0.0.8+unknown")
    before = {path.name for path in store.folder.glob("*.*")}
    with (
        caplog.at_level(logging.WARNING),
        Runner(task, store, work=describe_build, executor=THREAD, workers=1) as runner,
    ):
        assert not any(one.reused for one in runner.run([Request(StageSequence.parse("DP"), 0)]))
    assert "5 stored results are of a version that made others; they are left unused" in caplog.text
    assert before <= {path.name for path in store.folder.glob("*.*")}


def test_the_key_of_a_record_of_a_former_build_is_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "FORMER_BUILDS", (FORMER,))
    sequence = StageSequence.parse("DP")
    record = Record.from_json(
        {
            "order": "DP",
            "sequence": str(sequence),
            "task": "t",
            "seed": 1,
            "epochs": 1.0,
            "seconds": 1.0,
            "baseline": {"accuracy": 0.9, "test_accuracy": 0.9},
            "points": [],
            "digest": former_keys("task", sequence, 1)[0],
        }
    )
    assert key_of_record("task", record) == node_key("task", sequence, 1)
    assert key_of_record("other task", record) == record.extra["digest"]
    assert key_of_record("task", replace(record, extra={})) is None


if __name__ == "__main__":
    content = {"versions": dict(RESULT_VERSIONS), "results": golden_results()}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
