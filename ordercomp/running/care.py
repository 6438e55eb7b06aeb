"""Care of a store: what it holds, which entries are damaged, and what takes room for nothing."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from ordercomp.codec import read_json
from ordercomp.files import is_digest, replace_file
from ordercomp.records import Record
from ordercomp.running.jobs import key_of_record
from ordercomp.running.store import Store
from ordercomp.running.versions import FORMER_BUILDS, results_version

_ADOPTED_FILE = "adopted"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of the results that former builds left in a store."""

    used: int = 0  # are what this code would make, and are used
    unused: int = 0  # are not, or nobody can tell; they stay where they are

    def __str__(self) -> str:
        parts = [f"{self.used} results of a former version are used"] if self.used else []
        if self.unused:
            parts.append(
                f"{self.unused} stored results are of a version that made others; they are left unused"
            )
        return "; ".join(parts)


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


def adopt_former_results(store: Store, task_digest: str) -> Adopted:
    """Put what former builds left of this task under today's keys where the results are still the same.

    The store is read once for each task and version of the results, which it notes in a file of its own.
    """
    path, now = store.folder / _ADOPTED_FILE, results_version()
    try:
        seen = {str(task): str(results) for task, results in read_json(path).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        seen = {}
    if seen.get(task_digest) == now:
        return Adopted()
    used = unused = 0
    for key in _keys(store, ".json"):
        record = store.get(key, check_network=False)
        made_with = record.extra.get("versions") if record else None
        build = str(made_with.get("ordercomp")) if isinstance(made_with, Mapping) else ""
        if record is None or results_version(build) == now:
            continue
        today = key_of_record(task_digest, replace(record, extra={**record.extra, "digest": key}))
        if today is not None and today != key:
            with suppress(KeyError):  # another process was faster
                store.rename(key, today)
            used += 1
        else:
            unused += results_version(build) not in FORMER_BUILDS  # else it may be another task's
    replace_file(path, json.dumps({**seen, task_digest: now}))
    return Adopted(used=used, unused=unused)


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
