"""The folder of an experiment's results: `<date>_<experiment>` with records that are only ever added to.

The date is that of the first run: one that goes on after midnight, or is repeated with the same code, adds to
the folder that is there.
"""

import datetime
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ordercomp.codec import Plain, decode, encode, format_json, read_json
from ordercomp.files import replace_file
from ordercomp.records import Record, read_records
from ordercomp.running.jobs import Finished
from ordercomp.running.record_file import RecordFile
from ordercomp.running.versions import code_version
from ordercomp.studies.experiment import Outcome, OutcomeFile, Part
from ordercomp.training.device import choose_device, describe_hardware

T = TypeVar("T", "Marker", OutcomeFile)

_KIND = ("experiment", "preset", "tasks")  # what a marker says of results that belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What identifies results, and their provenance. Each record holds its own versions beside."""

    experiment: str
    preset: str = ""
    tasks: Mapping[str, str]  # digests by name
    recipes: Mapping[str, Plain] = field(default_factory=dict)  # by task
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # model and data by task
    started: str = ""
    code: str = ""
    python: str = ""
    hardware: str = ""


class ResultFolder:
    """Records of one experiment on one task at one preset; a later run adds to them."""

    def __init__(self, path: Path, marker: Marker) -> None:
        """Open or start the folder, which `marker` is to say what it holds.

        Raises ValueError if it holds results of another experiment, task or preset: nothing is written then.
        """
        self.path = path
        self._marker = marker
        if self._marker_path.exists():
            _check(path, _read(self._marker_path, Marker), marker)
        elif path.exists() and not _is_ours(path, marker):
            raise ValueError(f"{path} holds other files, without an experiment.json; choose another --out")
        self._mark()
        self._file = RecordFile(path / "records.jsonl")

    @property
    def records(self) -> list[Record]:
        """All records in the folder."""
        return self._file.records

    def add(self, finished: Finished) -> None:
        """Write the record of a finished node, as a `RecordFile` does."""
        self._mark()
        self._file.add(finished)

    def write(self, outcome: Outcome, figures: Mapping[str, str]) -> None:
        """Write outcome.json, outcome.md and the figures, all of which come from the records alone."""
        self._mark()
        replace_file(self.path / "outcome.json", format_json(outcome.file, indent=2))
        replace_file(self.path / "outcome.md", outcome.to_markdown())
        for name, svg in figures.items():
            replace_file(self.path / f"{name}.svg", svg)

    @property
    def _marker_path(self) -> Path:
        return self.path / "experiment.json"

    def _mark(self) -> None:
        """Say whose folder it is, unless it says so: it may be new, or somebody has removed it meanwhile."""
        if not self._marker_path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self._marker_path, format_json(self._marker, indent=2))


def describe(experiment: str, preset: str, parts: Sequence[Part]) -> Marker:
    """What identifies the results of an experiment that starts now."""
    return Marker(
        experiment=experiment,
        preset=preset,
        tasks={part.task.name: part.task.digest for part in parts},
        recipes={part.task.name: encode(part.task.recipe) for part in parts},
        models={part.task.name: (part.task.model, part.task.data) for part in parts},
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        code=code_version(),
        python=sys.version.split()[0],
        hardware=describe_hardware(choose_device()),
    )


def place_of(out: Path, date: str, marker: Marker) -> Path:
    """Where results of this kind lie in `out`: in the latest folder that holds some, or in one of this date.

    Results of other code are of another kind, except on the day itself.
    """
    for path in sorted(out.glob(f"*_{marker.experiment}/experiment.json"), reverse=True):
        with suppress(OSError, ValueError):  # a damaged one is told where it is to be used
            held = _read(path, Marker)
            if all(getattr(held, name) == getattr(marker, name) for name in (*_KIND, "code")):
                return path.parent
    return out / f"{date}_{marker.experiment}"


def read_results(path: Path | str) -> tuple[str, list[Record]]:
    """Name of the experiment and records of a result folder. Raises ValueError if it is none."""
    marker, records = Path(path) / "experiment.json", Path(path) / "records.jsonl"
    if not marker.is_file() or not records.is_file():
        raise ValueError(f"{path} must hold experiment.json and records.jsonl, as an experiment leaves them")
    return _read(marker, Marker).experiment, read_records(records)


def read_outcomes(out: Path) -> dict[str, OutcomeFile]:
    """Content of outcome.json of every result folder in `out`, by the folder's name, in order of names."""
    folders = sorted(marker.parent for marker in out.glob("*/experiment.json"))
    return {
        folder.name: _read(folder / "outcome.json", OutcomeFile)
        for folder in folders
        if (folder / "outcome.json").exists()
    }


def _read(path: Path, kind: type[T]) -> T:
    return decode(read_json(path), kind, str(path), strict=False)


def _is_ours(path: Path, marker: Marker) -> bool:
    """Whether a folder that lost its marker holds nothing but what an experiment on these tasks leaves."""
    names, suffixes = ("records.jsonl", "outcome.json", "outcome.md"), (".svg", ".lock", ".part")
    known = all(one.name in names or one.suffix in suffixes for one in path.iterdir())
    records = path / "records.jsonl"
    return known and (not records.exists() or all(one.task in marker.tasks for one in read_records(records)))


def _check(path: Path, held: Marker, marker: Marker) -> None:
    for name in _KIND:
        there, here = getattr(held, name), getattr(marker, name)
        if there != here:
            what = f"results of {_named(name, there)}, not {_named(name, here)}"
            raise ValueError(f"{path} holds {what}; choose another --out")


def _named(name: str, value: str | Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "task " + ", ".join(f"{task} ({digest[:8]})" for task, digest in value.items())
    return f"{name} {value}"
