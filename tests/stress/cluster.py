"""A Dask cluster of forks for `soak.py`: one scheduler and two workers, each of which may be killed."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import distributed

_fork = multiprocessing.get_context("fork")


class Cluster:
    """A scheduler on a free port of the loopback and two workers, all forks of this process."""

    def __init__(self, folder: Path, *, workers: int = 2) -> None:
        self.folder = folder  # for what workers spill
        self._workers = workers
        self._processes: list[BaseProcess] = []
        self.address = ""
        self.restart()

    def restart(self) -> None:
        """Kill whatever is left and start anew, on another port."""
        self.close()
        ours, theirs = _fork.Pipe()
        self._add(_schedule(theirs))
        self.address = str(ours.recv())
        for _ in range(self._workers):
            self.join()

    def join(self) -> None:
        """Let one more worker join."""
        self._add(_work(self.address, self.folder))

    def kill_worker(self, chance: random.Random) -> None:
        """Kill a worker with SIGKILL, whatever it trains."""
        victim = chance.choice(self._processes[1:])
        self._processes.remove(victim)
        _kill(victim)

    def kill_scheduler(self) -> None:
        """Kill the scheduler with SIGKILL, and the workers, who would wait for it to come back."""
        for process in self._processes:
            _kill(process)
        self._processes.clear()

    def close(self) -> None:
        """Kill everybody."""
        self.kill_scheduler()

    def _add(self, server: Coroutine[Any, Any, None]) -> None:
        process = _fork.Process(target=_serve, args=(server,), daemon=True)
        process.start()
        server.close()
        self._processes.append(process)


def _serve(server: Coroutine[Any, Any, None]) -> None:
    os.setsid()  # of no run's group
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server)


async def _schedule(address: Connection) -> None:
    async with distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        address.send(scheduler.address)
        await scheduler.finished()


async def _work(address: str, folder: Path) -> None:
    async with distributed.Worker(
        address, host="127.0.0.1", nthreads=1, dashboard=False, local_directory=str(folder)
    ) as worker:
        await worker.finished()


def _kill(process: BaseProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
