"""What an experiment is: what it trains, how it judges the records, and the outcome that it leaves."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ordercomp.analysis.report.tables import Column, Table
from ordercomp.records import Record, TrainingCount
from ordercomp.running.jobs import Request
from ordercomp.running.task import Task
from ordercomp.sequence import Order, PrefixTrie, StageSequence, Step
from ordercomp.stages.catalog import complete, known_stages
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
    trainings: TrainingCount  # what this run did
    seconds: float  # wall time of this run
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
            trainings=self.trainings,
            seconds=round(self.seconds, 1),
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


# From orders to requests: knob settings, seeds and control arms, alike for all orders that are compared.


CONTROL = Step("F")  # more training without compression


def sequences(task: Task, preset: Preset, orders: Iterable[Order]) -> list[StageSequence]:
    """Every order at every knob setting that the preset has for its stages, without doubles.

    Orders of the same stages meet the same settings, so that they differ in nothing else.
    """
    found: dict[StageSequence, None] = {}
    for order in orders:
        for case in preset.grid("".join(sorted(set(order)))):
            found[task.sequence(order, case)] = None
    return list(found)


def rungs(task: Task, preset: Preset, stage: str) -> list[StageSequence]:
    """A stage alone at the settings of its ladder."""
    return list(dict.fromkeys(task.sequence(stage, case) for case in preset.rungs(stage)))


def controls(some: Iterable[StageSequence]) -> list[StageSequence]:
    """F after every static prefix of the sequences, which shows whether it was trained to the end."""
    stages = known_stages()
    found: dict[StageSequence, None] = {}
    for sequence in some:
        for prefix in sequence.prefixes:
            if any(stages[step.stage].dynamic or step.stage == CONTROL.stage for step in prefix.steps):
                break
            found[prefix + CONTROL] = None
    return list(found)


def one_part(task: Task, preset: Preset, some: Sequence[StageSequence], *, controlled: bool = True) -> Part:
    """All sequences at seed 0, then all at seed 1, and so on; with control arms if the preset has them.

    `task` is the prepared one. A budget that ends early thus leaves whole seeds.
    """
    whole = [*some, *(controls(some) if controlled and preset.controls else [])]
    requests = tuple(Request(sequence, seed) for seed in range(preset.seeds) for sequence in whole)
    return Part(task=task, requests=requests)


def restrict(order: Order, stages: Order) -> Order:
    """The order without the letters that are not among `stages`."""
    return "".join(letter for letter in order if letter in stages)


# Equal budgets: orders of different lengths that share out the same number of epochs.


def totaled(task: Task) -> Task:
    """The task with its records marked as accounted by total epochs."""
    return replace(task, accounting="total")


def share_epochs(task: Task, preset: Preset, orders: Iterable[Order]) -> list[StageSequence]:
    """The orders at the preset's first knob setting, each as long as all stages of the task together.

    An order with as many stages as the task trains each as long as the recipe says, like everywhere else.
    """
    found: dict[StageSequence, None] = {}
    for order in orders:
        case = preset.grid("".join(sorted(set(order))))[0]
        plain = replace(task, accounting="per-stage").sequence(order, case)
        if len(order) == len(task.stages):
            found[plain] = None
            continue
        epochs = task.recipe.epochs * len(task.stages) / len(order)
        steps = [Step.of(step.stage, {**step.settings, "epochs": epochs}) for step in plain.steps]
        found[complete(StageSequence(tuple(steps)))] = None
    return list(found)
