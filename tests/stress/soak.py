"""Nothing lost, nothing doubled, nothing wrong: what is left of runs that are killed, starved and damaged.

    python tests/stress/soak.py --kills 60 --faults 30 --seed 0 [--jobs discover,search,study,dask] [--every]

Runs `ordercomp discover`, `search`, `study` and `discover --dask` on a task that trains in moments,
undisturbed first. Then, scenario by scenario, in a fresh folder: the same command is started again and
again and meets interruptions (kill -9 of the group, the parent, a worker or the scheduler, SIGSTOP,
SIGTERM, SIGINT, a second run beside it) or faults (a full disk, a limit on files, little memory, a clock
that jumps, a folder that is read-only or removed, files cut, flipped, emptied), until it has met enough;
then it is left alone until it ends, and what it leaves is compared with the undisturbed run: records,
points bit for bit, law or outcome, networks. With `--every`, instead, each file of a finished run is cut,
flipped and emptied in turn.

Each run is a fork of this process, whose workers are forks, too, so that a run starts in a tenth of a
second; the command line, the runner, the storage and the files are the real ones. Root gives them a small
disk of their own, which can be filled. Prints one JSON line a scenario and the sums, which `--log FILE`
also adds to a file, with the sums of all its lines at the end; the exit code is 1 if anything was lost,
doubled, changed or left over, or an error was not told in a line.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from faults import damage, inject_fault, interrupt
from outcome import Outcome, compare, read_outcome
from scenario import JOBS, Scenario

from ordercomp.analysis import answer, order_model
from ordercomp.analysis.order_model import Effort
from ordercomp.jobs import discover, search
from ordercomp.running import workers as processes
from ordercomp.running.versions import code_version
from ordercomp.studies import run

COMMANDS = (discover, search, run)  # what they need, loaded before the forks
LATE = (  # modules that a run imports late, for seconds
    *("torch._dynamo", "alembic.command", "optuna.storages._rdb.storage", "sqlalchemy.dialects.sqlite"),
    *("sklearn.datasets", "pydantic", "pygments.lexers", "matplotlib.backends.backend_agg"),
)
FEW = Effort(burn_in=5, draws=20)  # draws of an answer
ENOUGH_LATE = 2  # runs that ended before they were interrupted: what follows would do so, too
DISK = "192m"  # of the small disk, which is in memory


class Soak:
    """The scenarios of one call, and the sums over them."""

    def __init__(self, root: Path, chosen: argparse.Namespace) -> None:
        self.root, self.chosen = root, chosen
        self.jobs = chosen.jobs.split(",")
        self.met, self.wrong = Counter[str](), Counter[str]()
        self.scenarios, self.began = 0, time.monotonic()
        self._wanted: dict[str, tuple[Outcome, float]] = {}  # outcome of an undisturbed run, and its seconds

    def run(self) -> None:
        """Soak the jobs in turn until enough was met, or the time is up."""
        while not self._enough:
            job = self.jobs[self.scenarios % len(self.jobs)]
            if job not in self._wanted:
                self._wanted[job] = self._undisturbed(job)
            self.scenarios += 1
            scenario = self.new_scenario(job, self._wanted[job][1])
            for _ in range(self.chosen.events):
                if scenario.met["too_late"] == ENOUGH_LATE:
                    break
                share = self.chosen.faults / (self.chosen.kills + self.chosen.faults)
                inject_fault(scenario) if scenario.chance.random() < share else interrupt(scenario)
            self.judge(scenario)

    def run_every(self) -> None:
        """Damage each file of a finished run in each way, one after another."""
        for job in self.jobs:
            _, seconds = self._wanted[job] = self._undisturbed(job)
            calm = self.new_scenario(job, seconds)
            calm.finish()
            calm.close()
            whole = self.root / "whole"
            shutil.copytree(calm.folder / "out", whole)
            files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
            for name, kind in itertools.product(files, ("cut", "flip", "empty")):
                if not (self._late or name.suffix == ".lock"):
                    self.scenarios += 1
                    scenario = self.new_scenario(job, seconds)
                    shutil.copytree(whole, scenario.folder / "out")
                    damage(scenario.folder / "out" / name, kind, scenario.chance)
                    scenario.met["faults"] += 1
                    self.judge(scenario, f"{kind} {name}")
            shutil.rmtree(whole)

    def new_scenario(self, job: str, seconds: float) -> Scenario:
        """A scenario in a new folder."""
        chance = random.Random(f"{self.chosen.seed} {job} {self.scenarios}")
        return Scenario(job, self.root / f"{job}-{self.scenarios}", chance, seconds)

    def judge(self, scenario: Scenario, what: str = "") -> None:
        """Let a scenario end, compare what it leaves, and add it to the sums."""
        scenario.finish()
        scenario.close()
        compare(scenario, self._wanted[scenario.job][0])
        line = {
            "scenario": self.scenarios,
            "job": scenario.job,
            "met": scenario.met,
            "wrong": scenario.problems,
        }
        print(json.dumps({**line, **({"what": what} if what else {})}), flush=True)
        self.met, self.wrong = self.met + scenario.met, self.wrong + scenario.wrong
        if scenario.wrong and self.chosen.keep:
            shutil.copytree(
                scenario.folder, Path(self.chosen.keep) / scenario.folder.name, dirs_exist_ok=True
            )
        shutil.rmtree(scenario.folder, ignore_errors=True)

    def sums(self) -> dict[str, object]:
        """What was met and what was wrong, in all scenarios."""
        minutes = round((time.monotonic() - self.began) / 60, 1)
        return {"scenarios": self.scenarios, "minutes": minutes, "met": self.met, "wrong": self.wrong}

    @property
    def _late(self) -> bool:
        return time.monotonic() - self.began > 60 * self.chosen.minutes

    @property
    def _enough(self) -> bool:
        return self._late or (
            self.met["kills"] >= self.chosen.kills and self.met["faults"] >= self.chosen.faults
        )

    def _undisturbed(self, job: str) -> tuple[Outcome, float]:
        start = time.monotonic()
        calm = Scenario(job, self.root / f"{job}-calm", random.Random(0), 0.0)
        calm.finish()
        seconds = time.monotonic() - start
        if calm.wrong:
            sys.exit(f"the undisturbed {job} failed: {calm.problems}")
        outcome = read_outcome(calm.folder)
        calm.close()
        shutil.rmtree(calm.folder)
        return outcome, seconds


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    """A folder on a disk of its own, where one can be mounted; else any new folder."""
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "soak", str(root)]
    mounted = shutil.which("mount") is not None and os.geteuid() == 0
    mounted = mounted and subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
    root.chmod(0o755)
    try:
        yield root
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(root)])
        shutil.rmtree(root, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs that are killed, starved and damaged.")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=60.0, help="no new scenario begins after them")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", type=int, default=8, help="interruptions and faults in a scenario")
    parser.add_argument("--every", action="store_true", help="damage every file of a finished run in turn")
    parser.add_argument("--keep", help="a folder for the scenarios that went wrong")
    parser.add_argument("--log", type=Path, help="a file of JSON lines that the sums are added to")
    return parser.parse_args()


def _add_up(log: Path, sums: dict[str, object]) -> dict[str, object]:
    """Add a line to a file of sums; return the sums over all of its lines."""
    with log.open("a") as file:
        file.write(json.dumps(sums, sort_keys=True) + "\n")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    met, wrong = (sum((Counter(line[name]) for line in lines), Counter()) for name in ("met", "wrong"))
    return {
        "calls": len(lines),
        **{name: round(sum(line[name] for line in lines), 1) for name in ("scenarios", "minutes")},
        "met": met,
        "wrong": wrong,
    }


def main() -> int:
    """Soak the jobs until enough kills and faults were met."""
    chosen = _arguments()
    _hurry()
    with _small_disk() as root:
        soak = Soak(root, chosen)
        soak.run_every() if chosen.every else soak.run()
    print(json.dumps(soak.sums(), sort_keys=True))
    if chosen.log is not None:
        print(json.dumps(_add_up(chosen.log, soak.sums()), sort_keys=True))
    return int(bool(soak.wrong))


def _hurry() -> None:
    """Load what runs need, let workers be forks, and leave out what writes nothing and is not judged here.

    That is the try-out of the stages before a run, and most of the draws of an answer.
    """
    for name in LATE:
        importlib.import_module(name)
    setattr(answer, "BRIEF", FEW)  # noqa: B010
    for module in (answer, order_model):
        setattr(module, "Effort", lambda: FEW)  # noqa: B010
    setattr(processes, "_start_method", lambda: multiprocessing.get_context("fork"))  # noqa: B010
    for command in COMMANDS:
        setattr(command, "check_task", lambda task: None)  # noqa: B010
    code_version()  # read once, before the forks


if __name__ == "__main__":
    sys.exit(main())
