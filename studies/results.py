"""Results of experiments: outcomes, the folders `<date>_<experiment>` that hold them, and their index."""

import datetime
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, get_args

from ordercomp.analysis.report.tables import Table
from ordercomp.codec import Plain, encode, read_as, write_json
from ordercomp.files import replace_file
from ordercomp.records import Record, TrainingCount, read_records
from ordercomp.running.jobs import Finished
from ordercomp.running.record_log import RecordLog
from ordercomp.running.versions import code_version
from ordercomp.studies.experiment import ClaimVerdict, Finding, Workload
from ordercomp.training.device import choose_device, describe_hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of an experiment found, and where it lies; the content of outcome.json."""

    KEYS: ClassVar = (
        *("experiment", "section", "question", "task", "preset", "verdict", "findings", "tables", "notes"),
        *("planned", "measured", "complete", "interrupted", "trainings", "seconds", "folder"),
    )

    experiment: str
    section: str
    question: str
    task: str
    preset: str
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]  # read from a file, they have lost their layout
    notes: tuple[str, ...]
    planned: int  # trainings that the preset asks for
    measured: int  # of those, how many are done
    interrupted: bool
    trainings: TrainingCount  # what this run did
    seconds: float
    folder: str

    @property
    def complete(self) -> bool:
        """Whether everything that was planned is measured."""
        return self.measured >= self.planned

    @property
    def verdict(self) -> str:
        """One sentence for the whole experiment."""
        verdicts = [finding.verdict for finding in self.findings]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        part = "" if self.complete else f" Only {self.measured} of {self.planned} trainings are done."
        return f"{self.experiment} on {self.task}: of {len(verdicts)} claims {counts or 'none'}.{part}"

    def to_markdown(self) -> str:
        """The content of outcome.md."""
        lines = [f"# {self.experiment}: {self.question}", "", f"Paper: {self.section}. {self.verdict}", ""]
        lines += [f"- {finding.sentence}" for finding in self.findings]
        for table in self.tables:
            lines += ["", *table_markdown(table)]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def table_markdown(table: Table) -> list[str]:
    """The lines of a table in Markdown: title, heading, rows, note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if name in table.left else "---:" for name in table.columns]
    lines = [f"**{table.title}**", "", *map(line, (table.columns, rule, *table.rows))]
    return [*lines, "", table.note] if table.note else lines


# The folder of an experiment's results, with records that are only ever added to.

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


def describe(experiment: str, preset: str, parts: Sequence[Workload]) -> Marker:
    """What identifies the results of an experiment that starts now."""
    tasks = [part.task for part in parts]
    return Marker(
        experiment=experiment,
        preset=preset,
        tasks={task.name: task.digest for task in tasks},
        recipes={task.name: encode(task.recipe) for task in tasks},
        models={task.name: (task.model, task.data) for task in tasks},
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        code=code_version(),
        python=sys.version.split()[0],
        hardware=describe_hardware(choose_device()),
    )


class ResultFolder:
    """Records of one experiment on one task at one preset; a later run adds to them."""

    def __init__(self, path: Path, marker: Marker) -> None:
        """Open or start the folder, which `marker` is to say what it holds.

        Raises ValueError if it holds results of another experiment, task or preset: nothing is written then.
        """
        self.path = path
        self._marker = marker
        if self._marker_path.exists():
            _check(path, read_as(self._marker_path, Marker), marker)
        elif path.exists() and not _is_ours(path, marker):
            raise ValueError(f"{path} holds other files, without an experiment.json; choose another --out")
        self._mark()
        self._log = RecordLog(path / "records.jsonl")

    def add(self, finished: Finished) -> None:
        """Write the record of a finished node, as a `RecordLog` does."""
        self._mark()
        self._log.add(finished)

    def write(self, outcome: Outcome, figures: Mapping[str, str]) -> None:
        """Write outcome.json, outcome.md and the figures, all of which come from the records alone."""
        self._mark()
        write_json(self.path / "outcome.json", outcome)
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
            write_json(self._marker_path, self._marker)


def place_of(out: Path, date: str, marker: Marker) -> Path:
    """Where results of this kind lie in `out`: in the latest folder that holds some, or in one of this date.

    Results of other code are of another kind, except on the day itself.
    """
    for path in sorted(out.glob(f"*_{marker.experiment}/experiment.json"), reverse=True):
        with suppress(OSError, ValueError):  # a damaged one is told where it is to be used
            held = read_as(path, Marker)
            if all(getattr(held, name) == getattr(marker, name) for name in (*_KIND, "code")):
                return path.parent
    return out / f"{date}_{marker.experiment}"


def read_folder(path: Path | str) -> tuple[str, list[Record]]:
    """Name of the experiment and records of a result folder. Raises ValueError if it is none."""
    marker, records = Path(path) / "experiment.json", Path(path) / "records.jsonl"
    if not marker.is_file() or not records.is_file():
        raise ValueError(f"{path} must hold experiment.json and records.jsonl, as an experiment leaves them")
    return read_as(marker, Marker).experiment, read_records(records)


def _is_ours(path: Path, marker: Marker) -> bool:
    """Whether a folder that lost its marker holds nothing but what an experiment on these tasks leaves."""
    names, suffixes = ("records.jsonl", "outcome.json", "outcome.md"), (".svg", ".lock", ".part")
    ours = all(file.name in names or file.suffix in suffixes for file in path.iterdir())
    log = path / "records.jsonl"
    return ours and (not log.exists() or all(record.task in marker.tasks for record in read_records(log)))


def _check(path: Path, held: Marker, marker: Marker) -> None:
    for name in _KIND:
        there, here = getattr(held, name), getattr(marker, name)
        if there != here:
            contents = f"results of {_in_words(name, there)}, not {_in_words(name, here)}"
            raise ValueError(f"{path} holds {contents}; choose another --out")


def _in_words(name: str, value: str | Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "task " + ", ".join(f"{task} ({digest[:8]})" for task, digest in value.items())
    return f"{name} {value}"


def write_index(out: Path) -> None:
    """Write `out`/index.md anew from the outcomes in `out`, with the claims that were decided."""
    files = sorted(marker.parent / "outcome.json" for marker in out.glob("*/experiment.json"))
    outcomes = {path.parent.name: read_as(path, Outcome) for path in files if path.exists()}
    verdicts: tuple[str, ...] = get_args(ClaimVerdict)
    about = ("experiment", "paper", "asks", "task", "preset")
    table = Table.of(
        "Results in this folder",
        (*about, "trainings", *verdicts),
        (_index_row(folder, outcome, verdicts) for folder, outcome in outcomes.items()),
        left=about,
        note="Columns of verdicts count claims. Those that agree or disagree:",
    )
    decided = [
        f"- [{folder}]({folder}/outcome.md). {finding.sentence}"
        for folder, outcome in outcomes.items()
        for finding in outcome.findings
        if finding.verdict in ("agree", "disagree")
    ]
    replace_file(out / "index.md", "\n".join([*table_markdown(table), "", *decided]) + "\n")


def _index_row(folder: str, outcome: Outcome, verdicts: Sequence[str]) -> tuple[str, ...]:
    verdicts_found: list[str] = [finding.verdict for finding in outcome.findings]
    return (
        f"[{outcome.experiment}]({folder}/outcome.md)",
        *(outcome.section, outcome.question, outcome.task, outcome.preset),
        f"{outcome.measured}{'' if outcome.complete else f' of {outcome.planned}'}",
        *(str(verdicts_found.count(verdict)) for verdict in verdicts),
    )
