"""Kinds of failure: a lack of memory, which may pass, and of disk space, which ends a run. No torch here."""

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "not enough memory",
    "can't start new thread",
    "could not create a primitive",  # oneDNN, which has no room for its code
)
_NO_DISK = (
    "no space left on device",
    "disk quota exceeded",
    "disk is full",
    "input/output error",
    "file too large",
)
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class FailedRunError(RuntimeError):
    """A run that was asked for rightly, and could not be done."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, in Python, in torch on any device, or in what the error came from."""
    return any(
        isinstance(cause, MemoryError)
        or type(cause).__name__ == "OutOfMemoryError"
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (isinstance(cause, RuntimeError) and _says(cause, _NO_MEMORY))
        for cause in _chain(error)
    )


def is_out_of_disk(error: BaseException) -> bool:
    """Whether a disk was full, over its quota or broken, as the error or what it came from says."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _DISK_ERRNOS)
        or (not isinstance(cause, ValueError) and _says(cause, _NO_DISK))
        for cause in _chain(error)
    )


def one_line(error: BaseException) -> str:
    """The message of an error in one line, or the name of its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reraise_as(
    kind: type[Exception], what: str, *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what code of others raises into a `kind` of one line: `what`, the error's kind and its message.

    A lack of memory and errors of the kinds `passing` stay what they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or isinstance(error, passing):
            raise
        raise kind(f"{what}: {type(error).__name__}: {one_line(error)}") from error


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """What to append to a message about an unknown name: those that it resembles, or nothing."""
    close = difflib.get_close_matches(name, [*known], n=most)
    return f"; did you mean {' or '.join(close)}?" if close and close[0] != name else ""


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(phrase in text for phrase in phrases)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
