"""The store: atomic, verified, capped, safe between processes."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ordercomp.records import Record
from ordercomp.running.jobs import NodeJob, node_key
from ordercomp.running.store import Store, collect_garbage, find_store
from ordercomp.sequence import StageSequence
from tests.fakes import FakeTask, make_record

A, B, C, D, E = (letter * 64 for letter in "abcde")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "deep" / "store")


def record_of(order: str = "DP") -> Record:
    task = FakeTask(Path("unused"))
    return make_record(NodeJob(task, StageSequence.parse(order), 0, "k", None, Path("unused")))


def fill(store: Store, key: str, *, size: int = 10) -> None:
    store.put(key, record_of(), lambda path: _write(path, b"x" * size))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_what_was_put_comes_back(store: Store) -> None:
    assert store.get("a") is None
    fill(store, "a")
    assert store.get("a") == record_of()
    assert store.network_path("a").read_bytes() == b"x" * 10
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "a.json",
        "a.safetensors",
        "locks",
        "ordercomp-store",
    ]


def test_a_failed_stage_has_a_record_and_no_network(store: Store) -> None:
    store.put("a", record_of())
    assert store.get("a") == record_of()
    assert not store.has_network("a")


def test_a_network_that_cannot_be_written_leaves_nothing(store: Store) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.put("a", record_of(), fail)
    assert store.get("a") is None
    assert sorted(path.name for path in store.folder.iterdir()) == ["locks", "ordercomp-store"]


@pytest.mark.parametrize("name", ["a.json", "a.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "bytes"])
def test_a_damaged_entry_counts_as_absent_until_it_is_replaced(store: Store, name: str, damage: str) -> None:
    fill(store, "a", size=1000)
    path = store.folder / name
    content = path.read_bytes()
    flipped = content[:50] + bytes([content[50] ^ 1]) + content[51:]
    path.write_bytes({"cut": content[:-7], "flip": flipped, "empty": b"", "bytes": b"\xff\xfe\x00"}[damage])
    assert store.get("a") is None
    fill(store, "a")
    assert store.get("a") == record_of()


def test_an_entry_under_another_key_is_foreign(store: Store) -> None:
    fill(store, "a")
    (store.folder / "a.json").rename(store.folder / "b.json")
    assert store.get("b") is None


def test_an_entry_with_a_changed_result_is_damaged(store: Store) -> None:
    fill(store, "a")
    entry = json.loads((store.folder / "a.json").read_text())
    entry["record"]["epochs"] = 99.0
    (store.folder / "a.json").write_text(json.dumps(entry))
    assert store.get("a") is None


def test_eviction_takes_the_longest_unused_networks_and_no_records(tmp_path: Path) -> None:
    store = Store(tmp_path, cap_bytes=250)
    for age, key in enumerate([D, C, B, A]):  # A is the oldest
        fill(store, key, size=100)
        os.utime(store.network_path(key), (1000 - age, 1000 - age))
    store.touch(A)
    assert store.evict(keep={B}) == [C, D]
    assert [key for key in (A, B, C, D) if store.has_network(key)] == [A, B]
    assert all(store.get(key) == record_of() for key in (A, B, C, D))
    assert store.evict(keep={B}) == []


def test_protected_networks_stay_even_above_the_cap(tmp_path: Path) -> None:
    store = Store(tmp_path, cap_bytes=0)
    fill(store, A)
    assert store.evict(keep={A}) == []
    assert store.has_network(A)


def test_what_no_digest_proves_ours_is_never_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", cap_bytes=0)
    for key in (A, B, C):
        fill(store, key)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    store.network_path(B).write_bytes(b"of the user")
    store.network_path(C).unlink()
    store.network_path(C).symlink_to(tmp_path / "model.safetensors")
    store.network_path(D).write_bytes(b"left without a record")
    (store.folder / "model.safetensors").write_bytes(b"mine")
    (store.folder / "locks" / "film.lock").write_bytes(b"mine")
    (store.folder / "locks" / f"{E}.lock").symlink_to(tmp_path / "model.safetensors")
    names = sorted(path.name for path in store.folder.rglob("*"))
    freed = collect_garbage(store)
    assert (freed.evicted, freed.unfinished) == (1, 0)
    assert sorted({*names} - {path.name for path in store.folder.rglob("*")})[0] == f"{A}.safetensors"
    assert (tmp_path / "model.safetensors").read_bytes() == b"x" * 10
    assert (store.folder / "locks" / "film.lock").read_bytes() == b"mine"
    assert (store.folder / "locks" / f"{E}.lock").is_symlink()


def test_a_folder_of_other_files_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "resnet.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"is no store of ours, it holds resnet\.safetensors; choose a new"):
        Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["resnet.safetensors"]


def test_a_store_of_a_former_version_gets_the_marker(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / f"{A}.json").write_text("{}")
    assert find_store(tmp_path).get(A) is None
    assert not (tmp_path / "ordercomp-store").exists()  # looking writes nothing
    Store(tmp_path)
    assert (tmp_path / "ordercomp-store").is_file()


def test_links_in_the_place_of_a_store_are_not_cleaned(tmp_path: Path) -> None:
    Store(tmp_path / "theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "store").symlink_to(tmp_path / "theirs")
    with pytest.raises(ValueError, match="is a link to"):
        collect_garbage(find_store(tmp_path / "out"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "locks").symlink_to(tmp_path / "theirs" / "locks")
    with pytest.raises(ValueError, match="locks is a link to"):
        Store(tmp_path / "new")


def test_a_claim_excludes_others_until_it_is_released(store: Store) -> None:
    claim = store.claim("a")
    assert claim is not None
    assert Store(store.folder).claim("a") is None
    assert Store(store.folder).claim("b") is not None
    claim.release()
    assert Store(store.folder).claim("a") is not None


def _hold(folder: Path, told: Connection) -> None:
    claim = Store(folder).claim("a")
    told.send(claim is not None)
    time.sleep(60)


def test_a_claim_ends_with_a_killed_process(store: Store) -> None:
    fork = multiprocessing.get_context("fork")
    told, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_hold, args=(store.folder, theirs))
    process.start()
    assert told.recv() is True
    assert store.claim("a") is None
    process.kill()
    process.join()
    assert store.claim("a") is not None


def test_a_draft_is_no_network_and_is_gone_once_its_writer_is(store: Store) -> None:
    program = (
        "import os, signal, sys; from ordercomp.files import replacing; from pathlib import Path\n"
        "with replacing(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half'); print(draft, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(store.network_path("a"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        draft = Path(process.stdout.readline().strip())
        assert Store(store.folder, cap_bytes=0).evict() == []
        assert draft.exists()
        process.kill()
    Store(store.folder)
    assert not draft.exists()


def test_drafts_of_other_machines_are_removed_once_they_are_old_and_other_files_never(store: Store) -> None:
    names = ("a.json.00000000-1-00000000.part", "b.json.00000000-1-00000000.part", "film.part")
    old, young, foreign = (store.folder / name for name in names)
    for path in (old, young, foreign):
        path.write_text("half")
    for path in (old, foreign):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    Store(store.folder)
    assert [path.exists() for path in (old, young, foreign)] == [False, True, True]


@pytest.mark.parametrize("content", ["null", "[]", "3", "[" * 5000, '{"sha256": 1}', "{", "\ufeff{}"])
def test_an_entry_of_anything_counts_as_absent(store: Store, content: str) -> None:
    path = store.folder / f"{'a' * 64}.json"
    path.write_text(content)
    assert store.get("a" * 64) is None
    assert path.exists()  # looking removes nothing


def test_a_folder_that_was_removed_meanwhile_is_made_again(store: Store) -> None:
    shutil.rmtree(store.folder)
    claim = store.claim("a" * 64)
    assert claim is not None
    claim.release()
    shutil.rmtree(store.folder)
    assert store.get("a" * 64) is None
    fill(store, "a" * 64)
    assert store.get("a" * 64) is not None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"cannot write results to .*file/store: Not a directory; choose another"
    ):
        Store(tmp_path / "file" / "store")
    with pytest.raises(ValueError, match="cap_bytes must be at least 0, got -1"):
        Store(tmp_path, cap_bytes=-1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot write results to"):
        Store(tmp_path)


def test_keys_depend_on_every_step_in_order_and_on_seed_and_task() -> None:
    texts = ["", "D", "P", "DP", "PD", "D(depth=0.5) P", "D(depth=0.6) P", "DPP"]
    keys = [
        node_key(task, StageSequence.parse(text), seed)
        for task in ("one", "other")
        for text in texts
        for seed in (0, 1)
    ]
    assert len(set(keys)) == len(keys) == 32
    assert all(len(key) == 64 for key in keys)
    assert keys[:2] == [node_key("one", StageSequence(), 0), node_key("one", StageSequence(), 1)]


def test_keys_depend_on_the_versions_of_torch_and_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = StageSequence.parse("DP")
    before = node_key("task", sequence, 0)
    monkeypatch.setattr("ordercomp.running.jobs.torch_version", lambda: "0.0.0")
    other_torch = node_key("task", sequence, 0)
    monkeypatch.setattr("ordercomp.running.jobs.results_version", lambda: "changed")
    assert len({before, other_torch, node_key("task", sequence, 0)}) == 3
