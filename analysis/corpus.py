"""The records that one law is derived from: one task, valued, by sequence and seed, with their caveats."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts import Measured, Scale, measure
from ordercomp.analysis.pairs import CONTROL, Run, parsed
from ordercomp.codec import OMITTED
from ordercomp.records import Record
from ordercomp.sequence import Order, check_order, permutations

FloatArray = npt.NDArray[np.float64]
SEQUENTIAL = "sequential"  # extra["design"] of what was trained because of the results so far
USUAL = "DKLPSQWHEF"  # the order in which stages are named, if the caller does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCount:
    """How many trainings results took."""

    done: int
    reused: int  # found in a store
    baselines: int | None = field(default=None, metadata=OMITTED)  # done beside; records do not tell
    unshared: int  # if no two sequences shared their first stages


@dataclass(frozen=True, slots=True)
class Corpus:
    """Measured runs of one task."""

    task: str
    stages: Order
    runs: Mapping[Run, Measured]
    failed: frozenset[Run]
    seeds: tuple[int, ...]
    chosen: frozenset[int]  # seeds at which something was trained because of the results so far
    bound: float  # the largest value that occurs: no difference can exceed it
    trained: int  # records, controls included
    unshared: int  # stage trainings if no prefix were shared
    seconds: float
    notes: tuple[str, ...]

    def planned(self, seeds: Sequence[int]) -> int | None:
        """How many of `seeds` were fixed before any look at the results; None if all of them were."""
        return len(set(seeds) - self.chosen) if self.chosen.intersection(seeds) else None

    def permutation_values(self, stages: Order) -> tuple[dict[Order, FloatArray], tuple[int, ...]]:
        """Return the value on test data of every permutation of `stages`, shape (seeds,), and the seeds.

        Averaged over the knob settings that are complete at all these seeds; a failed run is worth 0, since
        the baseline remains. Both are empty if no setting has all permutations at any seed.
        """
        complete = self._complete_settings(stages)
        if not complete:
            return {}, ()
        shared = set.intersection(*complete.values())
        if not shared:
            most = max(complete, key=lambda key: (len(complete[key]), sorted(key[1])))
            complete, shared = {most: complete[most]}, complete[most]
        seeds = tuple(sorted(shared))
        values = {
            order: np.array(
                [
                    np.mean([self._value(accounting, order, steps, seed) for accounting, steps in complete])
                    for seed in seeds
                ]
            )
            for order in permutations(stages)
        }
        return values, seeds

    def _complete_settings(self, stages: Order) -> dict[tuple[str, frozenset[str]], set[int]]:
        """Map each setting (accounting, steps with knobs) to the seeds with all permutations, some done."""
        found: dict[tuple[str, frozenset[str], int], int] = Counter()
        measured: set[tuple[str, frozenset[str], int]] = set()
        for accounting, text, seed in [*self.runs, *self.failed]:
            steps = parsed(text).steps
            if sorted(step.stage for step in steps) == sorted(stages):
                key = (accounting, frozenset(map(str, steps)), seed)
                found[key] += 1
                if (accounting, text, seed) in self.runs:
                    measured.add(key)
        wanted = math.factorial(len(stages))
        complete: dict[tuple[str, frozenset[str]], set[int]] = defaultdict(set)
        for (accounting, setting, seed), count in found.items():
            if count == wanted and (accounting, setting, seed) in measured:
                complete[accounting, setting].add(seed)
        return complete

    def _value(self, accounting: str, order: Order, steps: frozenset[str], seed: int) -> float:
        by_letter = {step[0]: step for step in steps}
        run = (accounting, " ".join(by_letter[letter] for letter in order), seed)
        return self.runs[run].test_value if run in self.runs else 0.0


def collect(records: Sequence[Record], *, stages: Order | None, scale: Scale) -> Corpus:
    """Value the records and sort them; of two records of the same run the later one counts.

    `stages` defaults to the letters that occur, without the control F. Raises ValueError if there are no
    records, if they belong to several tasks, or if `stages` is no order of distinct letters.
    """
    tasks = sorted({record.task for record in records})
    if len(tasks) != 1:
        raise ValueError(f"records must belong to one task, got {', '.join(tasks) or 'no records'}")
    latest = {_run(record): record for record in records if record.order}
    measured = {run: measure(record, scale=scale) for run, record in latest.items()}
    runs = {run: value for run, value in measured.items() if value is not None}
    stages = _stages(records) if stages is None else check_order(stages)
    if len(set(stages)) != len(stages):
        raise ValueError(f"stages must be distinct letters, got {stages!r}")
    return Corpus(
        task=tasks[0],
        stages=stages,
        runs=runs,
        failed=frozenset(set(measured) - set(runs)),
        seeds=tuple(sorted({seed for _, _, seed in latest})),
        chosen=frozenset(run[2] for run, record in latest.items() if _is_sequential(record)),
        bound=max([run.value for run in runs.values()], default=0.0) or 1.0,
        trained=len(latest),
        unshared=sum(len(record.order) for record in latest.values()),
        seconds=float(sum(record.seconds for record in latest.values())),
        notes=tuple(_notes(records, latest, measured)),
    )


def _run(record: Record) -> Run:
    accounting = record.accounting
    return accounting, str(parsed(record.sequence)), record.seed


def _is_sequential(record: Record) -> bool:
    return bool(record.extra.get("design") == SEQUENTIAL)


def _stages(records: Sequence[Record]) -> Order:
    letters = {letter for record in records for letter in record.order} - {CONTROL}
    if not letters:
        raise ValueError("records must hold at least one stage besides the control F, got none")
    return "".join(sorted(letters, key=lambda letter: (USUAL.find(letter) % 100, letter)))


def _notes(
    records: Sequence[Record], latest: Mapping[Run, Record], measured: Mapping[Run, Measured | None]
) -> list[str]:
    notes = []
    texts = {text for _, text, _ in latest}
    if any(("student", "fresh") in step.knobs for text in texts for step in parsed(text).steps):
        notes.append(
            "D trains a fresh student, so whatever came before it vanishes from the cost: "
            "D first is true by construction, not a finding."
        )
    failed = sorted(
        f"{latest[run].order} at seed {run[2]}" for run, value in measured.items() if value is None
    )
    if failed:
        shown = ", ".join(failed[:5]) + (" and others" if len(failed) > 5 else "")
        notes.append(f"{len(failed)} runs failed and are left out of the pairs: {shown}.")
    modes = sorted({accounting for accounting, _, _ in latest})
    if len(modes) > 1:
        notes.append(f"Evidence from several accountings of epochs is averaged: {', '.join(modes)}.")
    doubled = sum(1 for record in records if record.order) - len(latest)
    if doubled:
        notes.append(f"{doubled} records repeat a run that was there before; the last one counts.")
    if any(record.extra.get("design") == "adaptive" for record in latest.values()):
        notes.append(
            "A sampler chose some of these sequences: their knobs follow its preferences, not a design."
        )
    return notes
