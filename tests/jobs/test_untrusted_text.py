"""Texts of a stranger's files: no command lets them steer the terminal."""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_record
from page_data import a_search, law_file
from program import run

from ordercomp.cli.main import COMMANDS
from ordercomp.codec import write_json
from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.records import write_records
from ordercomp.running.store import Store
from ordercomp.sequence import permutations

EVIL = "\x1b]0;mine\x07\u009b2J\u202e[link=http://x]y[/link]\r"
TASK = f"""
name = {json.dumps(EVIL)}
model = "resnet8(width=2)"
data = "digits"
stages = "PQ"
train_limit = 256
[recipe]
epochs = 4
batch_size = 32
learning_rate = 0.1
precision = "float32"
"""
CALLS: Mapping[str, tuple[str, ...]] = {
    "init": ("new",),
    "check": ("evil.toml",),
    "discover": ("evil.toml", "--out", "others"),
    "plan": ("evil.toml",),
    "cost": ("resnet8(width=2)", "P(ratio=0.3)"),
    "law": ("theirs",),
    "report": ("theirs",),
    "compress": ("P", "--task", "evil.toml", "--out", "mine.safetensors"),
    "export": ("evil.safetensors", "--packed", "mine.packed"),
    "bench": ("evil.safetensors", "--shares", EVIL),
    "search": ("evil.toml", "--out", "others"),
    "study": ("pairwise", "--out", "studied", "--task", "evil.toml", "--preset", "evil-preset.toml"),
    "store": ("ls", "theirs"),
    "rerun": ("theirs", "--line", "1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder, in which every text that is free steers the terminal."""
    folder = tmp_path_factory.mktemp("evil")
    theirs = folder / "theirs"
    said = {"notices": [EVIL], "hardware": EVIL, "task_source": EVIL, "versions": {EVIL: EVIL}}
    achieved = [{"step": EVIL, "notice": EVIL}]
    records = [
        make_record(order, seed, 0.98, task=EVIL, achieved=achieved, **said)
        for order in permutations("DPQ")
        for seed in range(3)
    ]
    store = Store(theirs / "store")
    store.put("a" * 64, records[0])
    write_records(theirs / "records.jsonl", [*records, make_record("Q", 5, task=EVIL, error=EVIL)])
    (folder / "others").mkdir()
    write_records(folder / "others" / "records.jsonl", [make_record("P", task=f"{EVIL}, another one")])
    write_json(theirs / "law.json", law_file())
    write_json(theirs / "search.json", replace(a_search(), task=EVIL, study=EVIL, dashboard=EVIL))
    (folder / "evil.toml").write_text(TASK)
    (folder / "evil-preset.toml").write_text(f"{json.dumps(EVIL)} = 1")
    network = CompressedNetwork.create("resnet8(width=2)", classes=2, channels=1, size=(8, 8))
    replace(network, serving=Serving(names=(EVIL, EVIL))).save(folder / "evil.safetensors")
    return folder


def test_every_command_is_tried() -> None:
    assert CALLS.keys() == {command.__name__ for command in COMMANDS}


@pytest.mark.integration
@pytest.mark.parametrize("command", CALLS)
def test_no_text_of_a_file_steers_the_terminal(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    status, out, err = run(capsys, command, *CALLS[command])
    assert status in (0, 1, 2)
    assert "Traceback" not in err
    assert {one for one in out + err if unicodedata.category(one).startswith("C")} <= {"\n", "\t"}
    if command not in ("init", "cost", "report", "compress", "export"):  # these show none
        assert "\\x1b]0;mine" in out + err
