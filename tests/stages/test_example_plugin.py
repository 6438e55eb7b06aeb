"""The example of a stage in a package of its own: found by its entry point, stored, counted, in any order."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_networks import apply, logits, tiny_network, tiny_trainer

from ordercomp.cli.main import main
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import CheckpointError
from ordercomp.plugins import stage_plugins
from ordercomp.records import read_records
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.catalog import known_stages
from ordercomp.testing import StageCheck, stage_checks

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "low_rank"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package on the path, with the metadata that an installation writes."""
    metadata = tmp_path / "site" / "ordercomp_low_rank-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ordercomp-low-rank\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[ordercomp.stages]\nX = ordercomp_low_rank:LowRank\n")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    known_stages.cache_clear()
    stage_plugins.cache_clear()
    yield
    known_stages.cache_clear()
    stage_plugins.cache_clear()


@pytest.mark.parametrize("order", ["X", "XP", "PX", "QX", "XQ", "DX", "XD", "EX", "XE", "DPXQE", "QXPED"])
def test_a_stage_that_changes_structure_is_stored_and_keeps_its_cost(order: str, tmp_path: Path) -> None:
    network = tiny_network()
    for letter in order:
        network = apply(letter, network, tiny_trainer(), **({"weights": 2} if letter == "Q" else {}))
    network.module.eval()
    network.save(tmp_path / "n")
    loaded = CompressedNetwork.load(tmp_path / "n")
    assert loaded.rebuilt == network.rebuilt
    assert measure_cost(loaded) == measure_cost(network)
    save_packed(network, tmp_path / "p")
    with torch.no_grad():
        packed = load_network(tmp_path / "p")(network.architecture.example(3))
    for one, two, three in zip(logits(network), logits(loaded), packed, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_a_network_whose_stage_is_not_installed_names_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = apply("X", tiny_network(), tiny_trainer())
    network.save(tmp_path / "n")
    save_packed(network, tmp_path / "p")
    monkeypatch.undo()  # takes the package away
    stage_plugins.cache_clear()
    for load, file in ((CompressedNetwork.load, "n"), (load_network, "p")):
        with pytest.raises(CheckpointError, match=rf"{file} .*: stage X made layers of it, and no installed"):
            load(tmp_path / file)


def test_the_full_rank_computes_what_the_convolution_computed() -> None:
    network = tiny_network()
    network.module.eval()
    full = apply("X", network, rank=1.0)
    for one, two in zip(logits(network), logits(full), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_cost_counts_it_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cost", "resnet14(width=8)", "X(rank=0.25)P", "--input", "1x8x8", "--json"])
    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out)["bitops_cr"] > 2


@pytest.mark.parametrize("order", [None, "", "P", "Q", "E", "DPQE", "QEDP"], ids=str)
def test_the_example_keeps_the_contract_of_stages(order: str | None) -> None:
    check = StageCheck(known_stages()["X"], order)
    assert check in stage_checks(known_stages()["X"])
    check()


TASK = """
model = "resnet8(width=4)"
data = "digits"
stages = "PX"
train_limit = 128

[recipe]
epochs = 0.1
batch_size = 64
precision = "float32"
"""


@pytest.mark.slow
def test_the_example_is_installed_by_pip_and_takes_part_in_discover(tmp_path: Path) -> None:
    """As a user would: pip writes the entry point, and a program that knows nothing of it finds X."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    options = [
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(tmp_path / "example")], check=True, timeout=300
    )
    (tmp_path / "mine.toml").write_text(TASK)
    path = os.pathsep.join([str(tmp_path / "site"), str(EXAMPLE.parents[1])])
    arguments = ["discover", "--task", "mine.toml", "--out", "out", "--budget", "none", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "ordercomp.cli.main", *arguments, "--seeds", "2", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = read_records(tmp_path / "out" / "records.jsonl")
    assert {"X", "PX", "XP"} <= {record.order for record in records}
    assert not [record.error for record in records if record.error]
    assert json.loads(done.stdout)["stages"] == "PX"
