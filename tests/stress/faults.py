"""What runs meet in `soak.py`: interruptions at random moments, and faults of folder, machine and clock."""

import contextlib
import ctypes
import datetime
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scenario import PATIENCE, Scenario, members

INTERRUPTIONS = (
    *("group",) * 4,
    *("parent",) * 3,
    *("worker",) * 5,
    "concurrent",
    "concurrent",
    "stop",
    "term",
    "int",
)
ON_A_CLUSTER = (*("group", "worker") * 2, "parent", "scheduler", "late", "term", "concurrent")
LONGEST_LIFE = 3.0  # seconds until a run is interrupted: the next one goes on where it was
MOST_DEATHS = 30  # of workers in a run
FAULTS = (
    *("cut", "flip", "empty", "no_room", "full", "read_only", "store_gone", "all_gone"),
    *("no_memory", "clock"),
)


def interrupt(scenario: Scenario) -> None:
    """Start a run and interrupt it at a random moment."""
    kind = scenario.chance.choice(ON_A_CLUSTER if scenario.cluster else INTERRUPTIONS)
    scenario.met[f"interrupt_{kind}"] += 1
    child = scenario.start()
    concurrent_run = scenario.start() if kind == "concurrent" else None
    _sleep(scenario)
    if os.waitpid(child, os.WNOHANG)[0]:
        scenario.reap(child)
        scenario.met["too_late"] += 1
    else:
        _HITS[kind](scenario, child)
    if concurrent_run is not None and scenario.chance.random() < 0.3:
        scenario.wait(concurrent_run, PATIENCE)
    elif concurrent_run is not None:
        scenario.kill(concurrent_run)


