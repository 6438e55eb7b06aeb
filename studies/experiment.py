"""What an experiment is: a question, what it trains, how it decides from the records, how it draws them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ordercomp.analysis.fronts import group
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.statistics import Effect
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.task import Task
from ordercomp.sequence import Order, PrefixTrie, StageSequence, Step
from ordercomp.stages.catalog import complete, known_stages
from ordercomp.studies.facts import LAW
from ordercomp.studies.preset import Preset, Setting

ClaimVerdict = Literal["agree", "disagree", "undecided", "true by construction"]
CONTROL = Step("F")  # more training without compression


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests of one task; most experiments have a single part."""

    task: Task
    requests: tuple[Request, ...]  # in the order of training

    @property
    def nodes(self) -> list[tuple[StageSequence, int]]:
        """Sequence and seed of every training, without the baselines; what is shared stands there again."""
        return [(prefix, request.seed) for request in self.requests for prefix in request.sequence.prefixes]

    @property
    def unshared_trainings(self) -> int:
        """Stage trainings if every network started from its baseline."""
        trie = PrefixTrie([(str(s), r.seed) for s in r.sequence.steps] for r in self.requests)
        return trie.unshared_trainings


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A task at the scale of a preset: from orders to requests, alike for all orders that are compared."""

    task: Task  # as the preset prepares it
    preset: Preset

    @property
    def law(self) -> Order:
        """The paper's law on the stages of the task."""
        return restrict(LAW, self.task.stages)

    def sequences(self, orders: Iterable[Order]) -> list[StageSequence]:
        """Every order at every knob setting that the preset has for its stages, without doubles.

        Orders of the same stages meet the same settings, so that they differ in nothing else.
        """
        return _distinct(
            self.task.sequence(order, setting) for order in orders for setting in self._grid(order)
        )

    def ladder(self, stages: Iterable[str]) -> list[StageSequence]:
        """Each of the stages alone at the settings of its ladder."""
        return _distinct(
            self.task.sequence(stage, setting) for stage in stages for setting in self.preset.alone(stage)
        )

    def share_epochs(self, orders: Iterable[Order]) -> list[StageSequence]:
        """The orders at the preset's first knob setting, each as long as all stages of the task together.

        So orders of different lengths share out the same number of epochs. An order with as many stages as
        the task trains each as long as the recipe says, like everywhere else.
        """
        wanted, plain = [], replace(self.task, accounting="per-stage")
        for order in orders:
            sequence = plain.sequence(order, self._grid(order)[0])
            trained = [stage for stage in order if "epochs" in known_stages()[stage].knobs]
            if len(trained) != len(self.task.stages):
                epochs = self.task.recipe.epochs * len(self.task.stages) / len(trained)
                sequence = with_knobs(sequence, {stage: {"epochs": epochs} for stage in trained})
            wanted.append(sequence)
        return _distinct(wanted)

    def part(
        self, wanted: Iterable[StageSequence], *, controlled: bool = True, total: bool = False
    ) -> Workload:
        """All sequences at seed 0, then all at seed 1, and so on, so that an early end leaves whole seeds.

        Args:
            wanted: what is trained; doubles are left out.
            controlled: add control arms if the preset has them.
            total: mark the records as accounted by total epochs.
        """
        sequences = _distinct(wanted)
        sequences += controls(sequences) if controlled and self.preset.controls else []
        return Workload(
            task=replace(self.task, accounting="total") if total else self.task,
            requests=self.requests(sequences),
        )

    def requests(self, wanted: Iterable[StageSequence]) -> tuple[Request, ...]:
        """The sequences at seed 0, then at seed 1, and so on."""
        wanted = list(wanted)
        return tuple(Request(sequence, seed) for seed in range(self.preset.seeds) for sequence in wanted)

    def _grid(self, order: Order) -> list[Setting]:
        return self.preset.grid("".join(sorted(set(order))))


