"""Content-addressed results in a folder: what is finished is never trained again.

Each finished node is `<key>.json` (its record) and `<key>.safetensors` (its network). Both are written under
another name and renamed, the record last, so that a process killed at any moment leaves no half entry.
"""

import functools
import hashlib
import importlib
import json
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ordercomp.codec import read_json, write_json
from ordercomp.errors import FailedRunError, one_line
from ordercomp.files import (
    drop_drafts,
    file_digest,
    is_digest,
    is_draft,
    refuse_link,
    replace_file,
    replacing,
)
from ordercomp.networks.weights import is_sealed
from ordercomp.records import Record, RecordError
from ordercomp.running.jobs import key_of_record
from ordercomp.running.versions import FORMER_BUILDS, results_version

DEFAULT_CAP_BYTES = 20 * 2**30
FORMAT = 1
_MARKER, _LOCKS, _ADOPTED_FILE = "ordercomp-store", "locks", "adopted"
_KINDS = ("json", "safetensors")
_PAUSES = (1.0, 5.0, 20.0)  # seconds before the address of a shared store is tried again

Answer = TypeVar("Answer")


class Store:
    """Finished nodes by key. Safe to share between processes; nothing is kept in memory."""

    url = ""  # of what stands behind the folder, if anything does

    def __init__(self, folder: Path | str, *, cap_bytes: int = DEFAULT_CAP_BYTES, make: bool = True) -> None:
        """Open the folder, or make it. `cap_bytes` limits the networks, not the records; `evict` keeps to it.

        Raises OSError if it cannot be written, ValueError for a negative cap and for a folder of other files.
        Without `make` nothing is checked, written or removed.
        """
        if cap_bytes < 0:
            raise ValueError(f"cap_bytes must be at least 0, got {cap_bytes}")
        self.folder = Path(folder)
        self.cap_bytes = cap_bytes
        if not make:
            return
        refuse_link(self.folder / _LOCKS)
        if not is_store(self.folder) and (foreign := _first_foreign(self.folder)):
            raise ValueError(
                f"{self.folder} is no store of ours, it holds {foreign}; choose a new folder for the store"
            )
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            (self.folder / _MARKER).touch()
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            problem = f"cannot write results to {self.folder}: {error.strerror or error}"
            raise OSError(f"{problem}; choose another folder") from error
        drop_drafts(self.folder)

    def network_path(self, key: str) -> Path:
        """Where the network of a node lies, if it is there."""
        return self.folder / f"{key}.safetensors"

    def has_network(self, key: str) -> bool:
        """Whether the network of a node is there; it may be gone while its record stays."""
        return self.network_path(key).is_file()

    def get(self, key: str, *, check_network: bool = True) -> Record | None:
        """Return the record of a finished node, or None. A damaged entry counts as absent.

        The record and the network, if that is still there, are checked against their SHA-256; without
        `check_network` the record alone, which spares reading the network.
        """
        path = self._record_path(key)
        try:
            record, network = _open_entry(path.read_text(encoding="utf-8") if path.is_file() else "", key)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):  # JSON and record errors are ValueErrors
            return None
        if check_network and network is not None and not self._holds(key, network):
            return None
        return record

    def put(self, key: str, record: Record, write_network: Callable[[Path], None] | None = None) -> None:
        """Add a finished node, or replace it. `write_network` writes the network to the path it is given.

        A failed stage has no network. Store only failures that would happen again, such as divergence.
        """
        network = None
        self.folder.mkdir(parents=True, exist_ok=True)
        if write_network is not None:
            with replacing(self.network_path(key)) as draft:
                write_network(draft)
                network = _fingerprint(draft)
        entry = {"format": FORMAT, "key": key, "record": record.to_json(), "network": network}
        entry["sha256"] = _checksum(entry)
        replace_file(self._record_path(key), json.dumps(entry, allow_nan=False))

    def rename(self, key: str, new_key: str) -> None:
        """Let a finished node, network and all, lie under another key. Raises KeyError if it is not there."""
        record = self.get(key)
        if record is None:
            raise KeyError(key)
        network = self.network_path(key)
        copy = functools.partial(_link_or_copy, network) if network.is_file() else None
        self.put(new_key, record, copy)
        self.remove(key)

    def remove(self, key: str) -> None:
        """Forget a node; nothing happens if it is not there."""
        self._record_path(key).unlink(missing_ok=True)
        self.network_path(key).unlink(missing_ok=True)

    def claim(self, key: str) -> FileLock | None:
        """Take the right to train a node, or return None while another runner holds it.

        The claim ends with its `release()` or with the process, however that dies.
        """
        lock = FileLock(self.folder / _LOCKS / f"{key}.lock", thread_local=False)
        (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)  # somebody may have removed it meanwhile
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def touch(self, key: str) -> None:
        """Mark a network as just used, so that it is evicted late."""
        if self.has_network(key):
            os.utime(self.network_path(key))

    def evict(self, *, keep: Collection[str] = ()) -> list[str]:
        """Delete the networks that were unused for longest until the rest fits the cap; return their keys.

        Records always stay, and so do the networks of the keys in `keep`, and files that are not what their
        entry says.
        """
        networks = sorted(self._networks())
        total = sum(size for _, _, size in networks)
        evicted = []
        for _, key, size in networks:
            if total <= self.cap_bytes:
                break
            if key not in keep and self.owns(key):
                self.network_path(key).unlink(missing_ok=True)
                total -= size
                evicted.append(key)
        return evicted

    def network_bytes(self, key: str | None = None) -> int:
        """Size of the network of a node, 0 if it is not there; of all networks without a key."""
        if key is None:
            return sum(size for _, _, size in self._networks())
        try:
            return self.network_path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def owns(self, key: str) -> bool:
        """Whether a network is ours by its digest: the one in its entry, or that which it carries itself."""
        path = self.network_path(key)
        if path.is_symlink() or not path.is_file():
            return False
        return is_sealed(path) if self.get(key, check_network=False) is None else self.get(key) is not None

    def _holds(self, key: str, network: dict[str, Any]) -> bool:
        """Whether the network is the one that was put there, or was evicted."""
        try:
            return not self.has_network(key) or _fingerprint(self.network_path(key)) == network
        except FileNotFoundError:
            return True

    def _networks(self) -> list[tuple[int, str, int]]:
        """Time of last use in nanoseconds, key and size in bytes of each network."""
        networks = []
        for key in _keys(self, ".safetensors"):
            with suppress(FileNotFoundError):  # evicted by another process meanwhile
                facts = self.network_path(key).stat()
                networks.append((facts.st_mtime_ns, key, facts.st_size))
        return networks

    def _record_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _open_entry(text: str, key: str) -> tuple[Record, dict[str, Any] | None]:
    """Read an entry and check that it is whole and the key's own."""
    entry = json.loads(text)
    if not isinstance(entry, dict):
        raise RecordError(f"entry {key} is damaged")
    checksum = entry.pop("sha256")
    if entry["format"] != FORMAT or entry["key"] != key or checksum != _checksum(entry):
        raise RecordError(f"entry {key} is damaged or foreign")
    return Record.from_json(entry["record"]), entry["network"]


