"""Telling a lack of memory and a full disk from other failures, whoever raises them."""

import errno

import pytest
import torch

from ordercomp.errors import is_out_of_disk, is_out_of_memory, one_line


def caught(function, kind):
    try:
        function()
    except kind as error:
        return error
    pytest.fail("nothing was raised")


def test_a_lack_of_memory_is_known_in_every_form() -> None:
    too_large = caught(lambda: torch.empty(2**48), RuntimeError)
    assert is_out_of_memory(too_large)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))

    def wrapped() -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("the model fails") from error

    assert is_out_of_memory(caught(wrapped, ValueError))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))  # words of a user


def test_a_full_disk_is_known_in_every_form() -> None:
    assert is_out_of_disk(OSError(errno.ENOSPC, "No space left on device"))
    assert is_out_of_disk(OSError("cannot write: I/O error: No space left on device (os error 28)"))
    assert is_out_of_disk(OSError(errno.EFBIG, "File too large"))
    assert is_out_of_disk(RuntimeError("(sqlite3.OperationalError) database or disk is full"))
    assert not is_out_of_disk(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    assert not is_out_of_disk(ValueError("no file called 'disk is full'"))


def test_a_message_is_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError()) == "KeyError"
