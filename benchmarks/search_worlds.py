"""Worlds for tests and benchmarks of search, where nothing is trained: a made-up one, and tables of records.

In the made-up world each stage costs accuracy in proportion to how hard it is pushed; each pair of stages
against the law costs more, and a seed adds noise. It is a plain formula, no model of real networks, so a
study runs in milliseconds a trial.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ordercomp.knobs import Knob
from ordercomp.objectives import Objectives
from ordercomp.records import Baseline, OperatingPoint, Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import Study, open_study
from ordercomp.sequence import KnobValue, StageSequence, Step

SYNTHETIC_KNOBS: Mapping[str, Mapping[str, Knob]] = {
    "D": {"depth": Knob(default=0.5, help="share of blocks dropped", low=0.1, high=0.8, step=0.1)},
    "P": {"ratio": Knob(default=0.4, help="share of channels removed", low=0.1, high=0.8, step=0.1)},
    "Q": {
        "weights": Knob(default=4, help="bits of the weights", choices=(1, 2, 4, 8)),
        "activations": Knob(default=8, help="bits of the activations", choices=(2, 4, 8)),
    },
    "E": {"exits": Knob(default=2, help="exits before the last", low=1, high=3)},
}


SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticWorld:
    """An oracle: call it with a sequence and a seed to get a record."""

    law: str = "DPQE"  # the order without penalty
    penalty: float = 0.02  # accuracy that a pair against the law loses at full intensity
    noise: float = 0.002  # standard deviation of accuracy over seeds, roughly
    baseline: float = 0.98

    def __call__(self, sequence: StageSequence, seed: int) -> Record:
        """Measure `sequence` at `seed`: always the same numbers for the same arguments."""
        accuracy = self.baseline - self._loss(sequence) + self.noise * _noise(f"{sequence} {seed}")
        reduction = math.prod(_reduction(step) for step in sequence.steps)
        exits = max((int(step.settings["exits"]) for step in sequence.steps if step.stage == "E"), default=0)
        points = [_point(None, accuracy, reduction)]
        for level in range(1, 1 + 4 * bool(exits)):  # lower thresholds: cheaper and worse
            share = level / 4
            points.append(
                _point(1 - 0.2 * share, accuracy - 0.03 * share**2, reduction * (1 + 0.5 * exits * share))
            )
        return Record(
            order=sequence.order,
            sequence=str(sequence),
            task="synthetic",
            seed=seed,
            epochs=10.0 * len(sequence),
            seconds=_SECONDS.get(sequence.order[-1], 1.0),
            baseline=Baseline(accuracy=self.baseline, test_accuracy=self.baseline),
            points=tuple(points),
        )

    def _loss(self, sequence: StageSequence) -> float:
        pushed = [(step.stage, _intensity(step)) for step in sequence.steps]
        alone = sum(0.05 * hard**2 for _, hard in pushed)
        against = sum(
            math.sqrt(hard * harder)
            for (first, hard), (second, harder) in itertools.combinations(pushed, 2)
            if {first, second} <= set(self.law) and self.law.index(first) > self.law.index(second)
        )
        return alone + self.penalty * against


_SECONDS = {"D": 4.0, "P": 2.0, "Q": 3.0, "E": 1.0}


def _intensity(step: Step) -> float:
    """How hard a stage is pushed, from 0 to about 1."""
    knobs = step.settings
    if step.stage == "Q":
        bits = float(knobs["weights"]) * float(knobs["activations"])
        return max(0.0, 1 - math.log2(bits) / 8)
    if step.stage == "E":
        return 0.1 * float(knobs["exits"])
    return float(next(iter(knobs.values()), 0.0))


def _reduction(step: Step) -> float:
    knobs: Mapping[str, KnobValue] = step.settings
    if step.stage == "Q":
        return 1024 / (float(knobs["weights"]) * float(knobs["activations"]))
    if step.stage == "E":
        return 1.0
    return 1 / (1 - 0.9 * _intensity(step))


def _point(threshold: float | None, accuracy: float, reduction: float) -> OperatingPoint:
    accuracy = min(1.0, max(0.0, accuracy))
    cr = math.sqrt(reduction)
    return OperatingPoint(
        threshold=threshold, accuracy=accuracy, test_accuracy=accuracy, bitops_cr=reduction, cr=cr
    )


def _noise(text: str) -> float:
    """A number of mean 0 and standard deviation 1, uniform, drawn from the text."""
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    return math.sqrt(12) * (drawn - 0.5)


def open_world(
    storage: str | None, sampler: str = "random", *, name: str = "world", space: Space = SPACE, seed: int = 0
) -> Study:
    """A study with the default objectives, and a sampler by name."""
    built = make_sampler(sampler, space, seed=seed)
    return open_study(storage, name=name, space=space, objectives=Objectives(), sampler=built, task="world")


# A runner without training: it counts the stage trainings that a real one would have paid for.

Oracle = Callable[[StageSequence, int], Record]


def oracle_of(records: Iterable[Record]) -> Oracle:
    """Turn records into a function of sequence and seed; what was not recorded is a failed record.

    Raises ValueError if there are no records.
    """
    table: Mapping[tuple[str, int], Record] = {(record.sequence, record.seed): record for record in records}
    if not table:
        raise ValueError("records must not be empty")
    first = next(iter(table.values()))

    def look_up(sequence: StageSequence, seed: int) -> Record:
        missing = replace(
            first,
            order=sequence.order,
            sequence=str(sequence),
            seed=seed,
            points=(),
            error="not in the table",
        )
        return table.get((str(sequence), seed), missing)

    return look_up


def space_of(records: Iterable[Record]) -> Space:
    """The space of a table: orders of some of its stages, each knob with the values that occur.

    Controls (F) are no part of it. Raises ValueError if there are no records of other stages.
    """
    occurring: dict[str, dict[str, set[KnobValue]]] = {}
    for record in records:
        for step in StageSequence.parse(record.sequence).steps:
            values = occurring.setdefault(step.stage, {})
            for name, value in step.settings.items():
                values.setdefault(name, set()).add(value)
    knobs = {
        stage: {
            name: Knob(default=min(seen, key=str), help="", choices=tuple(sorted(seen, key=str)))
            for name, seen in values.items()
        }
        for stage, values in occurring.items()
        if stage != "F"
    }
    stages = sorted(knobs, key=lambda stage: ("DPQE".find(stage) % 9, stage))
    return Space("".join(stages), knobs, optional=True)


class TableRunner:
    """Answers requests in the order in which they come, prefix by prefix, as a runner with one worker would.

    Nodes that failed cost nothing.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.workers = 1
        self._done: set[tuple[str, int]] = set()
        self.trainings = 0  # stage trainings so far
        self.seconds = 0.0  # that they would have taken, by the records

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        """Yield every node of every request, each distinct node once; never looks ahead."""
        del lookahead
        yielded: set[tuple[str, int]] = set()
        for request in requests:
            failed: Record | None = None
            for prefix in request.sequence.prefixes:
                key = (str(prefix), request.seed)
                if failed is not None:
                    record = replace(failed, order=prefix.order, sequence=str(prefix), seconds=0.0)
                    yield Finished(Request(prefix, request.seed), record, False)
                    continue
                record = self._oracle(prefix, request.seed)
                failed = record if record.error is not None else None
                reused = key in self._done
                if not reused and failed is None:
                    self._done.add(key)
                    self.trainings += 1
                    self.seconds += record.seconds
                if key not in yielded:
                    yielded.add(key)
                    yield Finished(Request(prefix, request.seed), record, reused)
