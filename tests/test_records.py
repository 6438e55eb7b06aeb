"""Records as JSON lines: a golden line, torn and damaged files, errors with line numbers."""

import gzip
import hashlib
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import make_record

from ordercomp.records import (
    Baseline,
    OperatingPoint,
    Record,
    RecordError,
    append_record,
    read_records,
    record_rows,
    write_records,
)

GOLDEN = (
    '{"order": "DP", "sequence": "D(depth=0.5) P(ratio=0.4)", "task": "digits", "seed": 0, "epochs": 40.0, '
    '"seconds": 3.1, "baseline": {"accuracy": 0.98, "test_accuracy": 0.979}, "points": [{"threshold": null, '
    '"accuracy": 0.95, "test_accuracy": 0.948, "bitops_cr": 7.1, "cr": 6.5}]}'
)
RECORD = Record(
    order="DP",
    sequence="D(depth=0.5) P(ratio=0.4)",
    task="digits",
    seed=0,
    epochs=40.0,
    seconds=3.1,
    baseline=Baseline(accuracy=0.98, test_accuracy=0.979),
    points=(OperatingPoint(threshold=None, accuracy=0.95, test_accuracy=0.948, bitops_cr=7.1, cr=6.5),),
)


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(GOLDEN), **changes}


def test_the_line_of_a_record_stays_as_scripts_know_it(tmp_path: Path) -> None:
    append_record(tmp_path / "r.jsonl", RECORD)
    checksum = hashlib.sha256(GOLDEN[:-1].encode()).hexdigest()[:16]
    assert (tmp_path / "r.jsonl").read_text() == f'{GOLDEN[:-1]}, "checksum": "{checksum}"}}\n'
    assert read_records(tmp_path / "r.jsonl") == [RECORD]


def test_unknown_keys_are_kept_at_every_level() -> None:
    data = changed(parent="abc", versions={"torch": "2.13.0"}, error="the loss is not finite")
    data["baseline"]["macs"] = 5
    data["points"][0]["honest"] = {"cr": 3.0}
    record = Record.from_json(data)
    assert record.to_json() == data
    assert record.extra == {"parent": "abc", "versions": {"torch": "2.13.0"}}
    assert record.error == "the loss is not finite"
    assert record.baseline.extra == {"macs": 5}
    assert record.points[0].extra == {"honest": {"cr": 3.0}}


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_files_are_written_whole_and_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r.jsonl{suffix}"
    records = [replace(RECORD, seed=seed) for seed in range(20)]
    write_records(path, records[:3])
    write_records(path, records)
    assert read_records(path) == records
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    opened = {"": open, ".gz": gzip.open, ".xz": lzma.open}[suffix]
    with opened(path, "rt") as file:
        assert len(file.read().splitlines()) == 20


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(path, [RECORD])
    with pytest.raises(ValueError, match="JSON"):
        write_records(path, [replace(RECORD, extra={"speed": float("nan")})])
    assert read_records(path) == [RECORD]
    assert [found.name for found in tmp_path.iterdir()] == ["r.jsonl"]


def test_every_cut_of_the_last_line_is_told_tolerated_and_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "r.jsonl", replace(RECORD, seed=1, task="Größe")
    first, second = (
        json.dumps(one.to_json(), ensure_ascii=False).encode() + b"\n" for one in (RECORD, other)
    )
    for length in [*range(0, len(second) - 20, 9), *range(len(second) - 20, len(second) + 1)]:
        path.write_bytes(first + second[:length])
        whole = length >= len(second) - 1  # only the newline is missing
        assert read_records(path) == ([RECORD, other] if whole else [RECORD])
        told = f"{path}: its last line is incomplete and was left out"
        assert caplog.messages == ([told] if length > 0 and not whole else [])
        caplog.clear()
        append_record(path, replace(RECORD, seed=2))
        assert [record.seed for record in read_records(path)] == ([0, 1, 2] if whole else [0, 2])


