"""A scenario in `soak.py`: one folder, the runs that meet it, and what was found wrong."""

import contextlib
import fcntl
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Cluster

from ordercomp.cli.main import main as ordercomp

TASK = """
name = "tiny"
model = "resnet8(width=4)"
data = "digits"
stages = "PQ"
ladder = "fixed"
train_limit = 128
[recipe]
epochs = 6
batch_size = 32
learning_rate = 0.1
precision = "float32"
"""
_DISCOVER = ("discover", "--task", "tiny.toml", "--out", "out", "--seeds", "3", "--budget", "none")
JOBS = {
    "discover": (*_DISCOVER, "--workers", "3"),  # one is often idle
    "search": (
        *("search", "--task", "tiny.toml", "--out", "out", "--stages", "DPQ"),
        *("--trials", "5", "--sampler", "random"),
    ),
    "study": ("study", "pairwise", "--task", "tiny.toml", "--out", "out"),
    "dask": _DISCOVER,  # on a cluster of its own
}
PATIENCE = 300.0  # seconds that a run may take which is left alone, on a busy machine, too
REAP_SECONDS = 10.0  # seconds in which workers must follow their parent
ENDS = (0, 1, 2, 130)


@dataclass(slots=True)
class Scenario:
    """One folder, what happened to it, and what was found wrong."""

    job: str
    folder: Path
    chance: random.Random
    seconds: float  # that the undisturbed run took
    cluster: Cluster | None = None
    met: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # what was wrong, in words
    output: str = ""  # of the last run
    pipes: dict[int, int] = field(default_factory=dict)  # pipe of each run, by its process id

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "tiny.toml").write_text(TASK)
        if self.job == "dask":
            self.cluster = Cluster(self.folder.with_name(f"{self.folder.name}-cluster"))

    def close(self) -> None:
        """Stop the cluster, if there is one."""
        if self.cluster is not None:
            time.sleep(1.0)  # its workers may be at a node of a run that is gone
            self.cluster.close()
            shutil.rmtree(self.cluster.folder, ignore_errors=True)

    @property
    def command(self) -> tuple[str, ...]:
        """What is started again and again."""
        address = () if self.cluster is None else ("--dask", self.cluster.address)
        return (*JOBS[self.job], *address)

    def start(self, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork a run in a group of its own; return its process id."""
        output, end = os.pipe()  # not a file: those may find no room
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 2**20)
        os.set_blocking(output, False)
        child = os.fork()
        if child:
            os.close(end)
            self.pipes[child] = output
            return child
        try:
            os.setsid()
            os.chdir(self.folder)
            for number in (1, 2):
                os.dup2(end, number)
            prepare()
            ordercomp(self.command)
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # a traceback in the log, which is looked for
            os._exit(99)
        os._exit(0)

    def finish(self) -> None:
        """Leave the command alone until it ends well; move away what it says is damaged, as a user would."""
        for _ in range(6):
            status = self.wait(self.start(), PATIENCE)
            if status == 0:
                return
            lines = self.output.splitlines()
            last = next((line for line in reversed(lines) if line.startswith("ordercomp: ")), "")
            named = [path for path in self.files() if path.name in last]
            for path in named:
                path.unlink()
            self.met["refused"] += bool(named)
        self.note("unfinished", f"exit {status}: {last}")

    def wait(self, child: int, seconds: float) -> int | None:
        """The exit status of a run once it has ended by itself; None if it had to be killed or was."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                self.reap(child)
                code = os.waitstatus_to_exitcode(status)
                if (code >= 0 and code not in ENDS) or "Traceback" in self.output:
                    self.note("unclear", self.tail())
                return code if code >= 0 else None
            time.sleep(0.02)
        self.note("hanging", f"after {seconds:.0f} s")
        self.kill(child)
        return None

    def kill(self, child: int, send: Callable[[int, int], None] = os.killpg) -> None:
        """Kill a run, the whole group or its parent alone, and wait until nobody of it is left."""
        send(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.met["kills"] += 1
        self.reap(child)

    def reap(self, child: int) -> None:
        """Count the processes that a run leaves behind."""
        end = time.monotonic() + REAP_SECONDS
        while (left := members(child)) and time.monotonic() < end:
            time.sleep(0.02)
        if left:
            self.note("leftovers", f"{len(left)} processes")
            os.killpg(child, signal.SIGKILL)
        self.output = ""
        with contextlib.suppress(BlockingIOError), open(self.pipes.pop(child), "rb", buffering=0) as output:
            self.output = (output.read() or b"").decode(errors="replace")
        with contextlib.suppress(OSError), (self.folder / "log").open("a") as log:
            log.write(self.output)

    def files(self) -> list[Path]:
        """Everything that a run has written."""
        return [path for path in (self.folder / "out").rglob("*") if path.is_file()]

    def note(self, kind: str, words: str) -> None:
        """Count what is wrong."""
        self.wrong[kind] += 1
        self.problems.append(f"{kind}: {words}")

    def tail(self) -> str:
        """The last lines of the log."""
        return " | ".join(self.output.splitlines()[-3:])


def members(group: int) -> list[int]:
    """Processes of a group that are no zombies."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state not in "ZX":
            processes.append(int(path.parent.name))
    return processes
