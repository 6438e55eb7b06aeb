"""Files that a user names to be written: nothing else is replaced, whatever it is."""

import os
from pathlib import Path

import pytest
from tiny_networks import tiny_network

from ordercomp.cli.main import main

COMMANDS = {
    "compress": (["compress", "Q", "--task", "digits", "--out"], "--out"),
    "packed": (["export", "net", "--packed"], "--packed"),
    "onnx": (["export", "net", "--onnx"], "--onnx"),
}
PLACES = {
    "a task": ("mine.toml", b'model = "resnet8"\n'),
    "trained weights": ("trained.pt", b"PK\x03\x04"),
    "a folder": ("", None),
    "a missing folder": ("nowhere/net.safetensors", None),
    "a pipe": ("pipe", None),
    "colors": ("\x1b[31mred.toml", b""),
}


def refusal(command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(command)
    told = capfd.readouterr().err
    assert (caught.value.code, told.count("\n"), "\x1b" in told) == (2, 1, False)
    return told


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_network_is_not_replaced(
    command: str,
    place: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_network().save("net")
    name, content = PLACES[place]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    if place == "a pipe":
        os.mkfifo(path)
    words, option = COMMANDS[command]
    assert f"{option} must " in refusal([*words, str(path)], capfd) or place == "a pipe"
    assert content is None or path.read_bytes() == content
    assert path.is_fifo() == (place == "a pipe")


@pytest.mark.parametrize("command", ["compress", "packed"])
def test_tensors_of_others_are_not_replaced(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_network().save("net")
    Path("trained.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # a sound file of no tensors
    words, option = COMMANDS[command]
    told = refusal([*words, "trained.safetensors"], capfd)
    assert f"{option} must be a new file or one that ordercomp wrote, got trained.safetensors" in told


@pytest.mark.integration
def test_a_packed_network_replaces_an_older_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_network().save(tmp_path / "net")
    for _ in range(2):
        with pytest.raises(SystemExit, match="0"):
            main(["export", str(tmp_path / "net"), "--packed", str(tmp_path / "small.packed")])
        assert "load_network reads it" in capfd.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [["init"], ["search", "--trials", "1", "--out"], ["discover", "--out"], ["study", "single", "--out"]],
)
def test_a_file_in_the_place_of_a_folder_is_left(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("search", "discover"):
        monkeypatch.setattr(f"ordercomp.jobs.{job}.check_task", lambda task: None)
    monkeypatch.setattr("ordercomp.studies.run.check_task", lambda task: None)
    path = tmp_path / "mine.toml"
    path.write_text("keep")
    assert "folder" in refusal([*command, str(path)], capfd)
    assert path.read_text() == "keep"