def _link_or_copy(source: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, path)


def _checksum(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": file_digest(path), "bytes": path.stat().st_size}


class SharedStoreError(FailedRunError):
    """The address did not answer, several times."""


def open_store(folder: Path | str, url: str = "", *, cap_bytes: int = DEFAULT_CAP_BYTES) -> Store:
    """The store in a folder, or one behind an address that has the folder for a cache.

    Raises OSError if the folder cannot be written, ValueError if the address cannot be used.
    """
    return SharedStore(folder, url, cap_bytes=cap_bytes) if url else Store(folder, cap_bytes=cap_bytes)


class SharedStore(Store):
    """A folder that fetches what it lacks from an address, and sends there what is put into it.

    So machines share results that see no common folder. Any file system of fsspec will do: `file://`,
    `s3://`, `gs://`, `sftp://`, … Entries are checked as those of the folder are: what was damaged or cut on
    its way counts as absent, is computed again and replaced. Eviction, removal and claims are about the
    folder alone: two machines may train the same node at once, and come to the same result.
    """

    def __init__(self, folder: Path | str, url: str, *, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        super().__init__(folder, cap_bytes=cap_bytes)
        self.url = url
        self._files, self._root = _open(url)
        self._retry(lambda: self._files.makedirs(self._root, exist_ok=True))

    def get(self, key: str, *, check_network: bool = True) -> Record | None:
        """As of any store; a record that the folder lacks is fetched."""
        record = super().get(key, check_network=check_network)
        if record is None and self._fetch(self._record_path(key)):
            record = super().get(key, check_network=check_network)
            if record is None and self.network_path(key).is_file() and self._fetch(self.network_path(key)):
                record = super().get(key, check_network=check_network)
        return record

    def has_network(self, key: str) -> bool:
        """As of any store; a network that the folder lacks is fetched and checked against its record."""
        if super().has_network(key):
            return True
        path = self.network_path(key)
        if not self._fetch(path):
            return False
        intact = self.get(key) is not None
        if not intact:
            path.unlink(missing_ok=True)  # what came was damaged on its way
        return intact and super().has_network(key)

    def put(self, key: str, record: Record, write_network: Callable[[Path], None] | None = None) -> None:
        """As of any store, and then at the address, the record last."""
        super().put(key, record, write_network)
        if write_network is not None:
            self._send(self.network_path(key))
        self._send(self._record_path(key))

    def _fetch(self, path: Path) -> bool:
        """Copy a file from the address; whether it was there."""
        there = f"{self._root}/{path.name}"
        try:
            with replacing(path) as draft:
                self._retry(lambda: self._files.get_file(there, str(draft)))
        except FileNotFoundError:
            return False
        return True

    def _send(self, path: Path) -> None:
        """Copy a file to the address under another name, then give it its own: nobody sees half of it."""
        there = f"{self._root}/{path.name}"
        draft = f"{there}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.part"

        def send() -> None:
            self._files.put_file(str(path), draft)
            self._files.mv(draft, there)

        self._retry(send)

    def _retry(self, act: Callable[[], Answer]) -> Answer:
        """Try again where an address does not answer. Raises FileNotFoundError at once."""
        for pause in (*_PAUSES, None):
            try:
                return act()
            except FileNotFoundError:
                raise
            except Exception as error:  # each kind of address has its own
                if pause is None:
                    raise SharedStoreError(
                        f"store {self.url} failed: {one_line(error)}; finished nodes are kept in "
                        f"{self.folder}: run again"
                    ) from error
                time.sleep(pause)
        raise AssertionError


def _open(url: str) -> tuple[Any, str]:
    """The file system of an address, and the folder there."""
    try:
        core = importlib.import_module("fsspec.core")
    except ImportError:
        raise ValueError("a store by address needs fsspec: pip install 'ordercomp[fsspec]'") from None
    try:
        files, root = core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"store must be an address such as s3://bucket/folder, got {url!r}: {one_line(error)}"
        ) from None
    return files, str(root).rstrip("/")


# Maintenance: what a store holds, which entries are damaged, and what takes room for nothing.


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
        if is_store(place):
            return Store(place, make=False)
    raise ValueError(f"{folder} holds no store: there is no {_MARKER}, or store/{_MARKER}, in it")


def is_store(folder: Path) -> bool:
    """Whether a folder has the marker of a store; those of former versions have locks instead."""
    return (folder / _MARKER).is_file() or (folder / _LOCKS).is_dir()


def _first_foreign(folder: Path) -> str:
    """The name of something in a folder that no store of ours would hold; empty if there is nothing."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((name for name in names if not _is_own_name(name)), "")


def _is_own_name(name: str) -> bool:
    stem, _, suffix = name.partition(".")
    return (
        name in (_MARKER, _LOCKS, _ADOPTED_FILE) or is_draft(name) or (is_digest(stem) and suffix in _KINDS)
    )


def list_entries(store: Store) -> list[Entry]:
    """The readable entries, in the order of task, seed and sequence. Networks are not read."""
    entries = [
        Entry(key=key, record=record, network_bytes=store.network_bytes(key))
        for key in _keys(store, ".json")
        if (record := store.get(key, check_network=False)) is not None
    ]
    return sorted(entries, key=lambda entry: (entry.record.task, entry.record.seed, entry.record.sequence))


def find_damaged(store: Store) -> list[str]:
    """Check every entry and its network against their SHA-256, and return the keys of those that differ.

    They count as absent: the next run that needs them computes and replaces them. Reads the whole store.
    """
    return [key for key in _keys(store, ".json") if store.get(key) is None]


def collect_garbage(store: Store) -> Freed:
    """Delete what nobody needs, and networks until the rest fits the store's cap.

    Only what its name and its digest prove ours is deleted, and links are never followed; a store that is a
    link is refused (ValueError). Runs may go on meanwhile.
    """
    refuse_link(store.folder)
    unfinished = size = 0
    for key in _keys(store, ".safetensors"):
        claim = store.claim(key)  # a process that trains the node holds it
        if claim is None:
            continue
        try:
            if store.get(key, check_network=False) is None and store.owns(key):
                size += store.network_bytes(key)
                store.network_path(key).unlink(missing_ok=True)
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
    write_json(path, {**seen, task_digest: now})
    return Adopted(used=used, unused=unused)


def _keys(store: Store, suffix: str) -> list[str]:
    """The keys of files of ours; links are none."""
    paths = store.folder.glob(f"*{suffix}")
    return sorted(path.stem for path in paths if is_digest(path.stem) and not path.is_symlink())


def _drop_locks(store: Store) -> int:
    """Delete the lock files of nodes that nobody trains; who holds one is left alone."""
    dropped = 0
    for path in sorted((store.folder / _LOCKS).glob("*.lock")):
        ours = is_digest(path.stem) and not path.is_symlink()
        lock = store.claim(path.stem) if ours else None
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.release()
            dropped += 1
    return dropped
