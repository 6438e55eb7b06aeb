"""Who runs a trial: names for worker processes, and whether one is still alive.

A process killed by force leaves its trials running for ever. On the same machine its absence is seen in the
process table; elsewhere, and where there is none to read, by a heartbeat that the study holds.
"""

import contextlib
import os
import platform
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType

import optuna
from optuna.exceptions import StorageInternalError

from ordercomp.files import TABLE, start_ticks

BEAT_SECONDS = 30.0
SILENT_SECONDS = 300.0  # a worker unheard for longer counts as dead; generous, for clocks that disagree


def this_worker() -> str:
    """Name this process: host, process id, and its start time where the system tells it."""
    return f"{platform.node()}:{os.getpid()}:{start_ticks(os.getpid()) or 0}"


def is_alive(worker: str, study: optuna.Study) -> bool:
    """Whether the process named `worker` still runs, by the process table or else by its heartbeat.

    A worker that is unknown here and never beat counts as dead.
    """
    worker = worker.partition("#")[0]  # a claim of that worker
    host, pid, started = worker.rsplit(":", 2)
    if host == platform.node() and (TABLE / "self" / "stat").exists():
        return start_ticks(int(pid)) == (int(started) or None)
    beat = study.user_attrs.get(_attribute(worker))
    return isinstance(beat, (int, float)) and time.time() - beat < SILENT_SECONDS


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """While entered, writes the time into the study every 30 seconds, from a thread of its own."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._name = _attribute(this_worker())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._study.set_user_attr(self._name, time.time())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(StorageInternalError):  # the run itself will notice
                self._study.set_user_attr(self._name, time.time())


def _attribute(worker: str) -> str:
    return f"heartbeat:{worker}"
