"""A store behind an address: results of many machines that see no common folder.

The folder stays what workers and the runner read and write; what it lacks is fetched, what is finished is
sent. Any file system of fsspec will do: `file://`, `s3://`, `gs://`, `sftp://`, … Nothing is claimed there:
two machines may train the same node at once, and come to the same result.
"""

import importlib
import os
import platform
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ordercomp.errors import FailedRunError, one_line
from ordercomp.files import replacing
from ordercomp.records import Record
from ordercomp.running.store import DEFAULT_CAP_BYTES, Store

Answer = TypeVar("Answer")

_PAUSES = (1.0, 5.0, 20.0)  # seconds before the address is tried again


class SharedStoreError(FailedRunError):
    """The address did not answer, several times."""


def open_store(folder: Path | str, url: str = "", *, cap_bytes: int = DEFAULT_CAP_BYTES) -> Store:
    """The store in a folder, or one behind an address that has the folder for a cache.

    Raises OSError if the folder cannot be written, ValueError if the address cannot be used.
    """
    return SharedStore(folder, url, cap_bytes=cap_bytes) if url else Store(folder, cap_bytes=cap_bytes)


class SharedStore(Store):
    """A folder that fetches what it lacks from an address, and sends there what is put into it.

    Entries are checked as those of the folder are: what was damaged or cut on its way counts as absent, is
    computed again and replaced. Eviction, removal and claims are about the folder alone.
    """

    def __init__(self, folder: Path | str, url: str, *, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        super().__init__(folder, cap_bytes=cap_bytes)
        self.url = url
        self._files, self._root = _open(url)
        self._often(lambda: self._files.makedirs(self._root, exist_ok=True))

    def get(self, key: str, *, check_network: bool = True) -> Record | None:
        """As of any store; a record that the folder lacks is fetched."""
        found = super().get(key, check_network=check_network)
        if found is None and self._fetch(self._record_path(key)):
            found = super().get(key, check_network=check_network)
        return found

    def has_network(self, key: str) -> bool:
        """As of any store; a network that the folder lacks is fetched and checked against its record."""
        if super().has_network(key):
            return True
        return self._fetch(self.network_path(key)) and self.get(key) is not None and super().has_network(key)

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
                self._often(lambda: self._files.get_file(there, str(draft)))
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

        self._often(send)

    def _often(self, act: Callable[[], Answer]) -> Answer:
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
