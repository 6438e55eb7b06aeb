"""`ordercomp store`: listing, checking, making room."""

import json
from pathlib import Path

import pytest
from builders import make_record
from program import run

from ordercomp.cli.output import parse_size, size_text
from ordercomp.running.store import Store

KEY = "d" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store")
    store.put(KEY, make_record("DP"), lambda path: path.write_bytes(b"weights"))
    return tmp_path


def test_ls_tells_each_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "store", "ls", folder, "--json")
    (entry,) = json.loads(out)["entries"]
    assert (status, entry["key"], entry["network_bytes"]) == (0, KEY, 7)
    assert entry["sequence"] == "D(depth=0.5) P(ratio=0.4)"
    assert "1 results; networks take 7 B" in run(capsys, "store", "ls", folder)[1]


def test_verify_names_what_is_damaged_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "store", "verify", folder)[:2] == (0, "1 results are whole\n")
    (folder / "store" / f"{KEY}.safetensors").write_bytes(b"others!")
    status, out, err = run(capsys, "store", "verify", folder)
    assert (status, out) == (1, "0 results are whole\n")
    assert "1 results are damaged (dddddddddddd) and count as absent: the next run" in err


def test_gc_keeps_to_the_cap(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "freed 0 B: 0 networks" in run(capsys, "store", "gc", folder)[1]
    assert "freed 7 B: 1 networks beyond the cap" in run(capsys, "store", "gc", folder, "--cap", "6B")[1]
    assert Store(folder / "store").get(KEY) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "."), "action must be ls, verify or gc, got 'prune'"),
        (("ls", "/nowhere"), "/nowhere holds no store"),
        (("gc", ".", "--cap", "many"), "--cap must be a size such as 500MiB or 2GiB, got 'many'"),
    ],
)
def test_bad_input_is_told(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "store", *arguments)
    assert status == 2
    assert message in err


def test_sizes_are_read_and_told() -> None:
    assert [parse_size(text) for text in ("5", "1.5KiB", "20GiB")] == [5, 1536, 20 * 2**30]
    assert [size_text(size) for size in (0, 1536, 3 * 2**30)] == ["0 B", "1.5 KiB", "3.0 GiB"]