def controls(wanted: Iterable[StageSequence]) -> list[StageSequence]:
    """F after every static prefix of the sequences, which shows whether it was trained to the end."""
    stages = known_stages()

    def is_static(step: Step) -> bool:
        return not stages[step.stage].dynamic and step.stage != CONTROL.stage

    return _distinct(
        prefix + CONTROL
        for sequence in wanted
        for prefix in sequence.prefixes
        if all(map(is_static, prefix.steps))
    )


def restrict(order: Order, stages: Iterable[str]) -> Order:
    """The order without the letters that are not among `stages`."""
    return "".join(letter for letter in order if letter in stages)


def with_knobs(sequence: StageSequence, knobs: Setting) -> StageSequence:
    """The sequence with the stages' knobs set so, the others as they were."""
    steps = [Step.of(step.stage, {**step.settings, **knobs.get(step.stage, {})}) for step in sequence.steps]
    return complete(StageSequence(tuple(steps)))


def _distinct(wanted: Iterable[StageSequence]) -> list[StageSequence]:
    return list(dict.fromkeys(wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim of the paper beside what was measured."""

    claim: str
    measured: str  # in words and numbers
    verdict: ClaimVerdict
    seeds: int
    effect: float | None = None  # in doublings of value; positive speaks for the claim
    interval: tuple[float, float] | None = None
    caveat: str = ""

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, with seeds and interval."""
        seeds = f"{self.seeds} seed{'s' if self.seeds != 1 else ''}"
        caveat = f" {self.caveat}" if self.caveat else ""
        return f"{self.verdict.capitalize()}: {self.claim}. Measured over {seeds}: {self.measured}.{caveat}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What records say about the question; drawn from them alone."""

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...] = ()  # ours and the paper's own, side by side
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One question, with plain functions that plan, decide and draw it.

    They get the task as the preset prepares it, in a design, and the `latest` records.
    """

    name: str
    section: str  # of the paper, with the figure or table
    question: str
    plan: Callable[[Design], Sequence[Workload]]
    rule: Callable[[Sequence[Record]], Conclusion]
    draw: Callable[[Sequence[Record]], Mapping[str, str]]

    def parts(self, task: Task, preset: Preset) -> Sequence[Workload]:
        """What is trained of the task at the preset."""
        return self.plan(Design(task=preset.prepare(task), preset=preset))

    def decide(self, records: Iterable[Record]) -> Conclusion:
        """Apply the decision rule of the experiment to the records, in whatever order they come."""
        return self.rule(latest(records))

    def figures(self, records: Iterable[Record]) -> Mapping[str, str]:
        """The figures of the experiment, SVG texts by file stem."""
        return self.draw(latest(records))


# Records, and what is said of them.


def latest(records: Iterable[Record]) -> list[Record]:
    """One record of each task, accounting, sequence and seed: the last; in an order of their own.

    Baselines are left out. So nothing that is told of the records depends on which training ended first.
    """
    by_run = {
        (record.task, record.accounting, record.sequence, record.seed): record
        for record in records
        if record.order
    }

    def place(run: tuple[str, str, str, int]) -> tuple[str, str, str, str, int]:
        task, accounting, sequence, seed = run
        return task, accounting, sequence.rpartition(" ")[2], sequence, seed

    return [by_run[run] for run in sorted(by_run, key=place)]


def by_order(records: Iterable[Record]) -> dict[Order, list[Record]]:
    """The records of each order."""
    return group(records, lambda record: record.order)


def by_sequence(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each sequence, by its text."""
    return group(records, lambda record: record.sequence)


def interval_of(effect: Effect) -> tuple[float, float] | None:
    """The ends of an estimate's interval; None where there is none, with one seed."""
    return (effect.low, effect.high) if math.isfinite(effect.error) else None


def effect_text(effect: Effect) -> str:
    """An estimate with its interval, if it has one."""
    ends = interval_of(effect)
    return f"{effect.mean:+.2f}" + ("" if ends is None else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]")


def words_table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    """A table of words, all of them set to the left."""
    return Table.of(title, columns, rows, left=columns)
