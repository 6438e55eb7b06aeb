"""What runs meet in `soak.py`: blows at random moments, and faults of folder, machine and clock."""

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

from soak_life import PATIENCE, Life, members

__all__ = ["blow", "damage", "fault"]

BLOWS = (*("group",) * 4, *("parent",) * 3, *("worker",) * 3, "twin", "twin", "stop", "term", "int")
ON_A_CLUSTER = (*("group", "worker") * 2, "parent", "scheduler", "late", "term", "twin")
FAULTS = (
    *("cut", "flip", "empty", "no_room", "full", "read_only", "store_gone", "all_gone"),
    *("no_memory", "clock"),
)


def blow(life: Life) -> None:
    """Start a run and meet it with a blow at a random moment."""
    kind = life.chance.choice(ON_A_CLUSTER if life.cluster else BLOWS)
    life.met[f"blow_{kind}"] += 1
    child = life.start()
    twin = life.start() if kind == "twin" else None
    _sleep(life)
    if os.waitpid(child, os.WNOHANG)[0]:
        life.bury(child)
        life.met["too_late"] += 1
    else:
        _HITS[kind](life, child)
    if twin is not None and life.chance.random() < 0.3:
        life.wait(twin, PATIENCE)
    elif twin is not None:
        life.kill(twin)


def fault(life: Life) -> None:
    """Damage what is there, or let a run meet a folder, a machine or a clock that fails it."""
    kind = life.chance.choice(FAULTS)
    life.met[f"fault_{kind}"] += 1
    life.met["faults"] += 1
    if kind in ("cut", "flip", "empty"):
        files = [path for path in life.files() if path.suffix != ".lock"]
        if kind == "flip":  # a digit of a record that becomes another one is no damage that can be seen
            files = [path for path in files if path.name != "records.jsonl"]
        if files:
            damage(life.chance.choice(sorted(files)), kind, life.chance)
    elif kind in _LIMITS:
        life.wait(life.start(_LIMITS[kind](life.chance)), PATIENCE)
    elif kind == "full":
        _full(life)
    elif kind == "read_only":
        _read_only(life)
    else:
        child = life.start()
        _sleep(life)
        shutil.rmtree(life.folder / "out" / ("store" if kind == "store_gone" else ""), ignore_errors=True)
        life.wait(child, PATIENCE)


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Cut a file short, flip one bit of it, or empty it."""
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    kept = {"flip": len(content), "cut": chance.randrange(len(content) + 1), "empty": 0}[kind]
    path.write_bytes(content[:kept])


def _sleep(life: Life) -> None:
    time.sleep(0.05 + life.seconds * life.chance.random() ** 3)


def _hit_parent(life: Life, child: int) -> None:
    life.kill(child, os.kill)


def _hit_stopped(life: Life, child: int) -> None:
    os.killpg(child, signal.SIGSTOP)
    time.sleep(0.3)
    os.killpg(child, signal.SIGCONT)
    life.met["stops"] += 1
    if life.chance.random() < 0.5:
        life.wait(child, PATIENCE)
    else:
        life.kill(child)


def _hit_worker(life: Life, child: int) -> None:
    if life.cluster is not None:
        life.cluster.kill_worker(life.chance)
        life.cluster.join()
        life.met["kills"] += 1
        life.wait(child, PATIENCE)
        return
    if workers := [one for one in members(child) if one != child]:
        os.kill(life.chance.choice(workers), signal.SIGKILL)
        life.met["kills"] += 1
    time.sleep(life.chance.uniform(0.05, 1.0))
    if os.waitpid(child, os.WNOHANG)[0]:
        life.bury(child)
    else:
        life.kill(child)


def _hit_scheduler(life: Life, child: int) -> None:
    assert life.cluster is not None
    life.cluster.kill_scheduler()
    life.met["kills"] += 1
    life.wait(child, PATIENCE)
    life.cluster.restart()


def _hit_late(life: Life, child: int) -> None:
    """A worker that joins late, and leaves again."""
    assert life.cluster is not None
    life.cluster.join()
    time.sleep(0.3)
    life.cluster.kill_worker(life.chance)
    life.met["kills"] += 1
    life.wait(child, PATIENCE)


def _hit_by(number: signal.Signals) -> Callable[[Life, int], None]:
    def hit(life: Life, child: int) -> None:
        os.killpg(child, number)
        life.wait(child, PATIENCE)
        life.met["signals"] += 1

    return hit


_HITS: dict[str, Callable[[Life, int], None]] = {
    "group": Life.kill,
    "twin": Life.kill,
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
            for name, one, shifted in (
                ("time", real, lambda: real() + shift()),
                ("datetime", whole, Shifted),
            ):
                if vars(module).get(name) is one:
                    setattr(module, name, shifted)

    return prepare


_LIMITS = {"no_room": _no_room, "no_memory": _no_memory, "clock": _clock}


def _full(life: Life) -> None:
    """A run on a disk with a few KiB left, if the folder lies on one of its own; else nothing."""
    facts = os.statvfs(life.folder)
    if facts.f_blocks * facts.f_frsize > 2**30:
        life.met["fault_full_not_tried"] += 1
        return
    left = int(2 ** life.chance.uniform(10, 18))
    filler = life.folder.parent / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, facts.f_bavail * facts.f_frsize - left))
    life.wait(life.start(), PATIENCE)
    filler.unlink()


def _read_only(life: Life) -> None:
    """A run by somebody who may not write; root may, so it gives up that right."""
    folders = [life.folder, *(path for path in life.folder.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mode for path in folders if path.exists()}
    for path in folders:
        _set_mode(path, 0o555)
    life.wait(life.start(_give_up_rights), PATIENCE)
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
