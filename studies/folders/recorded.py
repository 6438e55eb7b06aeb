"""Recorded runs that ship with the package: real records, so that analyses and samplers need no training."""

from importlib import resources
from importlib.resources import as_file

from ordercomp.records import Record, read_records

_FOLDER = resources.files("ordercomp.studies") / "recordings"
_SUFFIX = ".jsonl.xz"


def recorded_names() -> list[str]:
    """Names of the recordings, which are those of the tasks that were run."""
    return sorted(
        file.name.removesuffix(_SUFFIX) for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIX)
    )


def load_recorded(name: str) -> list[Record]:
    """All records of a recording: every order at several knob settings and seeds, controls, repeats.

    The task file beside it says what was run. Raises ValueError for an unknown name.
    """
    if name not in recorded_names():
        raise ValueError(f"recording must be one of {', '.join(recorded_names())}, got {name!r}")
    with as_file(_FOLDER / f"{name}{_SUFFIX}") as path:
        return read_records(path)
