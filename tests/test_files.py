"""Whole files: drafts of one's own, links that stay, and strangers' files that do not fill the memory."""

import gzip
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ordercomp.files import is_digest, read_bytes, replace_file, replacing
from ordercomp.jobs.recordings import load_recorded
from ordercomp.records import RecordError, append_record, read_records
from ordercomp.running.record_log import RecordLog
from ordercomp.search.study import open_storage


def test_a_block_that_fails_leaves_the_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("before")
    with pytest.raises(FileNotFoundError), replacing(path) as draft:
        draft.joinpath("half").write_text("there is no such folder")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("of a stranger")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    replace_file(tmp_path / "link", "mine")
    assert (tmp_path / "target").read_text() == "of a stranger"
    assert (tmp_path / "link").read_text() == "mine"
    assert not (tmp_path / "link").is_symlink()


def _append(path: Path) -> None:
    append_record(path, load_recorded("digits")[0])


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe, a device or a socket"):
        replace_file(path, "mine")
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "write"), [("records.jsonl", RecordLog), ("records.jsonl", _append), ("study.db", open_storage)]
)
def test_a_link_is_not_written_through(tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    (tmp_path / "target").write_text("of a stranger")
    (tmp_path / name).symlink_to(tmp_path / "target")
    with pytest.raises(ValueError, match=rf"{name} is a link to .*target, and links are not written through"):
        write(tmp_path / name)
    assert (tmp_path / "target").read_text() == "of a stranger"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((name, "target"))


@pytest.mark.integration
@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_small_file_that_becomes_huge_is_refused_early(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r.jsonl{suffix}"
    with gzip.open(path, "wb") if suffix == ".gz" else lzma.open(path, "wb", preset=0) as file:
        for _ in range(200):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(RecordError, match=r"holds more than \d+ bytes; decompress it first"):
        read_records(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_flipped_bytes_in_a_compressed_file_are_a_clear_error(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"r{suffix}", random.Random(0)
    text = bytes(rng.randrange(40) for _ in range(3000))
    whole = (gzip.compress if suffix == ".gz" else lzma.compress)(text)
    problems = set()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert read_bytes(path) == text  # a field that says nothing of the content
        except ValueError as error:
            problems.add(str(error).partition(":")[0])
    assert problems == {f"{path} is damaged or not compressed as its name says"}


def test_only_whole_digests_may_name_files() -> None:
    assert is_digest("0123456789abcdef" * 4)
    for text in ("", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 63 + "/", "a" * 64 + "\n", 7, None):
        assert not is_digest(text)
