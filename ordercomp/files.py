"""Writing files so that others see them whole or not at all, whatever dies meanwhile. No torch here."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

__all__ = ["lock_of", "replace_file", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name of this process's own beside `path`; what is written there replaces `path` at the end.

    If the block fails, the draft is removed and `path` stays as it was.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` at once, so that a killed process leaves no half file. Raises OSError."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def lock_of(path: Path) -> FileLock:
    """The lock that writers of `path` hold, a file beside it; one thread may take it again and again."""
    lock: FileLock = FileLock(path.with_name(f"{path.name}.lock"), is_singleton=True)
    return lock
