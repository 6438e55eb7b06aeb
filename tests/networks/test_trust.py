"""What a file may have called: functions that the user trusts, and nothing of installed modules."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import make_record
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_networks import apply, tiny_network
from torch import nn

from ordercomp import plugins
from ordercomp.cli.main import main
from ordercomp.jobs.rerun import named_task
from ordercomp.models.catalog import build_model
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import CheckpointError, bounded
from ordercomp.records import write_records
from ordercomp.shipping.packed import load_network, save_packed

called: list[str] = []
HERE = f"{__name__}:flagged"


def flagged(*, classes: int, channels: int) -> nn.Module:
    """A model that tells that it was called."""
    called.append("model")
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    called.clear()


LOADERS: dict[str, Callable[..., object]] = {"save": CompressedNetwork.load, "pack": load_network}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    network = tiny_network(HERE)
    network.save(tmp_path / "save")
    save_packed(network, tmp_path / "pack")
    called.clear()
    return {kind: tmp_path / kind for kind in LOADERS}


def rename(path: Path, **changed: Any) -> None:
    """Change what a file says of its architecture."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["ordercomp"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts.pop("sha256")
    facts["architecture"].update(changed)
    save_file(tensors, path, metadata={"ordercomp": json.dumps(facts)})


@pytest.mark.parametrize("kind", LOADERS)
def test_a_function_is_called_only_if_it_is_trusted_or_named(kind: str, files: dict[str, Path]) -> None:
    for trust in ((), ("another:function",)):
        with pytest.raises(CheckpointError, match=f"add --trust-model {HERE} .in Python: trust="):
            LOADERS[kind](files[kind], trust=trust)
    assert called == []
    LOADERS[kind](files[kind], trust=[HERE])
    LOADERS[kind](files[kind], model=HERE)
    assert called


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    "name", ["os:getcwd", "torch.hub:load", "ordercomp.files:replace_file", "shutil:rmtree"]
)
def test_no_trust_lets_a_file_call_what_is_installed(kind: str, name: str, files: dict[str, Path]) -> None:
    rename(files[kind], model=name)
    with pytest.raises(CheckpointError, match=f"names '{name}', which a file may not call"):
        LOADERS[kind](files[kind], trust=[name])


def test_a_package_may_declare_its_models(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "is_installed", lambda path: True)
    with pytest.raises(CheckpointError, match="which a file may not call"):
        CompressedNetwork.load(files["save"], trust=[HERE])
    entry = EntryPoint("flagged", HERE, "ordercomp.models")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "ordercomp.models" else [])
    CompressedNetwork.load(files["save"], trust=[HERE])


@pytest.mark.parametrize("command", [["export", "--packed", "out"], ["bench"]])
def test_commands_ask_for_trust(
    command: list[str], files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = [str(tmp_path / word) if word == "out" else word for word in command]
    with pytest.raises(SystemExit) as ended:
        main([name, str(files["save"]), *options])
    assert ended.value.code == 2
    assert f"--trust-model {HERE}" in capsys.readouterr().err
    assert called == []


def test_export_takes_a_model_that_is_trusted(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(files["save"]), "--packed", str(tmp_path / "out"), "--trust-model", HERE])
    assert ended.value.code == 0
    assert called


@pytest.mark.parametrize("key", ["model", "data", "transforms"])
def test_a_record_cannot_have_the_functions_of_its_task_called(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"model": "resnet8", "data": "digits", key: HERE}
    path = tmp_path / "theirs.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in task.items()))
    record = replace(make_record("DP"), extra={"task_source": str(path)})
    write_records(tmp_path / "records.jsonl", [record])
    with pytest.raises(SystemExit) as ended:
        main(["rerun", str(tmp_path), "--line", "1"])
    assert ended.value.code == 2
    assert f"--trust-model {HERE}" in capsys.readouterr().err
    assert called == []
    assert getattr(named_task(record, trust=[HERE]), key) == HERE


def test_timm_reads_no_file_that_a_model_names() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="takes no checkpoint_path"):
        build_model("timm:resnet18(checkpoint_path=evil.pth)", classes=10)


@pytest.mark.integration
@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    "changed",
    [
        {"model": "resnet8(width=4096)"},
        {"model": "torchvision:vit_h_14", "channels": 3, "size": [224, 224]},
        {"size": [100_000, 100_000]},
        {"channels": 100_000_000},
        {"classes": 10**9},
        {"classes": 10**19},
    ],
)
def test_a_small_file_cannot_ask_for_much_memory(kind: str, changed: dict[str, Any], tmp_path: Path) -> None:
    network = apply("Q", tiny_network())
    {"save": network.save, "pack": lambda path: save_packed(network, path)}[kind](tmp_path / "net")
    rename(tmp_path / "net", **changed)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        LOADERS[kind](tmp_path / "net")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000 * (
        1024 if sys.platform == "darwin" else 1
    )


def test_a_wide_feature_map_is_refused_before_it_is_computed() -> None:
    with bounded("resnet8", 0), pytest.raises(RuntimeError, match="a feature map of"), torch.no_grad():
        nn.Conv2d(1, 512, 1)(torch.zeros(1, 1, 1, 1).expand(1, 1, 2000, 2000))
