"""A made-up world with a known law, for tests and benchmarks of search: not a model of real networks.

Each stage costs accuracy in proportion to how hard it is pushed; each pair of stages against the law
costs more, and a seed adds noise. Every number is a plain formula, so a study on it runs in milliseconds
a trial.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ordercomp.knobs import Knob
from ordercomp.records import Baseline, OperatingPoint, Record
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
            math.sqrt(one[1] * other[1])
            for one, other in itertools.combinations(pushed, 2)
            if {one[0], other[0]} <= set(self.law) and self.law.index(one[0]) > self.law.index(other[0])
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
    kept = min(1.0, max(0.0, accuracy))
    return OperatingPoint(
        threshold=threshold, accuracy=kept, test_accuracy=kept, bitops_cr=reduction, cr=math.sqrt(reduction)
    )


def _noise(text: str) -> float:
    """A number of mean 0 and standard deviation 1, uniform, drawn from the text."""
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    return math.sqrt(12) * (drawn - 0.5)
