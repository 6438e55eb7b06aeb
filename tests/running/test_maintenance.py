"""Maintenance of a store: listing, checking against digests, making room."""

from pathlib import Path

import pytest
import torch

from ordercomp.networks.weights import write_checkpoint
from ordercomp.running.jobs import NodeJob
from ordercomp.running.store import Freed, Store, collect_garbage, find_damaged, find_store, list_entries
from ordercomp.sequence import StageSequence
from tests.fakes import FakeTask, make_record

A, B, C = "a" * 64, "b" * 64, "c" * 64


def put(store: Store, key: str, order: str, *, network: bytes | None = b"weights") -> None:
    job = NodeJob(FakeTask(Path("log")), StageSequence.parse(order), 0, key, None, store.folder)
    record = make_record(job, error=None if network else "diverged")
    write = None if network is None else lambda path: path.write_bytes(network)
    store.put(key, record, write)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out" / "store")
    put(store, A, "Q")
    put(store, B, "P", network=None)
    return store


def test_a_store_is_found_in_its_folder_and_nothing_is_made(store: Store, tmp_path: Path) -> None:
    assert find_store(tmp_path / "out").folder == find_store(store.folder).folder == store.folder
    with pytest.raises(ValueError, match="nowhere holds no store"):
        find_store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_entries_are_listed_by_sequence(store: Store) -> None:
    told = [(one.key, one.record.sequence, one.network_bytes) for one in list_entries(store)]
    assert told == [(B, "P", 0), (A, "Q", 7)]


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_entry_is_found_by_its_digest_and_counts_as_absent(store: Store, suffix: str) -> None:
    path = store.folder / f"{A}.{suffix}"
    path.write_bytes(path.read_bytes().replace(b"weights", b"weighty").replace(b"0.99", b"0.98"))
    assert find_damaged(store) == [A]
    assert find_damaged(store) == [A]
    put(store, A, "Q")
    assert find_damaged(store) == []
    store.remove(A)
    assert [one.key for one in list_entries(store)] == [B]


def test_garbage_goes_and_what_is_in_training_stays(store: Store) -> None:
    (store.folder / f"{B}.json").unlink()
    for key in (B, C):
        write_checkpoint(store.network_path(key), {"weight": torch.ones(3)}, {})
    size = store.network_bytes(C)
    claim = store.claim(C)
    assert claim is not None
    freed = collect_garbage(Store(store.folder, cap_bytes=2**30))
    assert freed == Freed(evicted=0, unfinished=1, bytes=size, locks=2)
    assert store.network_path(C).exists()
    claim.release()
    freed = collect_garbage(Store(store.folder, cap_bytes=0))
    assert freed == Freed(evicted=1, unfinished=1, bytes=7 + size, locks=2)
    assert [one.key for one in list_entries(store)] == [A]
