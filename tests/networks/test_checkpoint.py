"""Network files: what is refused and how, and that a failure leaves nothing half-written."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_networks import apply, logits, tiny_network

from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import CheckpointError, read_checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with dropped blocks, pruned layers, exits and quantizers."""
    network = tiny_network()
    for letter in "DPEQ":
        network = apply(letter, network)
    path = tmp_path_factory.mktemp("saved") / "network.safetensors"
    network.save(path)
    return path


@pytest.fixture
def path(saved: Path, tmp_path: Path) -> Path:
    """A copy of the file to be damaged."""
    return Path(shutil.copy(saved, tmp_path / "network.safetensors"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *, drop: str | None = None) -> None:
    """Change the facts of a file, or drop one of its tensors."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["ordercomp"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
    facts.pop("sha256")
    change(facts)
    save_file(tensors, path, metadata={"ordercomp": json.dumps(facts)})


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        CompressedNetwork.load(path)
    assert isinstance(caught.value, ValueError)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"no network file at {tmp_path}/absent"):
        CompressedNetwork.load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=f"no network file at {tmp_path}"):
        CompressedNetwork.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not a network at all, just some text", b"\x80\x02}q\x00."])
def test_files_of_other_kinds_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "network").write_bytes(content)
    refused(tmp_path / "network", "is damaged or no safetensors file")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_truncated_files_are_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "is damaged or no safetensors file")


def test_a_damaged_header_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:40] = b"\xff" * 32
    path.write_bytes(content)
    refused(path, "is damaged or no safetensors file")


def test_safetensors_files_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "plain")
    refused(
        tmp_path / "plain", "holds tensors that ordercomp did not write; a task's `weights` may start from"
    )
    save_file({"weight": torch.ones(2)}, tmp_path / "other", metadata={"ordercomp": "[1]"})
    refused(tmp_path / "other", "was not written by this version of ordercomp")
    save_file({"weight": torch.ones(2)}, tmp_path / "broken", metadata={"ordercomp": "{"})
    refused(tmp_path / "broken", "is damaged or no safetensors file")


def test_another_format_is_refused(path: Path) -> None:
    rewrite(path, lambda facts: facts.update(format=99))
    refused(path, "was not written by this version of ordercomp")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts["architecture"].update(model="resnet8(width=4)"), "does not fit the model"),
        (lambda facts: facts["architecture"].update(model="vgg8(width=4)"), "does not fit the model"),
        (lambda facts: facts["architecture"].update(model="resnet14(width=1)"), "should have shape"),
        (lambda facts: facts["architecture"].update(model="resnet99"), "model must be one of"),
        (lambda facts: facts["architecture"].update(model="no_such_module:net"), "add --trust-model no_such"),
        (lambda facts: facts["architecture"].update(classes=11), "does not fit the model"),
        (lambda facts: facts["architecture"].update(size=[8]), "does not fit the model"),
        (lambda facts: facts["architecture"].pop("channels"), "does not fit the model"),
        (lambda facts: facts.pop("structure"), "'structure'"),
        (lambda facts: facts.update(lineage=[{"step": "nonsense"}]), "expected a stage letter"),
        (lambda facts: facts.update(lineage=[{"step": "", "epochs": 1, "achieved": {}}]), "does not fit"),
        (lambda facts: facts.update(bits=[1, 2, 3]), "does not fit the model"),
        (lambda facts: facts.update(bits=[-1, 4]), "bits of weights must be a whole number from 1 to 32"),
        (lambda facts: facts.update(bits=[2, "x"]), "bits of activations must be a whole number"),
        (lambda facts: facts["lineage"][0].update(epochs="x"), "could not convert string to float"),
        (lambda facts: facts["lineage"][0].update(epochs=-1), "must be finite and not negative, got -1.0"),
        (lambda facts: facts["structure"].update(dropped=["stages.9"]), "does not fit the model"),
        (lambda facts: facts["structure"]["quantized"].clear(), "does not fit the model"),
        (lambda facts: facts["structure"].update(quantized={"body.relu": [1, 1, False]}), "to be quantized"),
        (lambda facts: facts["structure"].update(exits=["nowhere"] * 2), "does not fit the model"),
    ],
)
def test_files_that_do_not_fit_their_model_are_refused(
    path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(path, change)
    refused(path, message)


def test_a_missing_tensor_is_named(path: Path) -> None:
    rewrite(path, lambda facts: None, drop="body.conv.weight")
    refused(path, "body.conv.weight")


def test_a_newer_file_may_hold_facts_that_are_not_known(path: Path, saved: Path) -> None:
    rewrite(path, lambda facts: facts.update(comment="later"))
    one, other = CompressedNetwork.load(path), CompressedNetwork.load(saved)
    assert all(torch.equal(first, second) for first, second in zip(logits(one), logits(other), strict=True))


def test_saving_replaces_an_older_file_and_leaves_nothing_beside_it(path: Path) -> None:
    tiny_network().save(path)
    assert CompressedNetwork.load(path).lineage == ()
    assert os.listdir(path.parent) == [path.name]


def test_a_failure_keeps_the_older_file_and_leaves_nothing_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail_halfway(draft: Path, content: bytes) -> None:
        draft.write_text("half")
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail_halfway)
    with pytest.raises(OSError, match=f"cannot write the network to {path}: .*no space left on device"):
        tiny_network().save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_network_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    tiny_network().save(tmp_path / "network")
    (tmp_path / "other").touch()
    assert (tmp_path / "network").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(draft: Path, content: bytes) -> None:
        draft.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_network().save(tmp_path / "network")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_os_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"cannot write the network to {tmp_path}/absent/network: ") as caught:
        tiny_network().save(tmp_path / "absent" / "network")
    assert "\n" not in str(caught.value)


def test_tensors_that_share_memory_or_are_not_contiguous_are_written_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    write_checkpoint(tmp_path / "file", {"all": base, "part": base[1:], "turned": base.T}, {"note": "ü"})
    tensors, facts = read_checkpoint(tmp_path / "file")
    assert facts["note"] == "ü"
    assert torch.equal(tensors["all"], base)
    assert torch.equal(tensors["part"], base[1:])
    assert torch.equal(tensors["turned"], base.T)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.97, 0.999])
def test_a_flipped_bit_is_told(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    refused(path, "is damaged or no safetensors file")
