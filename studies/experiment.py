"""What an experiment is: what it trains, how it judges the records, and the outcome that it leaves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ordercomp.analysis.corpus import TrainingCount
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.codec import decode, encode
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.runner import Trainings
from ordercomp.running.task import Task
from ordercomp.sequence import PrefixTrie
from ordercomp.studies.preset import Preset

Verdict = Literal["agree", "disagree", "undecided", "true by construction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Requests of one task; most experiments have a single part."""

    task: Task
    requests: tuple[Request, ...]  # in the order of training

    @property
    def nodes(self) -> int:
        """Number of distinct trainings without the baselines."""
        return len(self.trie)

    @property
    def trie(self) -> PrefixTrie[tuple[str, int]]:
        """The shared prefixes, those of each seed apart."""
        return PrefixTrie([(str(s), r.seed) for s in r.sequence.steps] for r in self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim of the paper beside what was measured."""

    claim: str
    measured: str  # in words and numbers
    verdict: Verdict
    seeds: int
    effect: float | None = None  # in doublings of value; positive speaks for the claim
    interval: tuple[float, float] | None = None
    caveat: str = ""

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, with seeds and interval."""
        words = {"agree": "Agree", "disagree": "Disagree", "undecided": "Undecided"}
        verdict = words.get(self.verdict, "True by construction")
        seeds = f"{self.seeds} seed{'s' if self.seeds != 1 else ''}"
        caveat = f" {self.caveat}" if self.caveat else ""
        return f"{verdict}: {self.claim}. Measured over {seeds}: {self.measured}.{caveat}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What records say about the question; drawn from them alone."""

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]  # ours and the paper's own, side by side
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One question, with plain functions that plan, judge and draw it."""

    name: str
    section: str  # of the paper, with the figure or table
    question: str
    parts: Callable[[Task, Preset], Sequence[Part]]
    judge: Callable[[Sequence[Record]], Judgement]
    figures: Callable[[Sequence[Record]], Mapping[str, str]]  # SVG texts by file stem


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of an experiment found, and where it lies."""

    experiment: str
    section: str
    question: str
    task: str
    preset: str
    judgement: Judgement
    planned: int  # trainings that the preset asks for
    measured: int  # of those, how many are done
    trainings: Trainings  # what this run did
    interrupted: bool
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether everything that was planned is measured."""
        return self.measured >= self.planned

    @property
    def verdict(self) -> str:
        """One sentence for the whole experiment."""
        found = [finding.verdict for finding in self.judgement.findings]
        counts = {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none"
        part = "" if self.complete else f" Only {self.measured} of {self.planned} trainings are done."
        return f"{self.experiment} on {self.task}: of {len(found)} claims {told}.{part}"

    @property
    def file(self) -> "OutcomeFile":
        """The content of outcome.json."""
        return OutcomeFile(
            experiment=self.experiment,
            section=self.section,
            question=self.question,
            task=self.task,
            preset=self.preset,
            verdict=self.verdict,
            findings=self.judgement.findings,
            tables=tuple(map(_table_file, self.judgement.tables)),
            notes=self.judgement.notes,
            planned=self.planned,
            measured=self.measured,
            complete=self.complete,
            interrupted=self.interrupted,
            trainings=decode(encode(self.trainings), TrainingCount, "trainings", strict=False),
            seconds=round(self.trainings.seconds, 1),
            folder=str(self.folder),
        )

    def to_text(self) -> str:
        """Verdict, findings, tables and notes for a terminal."""
        blocks = [self.verdict, "\n".join(finding.sentence for finding in self.judgement.findings)]
        blocks += [table.to_text() for table in self.judgement.tables]
        blocks += list(self.judgement.notes)
        return "\n\n".join(block for block in blocks if block)

    def to_markdown(self) -> str:
        """The content of outcome.md."""
        lines = [f"# {self.experiment}: {self.question}", "", f"Paper: {self.section}. {self.verdict}", ""]
        lines += [f"- {finding.sentence}" for finding in self.judgement.findings]
        for table in self.judgement.tables:
            lines += ["", *table_markdown(table)]
        for note in self.judgement.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """A table as files hold it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeFile:
    """The content of an outcome.json."""

    experiment: str
    section: str
    question: str
    task: str
    preset: str
    verdict: str
    findings: tuple[Finding, ...]
    tables: tuple[TableFile, ...]
    notes: tuple[str, ...]
    planned: int
    measured: int
    complete: bool
    interrupted: bool
    trainings: TrainingCount
    seconds: float
    folder: str


def _table_file(table: Table) -> TableFile:
    return TableFile(
        title=table.title,
        columns=tuple(column.name for column in table.columns),
        rows=table.rows,
        note=table.note,
    )


def table_markdown(table: Table) -> list[str]:
    """The lines of a table in Markdown: title, heading, rows, note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def rule(column: Column) -> str:
        return "---:" if column.align == "right" else "---"

    lines = [f"**{table.title}**", "", line([column.name for column in table.columns])]
    lines += [line([rule(column) for column in table.columns]), *(line(row) for row in table.rows)]
    return [*lines, "", table.note] if table.note else lines