def inject_fault(scenario: Scenario) -> None:
    """Damage what is there, or let a run meet a folder, a machine or a clock that fails it."""
    kind = scenario.chance.choice(FAULTS)
    scenario.met[f"fault_{kind}"] += 1
    scenario.met["faults"] += 1
    if kind in ("cut", "flip", "empty"):
        files = [path for path in scenario.files() if path.suffix != ".lock"]
        if files:
            damage(scenario.chance.choice(sorted(files)), kind, scenario.chance)
    elif kind in _LIMITS:
        scenario.wait(scenario.start(_LIMITS[kind](scenario.chance)), PATIENCE)
    elif kind == "full":
        _full(scenario)
    elif kind == "read_only":
        _read_only(scenario)
    else:
        child = scenario.start()
        _sleep(scenario)
        shutil.rmtree(scenario.folder / "out" / ("store" if kind == "store_gone" else ""), ignore_errors=True)
        scenario.wait(child, PATIENCE)


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Cut a file short, flip one bit of it, or empty it."""
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    kept = {"flip": len(content), "cut": chance.randrange(len(content) + 1), "empty": 0}[kind]
    path.write_bytes(content[:kept])


def _sleep(scenario: Scenario) -> None:
    time.sleep(0.05 + min(scenario.seconds, LONGEST_LIFE) * scenario.chance.random() ** 3)


def _hit_parent(scenario: Scenario, child: int) -> None:
    scenario.kill(child, os.kill)


def _hit_stopped(scenario: Scenario, child: int) -> None:
    os.killpg(child, signal.SIGSTOP)
    time.sleep(0.3)
    os.killpg(child, signal.SIGCONT)
    scenario.met["stops"] += 1
    if scenario.chance.random() < 0.5:
        scenario.wait(child, PATIENCE)
    else:
        scenario.kill(child)


def _hit_worker(scenario: Scenario, child: int) -> None:
    if scenario.cluster is not None:
        scenario.cluster.kill_worker(scenario.chance)
        scenario.cluster.join()
        scenario.met["kills"] += 1
        scenario.wait(child, PATIENCE)
        return
    for death in range(scenario.chance.randint(1, MOST_DEATHS)):
        if not _kill_a_worker(scenario, child):
            scenario.met["too_late"] += death == 0
            break
        time.sleep(scenario.chance.uniform(0.1, 0.6))
    if scenario.chance.random() < 0.5:
        scenario.wait(child, PATIENCE)
    elif os.waitpid(child, os.WNOHANG)[0]:
        scenario.reap(child)
    else:
        scenario.kill(child)


def _kill_a_worker(scenario: Scenario, child: int) -> bool:
    """Kill one worker of a run, an idle one as often as not; whether there was one."""
    busy: dict[int, bool] = {}
    while not busy and child in members(child):  # it starts its workers late
        time.sleep(scenario.chance.uniform(0.0, 0.2))
        busy = {process: _is_busy(process) for process in members(child) if process != child}
    if not busy:
        return False
    idle = [process for process in busy if not busy[process]]
    victim = scenario.chance.choice(idle if idle and scenario.chance.random() < 0.5 else list(busy))
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(victim, signal.SIGKILL)
    scenario.met["kills"] += 1
    scenario.met["kills_of_a_busy_worker" if busy[victim] else "kills_of_an_idle_worker"] += 1
    return True


def _is_busy(process: int) -> bool:
    """Whether a process computes."""

    def ticks() -> list[str]:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        return []

    before = ticks()
    time.sleep(0.1)
    return ticks() != before


def _hit_scheduler(scenario: Scenario, child: int) -> None:
    assert scenario.cluster is not None
    scenario.cluster.kill_scheduler()
    scenario.met["kills"] += 1
    scenario.wait(child, PATIENCE)
    scenario.cluster.restart()


def _hit_late(scenario: Scenario, child: int) -> None:
    """A worker that joins late, and leaves again."""
    assert scenario.cluster is not None
    scenario.cluster.join()
    time.sleep(0.3)
    scenario.cluster.kill_worker(scenario.chance)
    scenario.met["kills"] += 1
    scenario.wait(child, PATIENCE)


def _hit_by(number: signal.Signals) -> Callable[[Scenario, int], None]:
    def hit(scenario: Scenario, child: int) -> None:
        os.killpg(child, number)
        scenario.wait(child, PATIENCE)
        scenario.met["signals"] += 1

    return hit


_HITS: dict[str, Callable[[Scenario, int], None]] = {
    "group": Scenario.kill,
    "concurrent": Scenario.kill,
    "parent": _hit_parent,
    "worker": _hit_worker,
    "stop": _hit_stopped,
    "term": _hit_by(signal.SIGTERM),
    "int": _hit_by(signal.SIGINT),
    "scheduler": _hit_scheduler,
    "late": _hit_late,
}


def _no_room(chance: random.Random) -> Callable[[], None]:
    most = int(2 ** chance.uniform(8, 17))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _no_memory(chance: random.Random) -> Callable[[], None]:
    """Room for a few MiB to some hundred beyond what the process has."""
    more = int(2 ** chance.uniform(20, 29))

    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return prepare


def _clock(chance: random.Random) -> Callable[[], None]:
    """The wall clock stands elsewhere, and jumps by up to ten days in the middle of the run."""
    first, second = (chance.choice((-1, 1)) * 10 ** chance.uniform(0, 6) for _ in range(2))
    after = chance.uniform(0.1, 2.0)

    def prepare() -> None:
        real, start = time.time, time.monotonic()

        def shift() -> float:
            return first if time.monotonic() - start < after else second

        class Shifted(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Shifted":
                return cls.fromtimestamp(real() + shift(), tz)

        whole, datetime.datetime = datetime.datetime, Shifted  # type: ignore[misc]
        for module in list(sys.modules.values()):  # those that took one of them by its name, too
            for name, original, shifted in (
                ("time", real, lambda: real() + shift()),
                ("datetime", whole, Shifted),
            ):
                if vars(module).get(name) is original:
                    setattr(module, name, shifted)

    return prepare


_LIMITS = {"no_room": _no_room, "no_memory": _no_memory, "clock": _clock}


def _full(scenario: Scenario) -> None:
    """A run on a disk with a few KiB left, if the folder lies on one of its own; else nothing."""
    facts = os.statvfs(scenario.folder)
    if facts.f_blocks * facts.f_frsize > 2**30:
        scenario.met["fault_full_not_tried"] += 1
        return
    left = int(2 ** scenario.chance.uniform(10, 18))
    filler = scenario.folder.parent / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, facts.f_bavail * facts.f_frsize - left))
    scenario.wait(scenario.start(), PATIENCE)
    filler.unlink()


def _read_only(scenario: Scenario) -> None:
    """A run by somebody who may not write; root may, so it gives up that right."""
    folders = [scenario.folder, *(path for path in scenario.folder.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mode for path in folders if path.exists()}
    for path in folders:
        _set_mode(path, 0o555)
    scenario.wait(scenario.start(_give_up_rights), PATIENCE)
    for path, mode in before.items():
        _set_mode(path, mode)


def _set_mode(path: Path, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # scratch of a scheduler that has ended meanwhile
        path.chmod(mode)


def _give_up_rights() -> None:
    """Drop all capabilities of this process (Linux, version 3 of the call), so that modes bind root, too."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, none):
        raise OSError("the rights of root could not be given up")
