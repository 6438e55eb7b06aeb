"""Nothing lost, nothing doubled, nothing wrong: what is left of runs that are killed, starved and damaged.

    python benchmarks/soak.py --kills 60 --faults 30 --seed 0 [--jobs discover,search,study]

Runs `ordercomp discover`, `search` and `study` on a task that trains in moments, undisturbed first. Then,
life by life, in a fresh folder: the same command is started again and again and meets blows (kill -9 of the
group, the parent or a worker, SIGSTOP, SIGTERM, SIGINT, a second run beside it) or faults (no room, a
folder that is read-only or removed, files cut, flipped, emptied), until it has met enough; then it is left
alone until it ends, and what it leaves is compared with the undisturbed run: records, points bit for bit,
law or outcome, networks. Each run is a fork of this process, whose workers are forks, too, so that a run
starts in a tenth of a second; the command line, the runner, the storage and the files are the real ones.
Prints one JSON line a life and the sums; the exit code is 1 if anything was lost, doubled, changed or left
over, or an error was not told in a line.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from soak_outcome import Outcome, read_outcome

from ordercomp.running import processes
from ordercomp.running.jobs import code_version
from ordercomp.studies.cli.commands import discover, search, study
from ordercomp.studies.cli.main import main as ordercomp

__all__ = ["Life", "main"]

TASK = """
name = "tiny"
model = "resnet8(width=4)"
data = "digits"
stages = "PQ"
train_limit = 64
[recipe]
epochs = 1
batch_size = 64
learning_rate = 0.1
precision = "float32"
"""
JOBS = {
    "discover": ("discover", "--task", "tiny.toml", "--out", "out", "--seeds", "3", "--budget", "none"),
    "search": (
        *("search", "--task", "tiny.toml", "--out", "out", "--stages", "DPQ"),
        *("--trials", "8", "--sampler", "random"),
    ),
    "study": ("study", "pairwise", "--task", "tiny.toml", "--out", "out"),
}
COMMANDS = (discover, search, study)  # loaded before the forks
BLOWS = ("group", "group", "parent", "worker", "stop", "term", "int", "twin")
FAULTS = ("cut", "flip", "empty", "no_room", "read_only", "store_gone", "all_gone")
PATIENCE = 120.0  # seconds that a run may take which is left alone
BURIAL = 10.0  # seconds in which workers must follow their parent
ENDS = (0, 1, 2, 130)


@dataclass(slots=True)
class Life:
    """One folder, what happened to it, and what was found wrong."""

    job: str
    folder: Path
    chance: random.Random
    seconds: float  # that the undisturbed run took
    met: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)  # what was wrong, in words
    said: str = ""  # by the last run
    outputs: dict[int, int] = field(default_factory=dict)  # pipe of each run, by its process id

    def start(self, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork a run in a group of its own; return its process id."""
        output, end = os.pipe()  # not a file: those may find no room
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 2**20)
        os.set_blocking(output, False)
        child = os.fork()
        if child:
            os.close(end)
            self.outputs[child] = output
            return child
        try:
            os.setsid()
            os.chdir(self.folder)
            for number in (1, 2):
                os.dup2(end, number)
            prepare()
            ordercomp(JOBS[self.job])
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
            lines = self.said.splitlines()
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
                self.bury(child)
                code = os.waitstatus_to_exitcode(status)
                if (code >= 0 and code not in ENDS) or "Traceback" in self.said:
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
        self.bury(child)

    def bury(self, child: int) -> None:
        """Count the processes that a run leaves behind."""
        end = time.monotonic() + BURIAL
        while (left := _members(child)) and time.monotonic() < end:
            time.sleep(0.02)
        if left:
            self.note("leftovers", f"{len(left)} processes")
            os.killpg(child, signal.SIGKILL)
        self.said = ""
        with contextlib.suppress(BlockingIOError), open(self.outputs.pop(child), "rb", buffering=0) as output:
            self.said = (output.read() or b"").decode(errors="replace")
        with (self.folder / "log").open("a") as log:
            log.write(self.said)

    def files(self) -> list[Path]:
        """Everything that a run has written."""
        return [path for path in (self.folder / "out").rglob("*") if path.is_file()]

    def note(self, kind: str, words: str) -> None:
        """Count what is wrong."""
        self.wrong[kind] += 1
        self.told.append(f"{kind}: {words}")

    def tail(self) -> str:
        """The last lines of the log."""
        return " | ".join(self.said.splitlines()[-3:])

    def blow(self) -> None:
        """Start a run and meet it with a blow at a random moment."""
        kind = self.chance.choice(BLOWS)
        child = self.start()
        twin = self.start() if kind == "twin" else None
        time.sleep(0.05 + self.seconds * self.chance.random() ** 2)
        if os.waitpid(child, os.WNOHANG)[0]:
            self.bury(child)
            self.met["too_late"] += 1
        elif kind in ("group", "twin"):
            self.kill(child)
        elif kind == "parent":
            self.kill(child, os.kill)
        elif kind == "stop":
            os.killpg(child, signal.SIGSTOP)
            time.sleep(0.3)
            os.killpg(child, signal.SIGCONT)
            self.kill(child)
            self.met["stops"] += 1
        elif kind == "worker":
            if workers := [one for one in _members(child) if one != child]:
                os.kill(self.chance.choice(workers), signal.SIGKILL)
                self.met["kills"] += 1
            time.sleep(self.chance.uniform(0.05, 1.0))
            if not os.waitpid(child, os.WNOHANG)[0]:
                self.kill(child)
            else:
                self.bury(child)
        else:
            os.killpg(child, signal.SIGTERM if kind == "term" else signal.SIGINT)
            self.wait(child, PATIENCE)
            self.met["signals"] += 1
        if twin is not None and self.chance.random() < 0.3:
            self.wait(twin, PATIENCE)
        elif twin is not None:
            self.kill(twin)

    def fault(self) -> None:
        """Damage what is there, or let a run meet a folder that fails it."""
        kind = self.chance.choice(FAULTS)
        files = sorted(path for path in self.files() if path.suffix != ".lock")
        self.met[kind] += 1
        self.met["faults"] += 1
        if kind in ("cut", "flip", "empty"):
            if kind == "flip":  # a digit of a record that becomes another one is no damage that can be seen
                files = [path for path in files if path.name != "records.jsonl"]
            if files:
                _damage(self.chance.choice(files), kind, self.chance)
        elif kind == "no_room":
            most = int(2 ** self.chance.uniform(8, 17))
            self.wait(self.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))), PATIENCE)
        elif kind == "read_only":
            self.read_only()
        else:
            child = self.start()
            time.sleep(0.05 + self.seconds * self.chance.random() ** 2)
            shutil.rmtree(self.folder / "out" / ("store" if kind == "store_gone" else ""), ignore_errors=True)
            self.wait(child, PATIENCE)

    def read_only(self) -> None:
        """A run by somebody who may not write; root may, so it gives up that right."""
        folders = [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]
        before = {path: path.stat().st_mode for path in folders}
        for path in folders:
            path.chmod(0o555)
        self.wait(self.start(_give_up_rights), PATIENCE)
        for path, mode in before.items():
            path.chmod(mode)


