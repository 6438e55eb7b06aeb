"""Which processes of this machine run, by the system's table where there is one (/proc) or by a signal."""

import os
from pathlib import Path

TABLE = Path("/proc")


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if there is no such process, or no table.

    One that has ended counts as gone, even if its parent has not asked for its end as yet.
    """
    try:
        after_name = (TABLE / str(pid) / "stat").read_text().rpartition(")")[2]
    except OSError:
        return None
    state, *rest = after_name.split()
    return None if state in "ZX" else int(rest[18])


def is_running(pid: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be told."""
    if (TABLE / "self" / "stat").exists():
        return start_ticks(pid) is not None
    if not hasattr(os, "killpg"):  # Windows, where the question would be an interrupt
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it runs, and is somebody else's
    return True
