"""Workers on other machines: the executor of a running Dask cluster, where one is asked for."""

import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from ordercomp.errors import one_line
from ordercomp.running.workers import usable_workers

_SECONDS = 10  # for a scheduler to answer
_LOUD = ("distributed", "distributed.client")  # they log tracebacks of what is told in a line


@contextmanager
def executor_at(address: str | None, *, workers: int | None) -> Iterator[tuple[Executor | None, int]]:
    """Connect to the scheduler at `address`; give its executor and how many nodes it trains at once.

    These are as many as its workers have threads, and no fewer than `workers`, so that more of them keep
    some work ready for workers that join later. Without an address there is no executor, and `workers` stay;
    None are as many as suit this machine.

    Raises ValueError if `distributed` is not installed or no scheduler answers there.
    """
    if address is None:
        yield None, workers or usable_workers()
        return
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise ValueError("--dask needs the package distributed: pip install 'ordercomp[dask]'") from None
    try:
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--dask must be the address of a running scheduler such as tcp://host:8786, got {address!r}: "
            f"{one_line(error)}"
        ) from None
    with _quiet(), client:
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), max(workers or 1, threads)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
