"""The runs of one task, grouped once: every analysis looks its records up here.

A run is one training: its accounting of epochs, its sequence with all knobs, its seed. A *chain* is a run of
distinct stages: an order, or a prefix or a subset of one. Kept apart from the chains are the controls, which
end in the fine-tune F, and repeats; the uncompressed baseline is no run.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from ordercomp.analysis.fronts import DEFAULT_SCALE, Scale, measure_all
from ordercomp.records import Record, TrainingCount
from ordercomp.sequence import Order, StageSequence, check_distinct

CONTROL = "F"  # the stage that trains on without compressing
USUAL = "DKLPSQWHEF"  # the order in which stages are named, if the caller does not say


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One setting of all knobs."""

    accounting: str
    steps: tuple[str, ...]  # each stage with its knobs, in the order of the stages asked about

    def __str__(self) -> str:
        return " ".join(self.steps)

    def of(self, letters: Collection[str]) -> "Setting":
        """The knobs of these stages alone."""
        return Setting(self.accounting, tuple(step for step in self.steps if step[0] in letters))


class Run(NamedTuple):
    """What tells a training from all others of its task."""

    accounting: str
    text: str  # of the sequence, as it formats itself
    seed: int

    @property
    def order(self) -> Order:
        """The stage letters."""
        return _order(self.text)

    @property
    def controlled(self) -> "Run | None":
        """The run that this one is the control of: the same without the F at its end; else None."""
        steps = parsed(self.text).steps
        if len(steps) < 2 or steps[-1].stage != CONTROL:
            return None
        return self._replace(text=str(StageSequence(steps[:-1])))

    def setting(self, stages: Order) -> Setting:
        """The knobs of its steps, which are among `stages`, and its accounting."""
        return _setting(self.accounting, self.text, stages)


@lru_cache(maxsize=2**16)
def parsed(text: str) -> StageSequence:
    """Parse a sequence text, remembering what was parsed before: records repeat a few texts at many seeds."""
    return StageSequence.parse(text)


@lru_cache(maxsize=2**16)
def _order(text: str) -> Order:
    return parsed(text).order


@lru_cache(maxsize=2**16)
def _setting(accounting: str, text: str, stages: Order) -> Setting:
    steps = map(str, parsed(text).steps)
    return Setting(accounting, tuple(sorted(steps, key=lambda step: stages.index(step[0]))))


@dataclass(frozen=True)
class RunTable:
    """Runs with their records; of two records of one run the later counts."""

    tasks: tuple[str, ...]
    stages: Order
    records: Mapping[Run, Record]  # failed ones too, in the order of their first records
    repeats: int  # records that a later one of their run replaced
    scale: Scale = DEFAULT_SCALE  # by which `measured` values them

    @classmethod
    def of(
        cls, records: Iterable[Record], *, stages: Order | None = None, scale: Scale = DEFAULT_SCALE
    ) -> "RunTable":
        """Group `records`; `stages` defaults to the letters that occur, without the control F.

        Raises ValueError if `stages` is no order of distinct letters, or is left out and none occurs.
        """
        records = list(records)
        tasks = tuple(sorted({record.task for record in records}))
        trained = [record for record in records if record.order]
        runs = {
            Run(record.accounting, _canonical(record.sequence), record.seed): record for record in trained
        }
        stages = _occurring(trained) if stages is None else check_distinct(stages)
        return cls(tasks, stages, runs, len(trained) - len(runs), scale)

    @property
    def task(self) -> str:
        """What was trained. Raises ValueError unless all records belong to one task."""
        if len(self.tasks) != 1:
            raise ValueError(f"records must belong to one task, got {', '.join(self.tasks) or 'no records'}")
        return self.tasks[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, rising."""
        return tuple(sorted({run.seed for run in self.records}))

    @cached_property
    def measured(self) -> dict[Run, float]:
        """The soft value of every run that did not fail, on `scale`.

        Raises ValueError if a point lacks the cost convention of `scale`, or its cost is no positive number.
        """
        values = measure_all(list(self.records.values()), scale=self.scale)
        return {run: value for run, value in zip(self.records, values, strict=True) if value is not None}

    @property
    def seconds(self) -> float:
        """Time that all trainings took."""
        return float(sum(record.seconds for record in self.records.values()))

    def trainings(self, reused: int) -> TrainingCount:
        """Count the trainings behind the table, of which `reused` were found in a store."""
        unshared = sum(len(record.order) for record in self.records.values())
        return TrainingCount(done=len(self.records), reused=reused, unshared=unshared)

    def chains(self, stages: Order | None = None) -> dict[Run, Record]:
        """The runs of distinct stages among `stages`, those of the table by default; no controls."""
        letters = set(self.stages if stages is None else stages)
        held = {
            text
            for text in {run.text for run in self.records}
            if len(set(order := _order(text))) == len(order) and letters.issuperset(order)
        }
        return {run: record for run, record in self.records.items() if run.text in held}

    def permutations(self, stages: Order | None = None) -> dict[tuple[Setting, int], dict[Order, Run]]:
        """Map every knob setting and seed to the runs there that use each of `stages` once, by order."""
        stages = self.stages if stages is None else stages
        groups: dict[tuple[Setting, int], dict[Order, Run]] = defaultdict(dict)
        for run in self.chains(stages):
            if len(run.order) == len(stages):
                groups[run.setting(stages), run.seed][run.order] = run
        return dict(groups)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how these records came about."""
        return (*_fresh_students(self), *_failures(self), *_mixtures(self))


@lru_cache(maxsize=2**16)
def _canonical(text: str) -> str:
    return str(parsed(text))


def _occurring(records: Sequence[Record]) -> Order:
    letters = {letter for record in records for letter in record.order} - {CONTROL}
    if not letters:
        got = "none" if records else "no records"
        raise ValueError(f"records must hold at least one stage besides the control F, got {got}")
    return "".join(sorted(letters, key=lambda letter: (USUAL.find(letter) % 100, letter)))


def _fresh_students(table: RunTable) -> list[str]:
    texts = {run.text for run in table.records}
    if not any(("student", "fresh") in step.knobs for text in texts for step in parsed(text).steps):
        return []
    return [
        "D trains a fresh student, so whatever came before it vanishes from the cost: "
        "D first is true by construction, not a finding."
    ]


def _failures(table: RunTable) -> list[str]:
    failed = sorted(
        f"{run.order} at seed {run.seed}" for run, record in table.records.items() if not record.points
    )
    if not failed:
        return []
    shown = ", ".join(failed[:5]) + (" and others" if len(failed) > 5 else "")
    return [f"{len(failed)} runs failed; they add no network to their chains: {shown}."]


def _mixtures(table: RunTable) -> list[str]:
    """Several accountings, repeated records, a sampler's choices."""
    notes = []
    modes = sorted({run.accounting for run in table.records})
    if len(modes) > 1:
        notes.append(f"Evidence from several accountings of epochs is averaged: {', '.join(modes)}.")
    if table.repeats:
        notes.append(f"{table.repeats} records repeat a run that was there before; the last one counts.")
    if any(record.extra.get("design") == "adaptive" for record in table.records.values()):
        notes.append(
            "A sampler chose some of these sequences: their knobs follow its preferences, not a design."
        )
    return notes