def test_an_empty_file_holds_no_records_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("")
    assert read_records(path) == []
    path.write_text(f"\n{GOLDEN}\r\n\n  \n{GOLDEN}")
    assert read_records(path) == [RECORD, RECORD]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"order": "D"', "not valid JSON at column 14"),
        ("[1]", "expected a JSON object, got list"),
        (json.dumps(changed(seed="0")), "record key 'seed' must be a whole number, got '0'"),
        (json.dumps(changed(seed=True)), "record key 'seed' must be a whole number, got True"),
        (json.dumps(changed(epochs=None)), "record key 'epochs' must be a number, got None"),
        (json.dumps(changed(epochs=float("nan"))), "key 'epochs' must be finite, got nan"),
        (json.dumps(changed(error=5)), "record key 'error' must be text or null, got 5"),
        (json.dumps(changed(epochs=10**400)), "record key 'epochs' must be finite, got 1000"),
        (json.dumps(changed(seed=-1)), "record key 'seed' must not be negative, got -1"),
        (json.dumps(changed(sequence="P(((")), "record key 'sequence' cannot be read: unclosed or nested"),
        (json.dumps(changed(order="QP")), "record key 'order' must be that of the sequence, '"),
        (
            json.dumps(changed(versions={"speed": float("inf")})),
            "key 'versions.speed' must be finite, got inf",
        ),
        (json.dumps(changed(speeds=[1, float("nan")])), r"key 'speeds\[1\]' must be finite, got nan"),
        (GOLDEN.replace("3.1", "1e999"), "key 'seconds' must be finite, got inf"),
        (GOLDEN.replace("3.1", "1" * 5000), "not valid JSON: Exceeds the limit"),
        (json.dumps(changed(points={"threshold": None})), "record key 'points' must be a list, got"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        (json.dumps(changed(baseline={"accuracy": 0.9})), "record baseline lacks the key 'test_accuracy'"),
        (json.dumps(changed(points=[3])), "record points\\[0\\] must be a table of settings, got 3"),
        (json.dumps(changed(points=[{"threshold": 0.5}])), "record points\\[0\\] lacks the key 'accuracy'"),
        (
            json.dumps(changed(baseline={"accuracy": 98.0, "test_accuracy": 0.9})),
            r"baseline key 'accuracy' must be a fraction in \[0, 1\], got 98.0",
        ),
        (
            json.dumps(changed(points=[{**changed()["points"][0], "cr": 0.0}])),
            "point key 'cr' must be positive, got 0.0",
        ),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f"{GOLDEN}\n{line}\n{GOLDEN}\n")
    with pytest.raises(RecordError, match=rf"r\.jsonl, line 2: {problem}"):
        read_records(path)


@pytest.mark.parametrize("key", list(json.loads(GOLDEN)))
def test_every_missing_key_is_named_with_its_line(tmp_path: Path, key: str) -> None:
    data = changed()
    del data[key]
    (tmp_path / "r.jsonl").write_text(json.dumps(data) + "\n")
    with pytest.raises(RecordError, match=f"line 1: record lacks the key '{key}'"):
        read_records(tmp_path / "r.jsonl")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b"\xff\xfe\n" + GOLDEN.encode())
    with pytest.raises(RecordError, match="line 1: not valid UTF-8"):
        read_records(tmp_path / "r.jsonl")


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_damaged_compressed_file_is_named_and_none_is_appended_to(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r.jsonl{suffix}"
    write_records(path, [replace(RECORD, seed=seed) for seed in range(50)])
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"plain text\n"):
        path.write_bytes(content)
        with pytest.raises(RecordError, match="is damaged or not compressed as its name says"):
            read_records(path)
    with pytest.raises(ValueError, match="path must be an uncompressed file to append to"):
        append_record(path, RECORD)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"notices": 3}, "key 'notices' must be a list, got 3"),
        ({"notices": [3]}, r"key 'notices\[0\]' must be text, got 3"),
        ({"achieved": None}, "key 'achieved' must be a list, got None"),
        ({"achieved": [{"step": "P", "notice": []}]}, r"key 'achieved\[0\].notice' must be text"),
        ({"achieved": [{"notice": "x"}]}, "step"),
    ],
)
def test_extra_keys_that_a_page_shows_are_checked(extra: dict[str, object], told: str) -> None:
    with pytest.raises(RecordError, match=told):
        Record.from_json({**make_record("DP").to_json(), **extra})


def test_each_point_is_a_flat_row_and_a_failure_is_one_too() -> None:
    early = replace(RECORD.points[0], threshold=0.9, bitops_cr=9.0)
    failed = replace(RECORD, order="P", points=(), error="it diverged")
    rows = record_rows([replace(RECORD, points=(*RECORD.points, early)), failed])
    assert [(row["order"], row["threshold"], row["bitops_cr"], row["error"]) for row in rows] == [
        ("DP", None, 7.1, None),
        ("DP", 0.9, 9.0, None),
        ("P", None, None, "it diverged"),
    ]
    assert {row["baseline_test_accuracy"] for row in rows} == {0.979}
    assert all(list(row) == list(rows[0]) for row in rows)