def _give_up_rights() -> None:
    """Drop all capabilities of this process (Linux, version 3 of the call), so that modes bind root, too."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, none):
        raise OSError("the rights of root could not be given up")


def _members(group: int) -> list[int]:
    """Processes of a group that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def _damage(path: Path, kind: str, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    kept = {"flip": len(content), "cut": chance.randrange(len(content) + 1), "empty": 0}[kind]
    path.write_bytes(content[:kept])


def _compare(life: Life, wanted: Outcome) -> None:
    found = read_outcome(life.folder)
    for name in {**wanted["records"], **found["records"]}:
        ours, theirs = found["records"].get(name, []), wanted["records"].get(name, [])
        if len(ours) < len(theirs):
            life.note("lost", name)
        elif len(ours) > len(theirs):
            life.note("doubled" if theirs else "surplus", name)
        elif ours != theirs:
            life.note("changed", name)
    for kind, word in (("told", "wrong_laws"), ("networks", "wrong_networks")):
        for name in {**wanted[kind], **found[kind]}:
            if found[kind].get(name) != wanted[kind].get(name):
                life.note(word, name)
    if drafts := [path for path in life.files() if path.name.startswith("draft-") or path.suffix == ".part"]:
        life.note("drafts", ", ".join(path.name for path in drafts[:3]))


def _live(job: str, root: Path, number: int, seed: int, seconds: float) -> Life:
    folder = root / f"{job}-{number}"
    folder.mkdir(parents=True)
    (folder / "tiny.toml").write_text(TASK)
    return Life(job, folder, random.Random(f"{seed} {job} {number}"), seconds)


def main() -> int:
    """Soak the jobs until enough blows and faults were met."""
    parser = argparse.ArgumentParser(description="Runs that are killed, starved and damaged.")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blows", type=int, default=8, help="in a life")
    parser.add_argument("--keep", action="store_true", help="keep the folders of lives that went wrong")
    chosen = parser.parse_args()
    own = types.SimpleNamespace(**vars(multiprocessing))
    own.get_context = lambda _: multiprocessing.get_context("fork")
    setattr(processes, "multiprocessing", own)  # noqa: B010
    code_version()  # read once, before the forks
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    root.chmod(0o755)
    jobs, wanted = chosen.jobs.split(","), dict[str, tuple[Outcome, float]]()
    met, wrong = Counter[str](), Counter[str]()
    for job in jobs:
        start = time.monotonic()
        calm = _live(job, root, 0, chosen.seed, 0.0)
        calm.finish()
        if calm.wrong:
            sys.exit(f"the undisturbed {job} failed: {calm.told}")
        wanted[job] = (read_outcome(calm.folder), time.monotonic() - start)
    number, start = 0, time.monotonic()
    while met["kills"] < chosen.kills or met["faults"] < chosen.faults:
        number += 1
        job = jobs[number % len(jobs)]
        life = _live(job, root, number, chosen.seed, wanted[job][1])
        for _ in range(chosen.blows):
            faulty = life.chance.random() < chosen.faults / (chosen.kills + chosen.faults)
            life.fault() if faulty else life.blow()
        life.finish()
        _compare(life, wanted[job][0])
        print(json.dumps({"life": number, "job": job, "met": life.met, "wrong": life.told}), flush=True)
        met, wrong = met + life.met, wrong + life.wrong
        if not (chosen.keep and life.wrong):
            shutil.rmtree(life.folder, ignore_errors=True)
    sums = {"lives": number, "minutes": round((time.monotonic() - start) / 60, 1), "met": met, "wrong": wrong}
    print(json.dumps(sums, sort_keys=True))
    if not (chosen.keep and wrong):
        shutil.rmtree(root, ignore_errors=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
