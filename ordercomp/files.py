"""Writing files that others see whole or not at all, and reading those of strangers. No torch here."""

import gzip
import hashlib
import json
import lzma
import os
import platform
import re
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

TABLE = Path("/proc")  # of processes
_SMALL = 64 * 2**20  # bytes that any file may hold
_MOST_TIMES = 50  # how many times larger a compressed file may become; records become ten times larger
_PIECE = 2**20
_DRAFT = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<writer>\d{1,10})-[0-9a-f]{8}\.part")
_OLD_SECONDS = 3600.0  # of a draft that another machine writes: long enough for any file
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name of this process's own beside `path`; what is written there replaces `path` at the end.

    If the block fails, the draft is removed and `path` stays as it was. Raises ValueError for a device or a
    pipe, which would be replaced as well.
    """
    refuse_device(path)
    draft = path.with_name(f"{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def is_draft(name: str) -> bool:
    """Whether a name is that of a draft of `replacing`."""
    return _DRAFT.search(name) is not None


def drop_drafts(folder: Path) -> None:
    """Remove the drafts that killed processes left in a folder, at once if they ran on this machine.

    Those of other machines are removed once they are an hour old.
    """
    for path in folder.glob("*.part"):
        draft = _DRAFT.search(path.name)
        if draft is None:
            continue
        try:
            if draft["host"] == _HOST:
                left = not is_running(int(draft["writer"]))
            else:
                left = time.time() - path.stat().st_mtime > _OLD_SECONDS
            if left:
                path.unlink()
        except FileNotFoundError:
            continue  # finished or removed by another process meanwhile


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` at once, so that a killed process leaves no half file. Raises OSError.

    A file that holds just this stays as it is.
    """
    content = text.encode()
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    with replacing(path) as draft:
        draft.write_bytes(content)


def lock_of(path: Path) -> FileLock:
    """The lock that writers of `path` hold, a file beside it; one thread may take it again and again."""
    lock: FileLock = FileLock(path.with_name(f"{path.name}.lock"), is_singleton=True)
    return lock


def make_folder(path: Path, name: str) -> None:
    """Make a folder that a user named, if need be. Raises ValueError, on behalf of `name`, for a file."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name} must be a folder, got the file {path}")
    path.mkdir(parents=True, exist_ok=True)


def refuse_device(path: Path) -> None:
    """Raise ValueError for a pipe, a device or a socket, since reading one might never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} must be a file, it is a pipe, a device or a socket")


def refuse_link(path: Path) -> None:
    """Raise ValueError for a link, or a device, in the place of what is ours and is written to.

    Whoever made the folder would else choose what of the user's is written to. Linked folders are followed.
    """
    refuse_device(path)
    if path.is_symlink():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, and links are not written through: "
            "put what it leads to there, or choose another folder"
        )


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if its name ends in .gz or .xz.

    Raises ValueError in one line for a damaged file, and for a compressed one that would hold much more than
    its size allows for: a small file of a stranger must not fill the memory. OSError if it cannot be read.
    """
    refuse_device(path)
    if path.suffix not in (".gz", ".xz"):
        return path.read_bytes()
    most = _SMALL + _MOST_TIMES * path.stat().st_size
    pieces, length = [], 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else lzma.open(path, "rb") as file:
            while piece := file.read(_PIECE):
                pieces.append(piece)
                length += len(piece)
                if length > most:
                    raise ValueError(
                        f"{path} holds more than {most} bytes; decompress it first, if you trust it"
                    )
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not compressed as its name says: {error}") from None
    return b"".join(pieces)


def is_digest(text: object) -> bool:
    """Whether `text` is a SHA-256 in hexadecimal, so that it may be part of a file's name."""
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def checksum_of(content: bytes) -> str:
    """What a file, or a line of one, carries to tell whether it was damaged: 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(*parts: object) -> str:
    """SHA-256, in hexadecimal, of plain data as JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if there is no such process, or no table.

    One that has ended counts as gone, even if its parent has not asked for its end as yet.
    """
    try:
        after_name = (TABLE / str(pid) / "stat").read_text().rpartition(")")[2]
    except OSError:
        return None
    state, *fields = after_name.split()
    return None if state in "ZX" else int(fields[18])


def is_running(pid: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be told."""
    if (TABLE / "self" / "stat").exists():
        return start_ticks(pid) is not None
    if not hasattr(os, "killpg"):  # Windows, where the question would be an interrupt
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it runs, and is somebody else's
    return True
