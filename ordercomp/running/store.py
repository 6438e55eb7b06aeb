"""Content-addressed results in a folder: what is finished is never trained again.

Each finished node is `<key>.json` (its record) and `<key>.safetensors` (its network). Both are written under
another name and renamed, the record last, so that a process killed at any moment leaves no half entry.
"""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ordercomp.files import drop_drafts, replace_file, replacing
from ordercomp.records import Record, RecordError

DEFAULT_CAP_BYTES = 20 * 2**30
FORMAT = 1


class Store:
    """Finished nodes by key. Safe to share between processes; nothing is kept in memory."""

    url = ""  # of what stands behind the folder, if anything does

    def __init__(self, folder: Path | str, *, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        """Open or make the folder. Raises OSError if it cannot be written, ValueError for a negative cap.

        `cap_bytes` limits the networks, not the records; `evict` keeps to it.
        """
        if cap_bytes < 0:
            raise ValueError(f"cap_bytes must be at least 0, got {cap_bytes}")
        self.folder = Path(folder)
        self.cap_bytes = cap_bytes
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
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
        """Return the record of a finished node, or None. A damaged entry is removed and counts as absent.

        The record and the network, if that is still there, are checked against their SHA-256; without
        `check_network` the record alone, which spares reading the network.
        """
        try:
            text = self._record_path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            text = ""
        try:
            record, network = _open_entry(text, key)
        except (ValueError, KeyError, TypeError, RecursionError):  # JSON and record errors are ValueErrors
            self.remove(key)
            return None
        if check_network and network is not None and not self._holds(key, network):
            self.remove(key)
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
        lock = FileLock(self.folder / "locks" / f"{key}.lock", thread_local=False)
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)  # somebody may have removed it meanwhile
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

        Records always stay, and so do the networks of the keys in `keep`.
        """
        networks = sorted(self._networks())
        total = sum(size for _, _, size in networks)
        evicted = []
        for _, key, size in networks:
            if total <= self.cap_bytes:
                break
            if key not in keep:
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

    def _holds(self, key: str, network: dict[str, Any]) -> bool:
        """Whether the network is the one that was put there, or was evicted."""
        try:
            return _fingerprint(self.network_path(key)) == network
        except FileNotFoundError:
            return True

    def _networks(self) -> list[tuple[int, str, int]]:
        """Time of last use in nanoseconds, key and size in bytes of each network."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # evicted by another process meanwhile
            found.append((facts.st_mtime_ns, path.stem, facts.st_size))
        return found

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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
