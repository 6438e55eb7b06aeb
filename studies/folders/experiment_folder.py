"""The folder of an experiment's results: `<date>_<experiment>` with records that are only ever added to."""

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ordercomp.codec import read_json
from ordercomp.files import replace_file
from ordercomp.records import Record, read_records
from ordercomp.running.jobs import Finished, code_version
from ordercomp.running.record_file import RecordFile
from ordercomp.studies.paper.experiment import Outcome, Part
from ordercomp.training.device import choose_device, describe_hardware

__all__ = ["ResultFolder", "describe", "read_outcomes", "read_results"]


class ResultFolder:
    """Records of one experiment on one task at one preset; a later run of the same day adds to them."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Open or start the folder; `facts` is what `describe` returns.

        Raises ValueError if it holds results of another experiment, task or preset: nothing is written then.
        """
        self.path = path
        self._facts = facts
        if self._marker.exists():
            _check(path, _read(self._marker), facts)
        elif path.exists() and not _is_ours(path, facts):
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
        replace_file(self.path / "outcome.json", json.dumps(outcome.to_json(), indent=2) + "\n")
        replace_file(self.path / "outcome.md", outcome.to_markdown())
        for name, svg in figures.items():
            replace_file(self.path / f"{name}.svg", svg)

    @property
    def _marker(self) -> Path:
        return self.path / "experiment.json"

    def _mark(self) -> None:
        """Say whose folder it is, unless it says so: it may be new, or somebody has removed it meanwhile."""
        if not self._marker.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self._marker, json.dumps(self._facts, indent=2) + "\n")


def describe(experiment: str, preset: str, parts: Sequence[Part]) -> dict[str, Any]:
    """What identifies the results, and their provenance. Each record holds its own versions beside."""
    return {
        "experiment": experiment,
        "preset": preset,
        "tasks": {part.task.name: part.task.digest for part in parts},
        "recipes": {part.task.name: asdict(part.task.recipe) for part in parts},
        "models": {part.task.name: [part.task.model, part.task.data] for part in parts},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "python": sys.version.split()[0],
        "hardware": describe_hardware(choose_device()),
    }


def read_results(path: Path | str) -> tuple[str, list[Record]]:
    """Name of the experiment and records of a result folder. Raises ValueError if it is none."""
    marker, records = Path(path) / "experiment.json", Path(path) / "records.jsonl"
    if not marker.is_file() or not records.is_file():
        raise ValueError(f"{path} must hold experiment.json and records.jsonl, as an experiment leaves them")
    return str(_read(marker).get("experiment")), read_records(records)


def read_outcomes(out: Path) -> dict[str, Any]:
    """Content of outcome.json of every result folder in `out`, by the folder's name, in order of names."""
    folders = sorted(marker.parent for marker in out.glob("*/experiment.json"))
    return {
        folder.name: _read(folder / "outcome.json")
        for folder in folders
        if (folder / "outcome.json").exists()
    }


def _read(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(data).__name__}")
    return data


def _is_ours(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a folder that lost its marker holds nothing but what an experiment on these tasks leaves."""
    names, suffixes = ("records.jsonl", "outcome.json", "outcome.md"), (".svg", ".lock", ".part")
    known = all(one.name in names or one.suffix in suffixes for one in path.iterdir())
    records = path / "records.jsonl"
    return known and (
        not records.exists() or all(one.task in facts["tasks"] for one in read_records(records))
    )


def _check(path: Path, held: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for name in ("experiment", "preset", "tasks"):
        if held.get(name) != facts[name]:
            raise ValueError(
                f"{path} holds results of {_named(name, held.get(name))}, not {_named(name, facts[name])}; "
                "choose another --out"
            )


def _named(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "task " + ", ".join(f"{task} ({str(digest)[:8]})" for task, digest in value.items())
    return f"{name} {value}"
