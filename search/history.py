"""What a study has measured so far, in the form that a model and a price list need."""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import optuna
from optuna.trial import TrialState

from ordercomp.knobs import Knob
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.search.space import Space
from ordercomp.sequence import KnobValue, Order, StageSequence


class FrontPoint(NamedTuple):
    """An operating point and the sequence that has it."""

    accuracy: float
    reduction: float  # log2
    sequence: StageSequence


@dataclass(slots=True)
class Front:
    """Points of accuracy and log2 reduction that no other beats, above a floor of accuracy."""

    floor: float  # accuracy at which a point is worth nothing
    points: list[FrontPoint] = field(default_factory=list)  # accuracy falls, reduction rises

    def add(self, point: FrontPoint) -> None:
        """Take in a point and drop what it beats."""
        if self.gain(point.accuracy, point.reduction) > 0:
            others = [p for p in self.points if p.accuracy > point.accuracy or p.reduction > point.reduction]
            self.points = sorted([*others, point], key=lambda p: (p.accuracy, p.reduction), reverse=True)

    def leader(self, accuracy: float) -> StageSequence | None:
        """The most compressed of the sequences that are at least so accurate; None if none is."""
        good = [point for point in self.points if point.accuracy >= accuracy]
        return good[-1].sequence if good else None

    def gain(self, accuracy: float, reduction: float) -> float:
        """Area that the point would add; reductions count from 0."""
        area, left = 0.0, 0.0
        corners = [(point.accuracy, point.reduction) for point in self.points]
        for level, right in [*corners, (self.floor, math.inf)]:
            width = min(reduction, right) - left
            if width > 0:
                area += width * max(0.0, accuracy - max(level, self.floor))
            left = max(left, right)
        return area


class History:
    """The records of a study at one seed; `update` reads the trials that finished since."""

    def __init__(self, space: Space, objectives: Objectives, seed: int) -> None:
        self._space = space
        self._objectives = objectives
        self._seed = seed
        self._seen: set[int] = set()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.front: Front | None = None  # None before the first record
        self.trained: dict[str, StageSequence] = {}  # nodes by text, prefixes of measured ones too
        self.by_order: defaultdict[Order, list[StageSequence]] = defaultdict(list)  # the same nodes
        self.failed: set[str] = set()  # sequences that failed for good, or were abandoned
        self.inputs: list[list[float]] = []
        self.outputs: list[list[float]] = []  # accuracy, log2 reduction

    def update(self, study: optuna.Study) -> None:
        """Read what is new."""
        ended = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)
        for trial in study.get_trials(deepcopy=False, states=ended):
            if trial.number in self._seen:
                continue
            self._seen.add(trial.number)
            facts = trial.user_attrs
            if facts.get("seed") != self._seed:
                continue
            if trial.state == TrialState.COMPLETE and "record" in facts:
                self._add(Record.from_json(facts["record"]))
            elif "sequence" in facts and ("record" in facts or "abandoned" in facts):
                self.failed.add(facts["sequence"])

    def has_failed(self, sequence: StageSequence) -> bool:
        """Whether it failed for good, or begins with what did."""
        return any(str(prefix) in self.failed for prefix in sequence.prefixes)

    def missing_seconds(self, sequence: StageSequence) -> float:
        """Seconds that the untrained stages of `sequence` will take, by the mean of each stage so far."""
        missing = [prefix.order[-1] for prefix in sequence.prefixes if str(prefix) not in self.trained]
        return sum(self._mean_seconds(stage) for stage in missing)

    def _add(self, record: Record) -> None:
        sequence = StageSequence.parse(record.sequence)
        for prefix in sequence.prefixes:
            if str(prefix) not in self.trained:
                self.trained[str(prefix)] = prefix
                self.by_order[prefix.order].append(prefix)
        self._seconds[record.order[-1]].append(record.seconds)
        if self.front is None:
            self.front = Front(record.baseline.accuracy - self._objectives.box_loss)
        for point in record.points:
            reduction = math.log2(self._objectives.reduction(point))
            self.front.add(FrontPoint(point.accuracy, reduction, sequence))
        best = self._objectives.choose(record)
        self.inputs.append(features(self._space, sequence))
        self.outputs.append([best.accuracy, math.log2(self._objectives.reduction(best))])

    def _mean_seconds(self, stage: str) -> float:
        own = self._seconds.get(stage)
        seconds = own or list(itertools.chain.from_iterable(self._seconds.values())) or [1.0]
        return max(1e-9, sum(seconds) / len(seconds))


def features(space: Space, sequence: StageSequence) -> list[float]:
    """Describe a sequence by numbers: for each stage its place and knobs, for each pair which comes first."""
    order, numbers = sequence.order, []
    for stage in space.stages:
        numbers += [float(order.count(stage)), float(order.find(stage))]
        own = [step.settings for step in sequence.steps if step.stage == stage]
        for name, knob in space.knobs[stage].items():
            numbers.append(_coordinate(knob, own[-1].get(name, knob.default)) if own else -1.0)
    for place, first in enumerate(space.stages):
        for second in space.stages[place + 1 :]:
            there = first in order and second in order
            numbers.append(float(order.find(second) > order.find(first)) - 0.5 if there else 0.0)
    return numbers


def _coordinate(knob: Knob, value: KnobValue) -> float:
    if knob.choices:
        return float(knob.choices.index(value))
    return math.log(float(value)) if knob.log else float(value)
