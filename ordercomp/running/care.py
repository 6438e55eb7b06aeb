"""Care of a store: what it holds, which entries are damaged, and what takes room for nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ordercomp.files import is_digest
from ordercomp.records import Record
from ordercomp.running.store import Store

__all__ = ["Entry", "Freed", "collect_garbage", "find_store", "list_entries", "remove_damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished node, as it lies in the store."""

    key: str
    record: Record
    network_bytes: int  # 0: a failed stage, or a network that was evicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was deleted. All of it is computed again where it is needed; records are never deleted."""

    evicted: int  # networks beyond the cap, those unused for longest
    unfinished: int  # networks that a killed process left without a record
    bytes: int  # of both
    locks: int  # lock files that nobody holds


def find_store(folder: Path) -> Store:
    """The store in a folder of results, or the folder itself if it is one; nothing is made.

    Raises ValueError if there is none.
    """
    for place in (folder / "store", folder):
        if (place / "locks").is_dir():
            return Store(place)
    raise ValueError(f"{folder} holds no store: there is no folder locks, or store/locks, in it")


def list_entries(store: Store) -> list[Entry]:
    """The readable entries, in the order of task, seed and sequence. Networks are not read."""
    found = []
    for key in _keys(store, ".json"):
        record = store.get(key, check_network=False)
        if record is not None:
            found.append(Entry(key=key, record=record, network_bytes=store.network_bytes(key)))
    return sorted(found, key=lambda one: (one.record.task, one.record.seed, one.record.sequence))


def remove_damaged(store: Store) -> list[str]:
    """Check every entry and its network against their SHA-256; remove those that differ, return their keys.

    The next run that needs them computes them again. Reads the whole store.
    """
    return [key for key in _keys(store, ".json") if store.get(key) is None]


def collect_garbage(store: Store) -> Freed:
    """Delete what nobody needs, and networks until the rest fits the store's cap.

    Runs may go on meanwhile.
    """
    unfinished = evicted = size = 0
    for key in _keys(store, ".safetensors"):
        claim = store.claim(key)  # a process that trains the node holds it
        if claim is None:
            continue
        try:
            if store.get(key, check_network=False) is None:
                size += store.network_bytes(key)
                store.remove(key)
                unfinished += 1
        finally:
            claim.release()
    before = store.network_bytes()
    evicted = len(store.evict())
    size += before - store.network_bytes()
    return Freed(evicted=evicted, unfinished=unfinished, bytes=size, locks=_drop_locks(store))


def _keys(store: Store, suffix: str) -> Iterator[str]:
    return iter(sorted(path.stem for path in store.folder.glob(f"*{suffix}") if is_digest(path.stem)))


def _drop_locks(store: Store) -> int:
    """Delete the lock files of nodes that nobody trains; who holds one is left alone."""
    dropped = 0
    for path in sorted((store.folder / "locks").glob("*.lock")):
        lock: FileLock | None = store.claim(path.stem)
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.release()
            dropped += 1
    return dropped
