"""These tests train in a thread of this process, where torch is loaded; tests/running has the processes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from checked_once import checked_once

from ordercomp.running import runner
from ordercomp.running.workers import ExternalPool

__all__ = ["checked_once"]

LOCAL_POOL = runner.LocalPool


@pytest.fixture(autouse=True, scope="module")  # a package's would last to the end: this folder is none
def in_this_process() -> Iterator[None]:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as executor, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "LocalPool", lambda _: ExternalPool(executor))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in processes after all, as users do."""
    monkeypatch.setattr(runner, "LocalPool", LOCAL_POOL)
