"""Files of strangers: whatever they hold, a reader ends with a result or with one documented error."""

import json
import lzma
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordercomp.analysis.results_table import read_results
from ordercomp.cli.main import main
from ordercomp.codec import read_json
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import CheckpointError, read_checkpoint
from ordercomp.records import RecordError, read_records, write_records
from ordercomp.running.record_log import RecordLog
from ordercomp.running.store import Store, find_damaged, list_entries
from ordercomp.running.task import Task, load_task
from ordercomp.studies.results import read_folder

ODD = ("9" * 400, "9" * 5000, "[" * 3000, "1e400", "NaN", "Infinity", "null", "", "\ufeff{}", "\x00")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RECORD = json.dumps(make_record("DP").to_json()).encode() + b"\n"
TOML = b'model = "resnet8(width=4)"\ndata = "digits"\n[recipe]\nepochs = 1\n[knobs.P]\nratio = 0.3\n'
CSV = b"order,seed,accuracy,reduction\n,0,0.9,1\nPQ,0,0.8,4\nQP,0,0.7,4\n"


def checkpoint(facts: str) -> bytes:
    header = json.dumps({"__metadata__": {"ordercomp": facts}}).encode()
    return struct.pack("<Q", len(header)) + header


READERS: dict[str, tuple[str, bytes, Callable[[Path], object], type[Exception]]] = {
    "records": ("records.jsonl", RECORD, read_records, RecordError),
    "xz": ("records.jsonl.xz", lzma.compress(RECORD), read_records, RecordError),
    "task": ("mine.toml", TOML, lambda path: load_task(str(path)), ValueError),
    "table": ("table.csv", CSV, read_results, ValueError),
    "checkpoint": ("net.safetensors", checkpoint('{"format": 1}'), read_checkpoint, CheckpointError),
}


@pytest.mark.integration
@pytest.mark.parametrize("kind", READERS)
@QUICK
@given(data=st.data())
def test_a_changed_file_is_read_or_refused_in_words(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    name, content, read, error = READERS[kind]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 8))
        piece = st.one_of(st.binary(max_size=8), st.sampled_from([one.encode() for one in ODD]))
        changed[start : start + length] = data.draw(piece)
    (tmp_path / name).write_bytes(changed)
    told = "read"
    try:
        read(tmp_path / name)
    except error as refused:
        told = str(refused)
    assert told


@pytest.mark.parametrize("text", ODD)
def test_odd_facts_of_a_network_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "net").write_bytes(checkpoint(text))
    with pytest.raises(CheckpointError, match="net"):
        read_checkpoint(tmp_path / "net")


@pytest.mark.parametrize(
    ("value", "reason"),
    [("9" * 5000, "limit"), ("[" * 3000, "nested too deeply"), ("[{y = 9999999999999999999}]", "beyond 64")],
)
def test_a_task_file_beyond_all_bounds_is_refused_with_its_name(
    tmp_path: Path, value: str, reason: str
) -> None:
    (tmp_path / "mine.toml").write_text(f"x = {value}")
    with pytest.raises(ValueError, match=rf"mine\.toml is no valid TOML: .*{reason}"):
        load_task(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("text", ["{", "[]", "3", *ODD])
def test_a_damaged_marker_of_an_experiment_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment.json").write_text(text)
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"experiment\.json"):
        read_folder(tmp_path)


def test_a_small_task_file_cannot_ask_for_all_memory() -> None:
    with pytest.raises(ValueError, match=r"resnet110\(width=4096\) has 112,.* parameters, .* GiB; .* has"):
        CompressedNetwork.create("resnet110(width=4096)", classes=10)


def test_a_small_network_file_cannot_ask_for_a_large_network(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    network = CompressedNetwork.create("resnet8(width=2)", classes=10, channels=1, size=(8, 8))
    replace(network, architecture=replace(network.architecture, model="vgg19(width=500)")).save(path)
    with pytest.raises(CheckpointError, match=r"names a network of .* MiB or more, its size allows"):
        CompressedNetwork.load(path)


def test_an_entry_of_the_store_without_end_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, text in enumerate(ODD):
        key = f"{number:064x}"
        (tmp_path / f"{key}.json").write_text(text)
        assert store.get(key) is None


def test_a_plain_task_still_loads(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(TOML)
    task = load_task(str(tmp_path / "mine.toml"))
    assert isinstance(task, Task)
    assert task.recipe.epochs == 1


@pytest.mark.parametrize("reduction", ["1e308", "1e-308", "0", "-1"])
def test_reductions_beyond_all_bounds_are_read_or_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reduction: str
) -> None:
    rows = [f"{order},{seed},0.8,{reduction}" for order in ("PQ", "QP") for seed in range(3)]
    baselines = [f",{seed},0.9,1" for seed in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(["order,seed,accuracy,reduction", *baselines, *rows]))
    with pytest.raises(SystemExit) as ended:
        main(["law", str(tmp_path / "t.csv")])
    told = capsys.readouterr().err
    assert ended.value.code in (0, 2)
    assert ended.value.code == 0 or told.startswith("ordercomp: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("kind", [*READERS, "json", "record log", "store"])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / READERS[kind][0] if kind in READERS else tmp_path / "pipe"
    os.mkfifo(path)
    if kind == "store":
        store = Store(tmp_path / "store")
        key = "a" * 64
        os.mkfifo(store.folder / f"{key}.json")
        os.mkfifo(store.network_path(key))
        assert store.get(key) is None
        assert list_entries(store) == find_damaged(store)[:0]
        return
    read = {"json": read_json, "record log": RecordLog}.get(kind) or READERS[kind][2]
    with pytest.raises((ValueError, OSError), match=str(path)):
        read(path)


def test_a_changed_digit_in_a_line_of_records_is_told(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [make_record("DP"), make_record("PD")])
    whole = path.read_bytes()
    assert whole.count(b'"checksum": "') == 2
    assert [record.to_json().keys() & {"checksum"} for record in read_records(path)] == [set(), set()]
    first = whole.index(b"0.")
    path.write_bytes(whole[: first + 2] + bytes([whole[first + 2] ^ 1]) + whole[first + 3 :])
    with pytest.raises(RecordError, match="line 1: its checksum says that it was damaged"):
        read_records(path)


def test_records_without_checksums_are_read(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(RECORD)
    assert read_records(tmp_path / "records.jsonl") == [make_record("DP")]


def test_an_error_that_quotes_a_file_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {**make_record("DP").to_json(), "order": "\x1b[2J\u009b"}
    (tmp_path / "records.jsonl").write_text(json.dumps(line))
    with pytest.raises(SystemExit):
        main(["law", str(tmp_path / "records.jsonl")])
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "\u009b" not in told
