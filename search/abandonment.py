"""Early abandonment: stop a pipeline whose measured prefix can no longer lead anywhere.

Optuna has no pruner for several objectives. Here the prefixes of a trial are trained one by one, and
after each the rule looks at what was measured: accuracy that later stages cannot win back, or a place on
the plane from which even the largest reductions seen so far would end behind the front. Such a trial is
told as pruned (in Optuna's sense) with the reason; its trained prefixes stay results.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ordercomp.objectives import bitops_reduction
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandonment:
    """When to give up a pipeline. The defaults are meant to err on the side of going on."""

    tolerance: float = 0.1  # accuracy below the baseline at which a network is of no use, a fraction
    recovery: float = 0.05  # accuracy that the stages to come may win back, a fraction
    slack: float = 1.0  # added to the largest log2 reduction seen of each stage to come
    evidence: int = 5  # reductions of a stage to have seen before they bound what it can do

    def __post_init__(self) -> None:
        for name in ("tolerance", "recovery", "slack"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.evidence < 1:
            raise ValueError(f"evidence must be at least 1, got {self.evidence}")

    def reason(self, prefix: Record, remaining: Order, attained: "Attained") -> str | None:
        """Say why the pipeline should end after `prefix`, with the stages `remaining`; None to go on."""
        if not prefix.points or not remaining:
            return None
        accuracy = max(point.accuracy for point in prefix.points) + self.recovery
        if accuracy < prefix.baseline.accuracy - self.tolerance:
            return f"accuracy after {prefix.order} can recover to {accuracy:.4f} at most"
        bound = attained.bound(remaining, slack=self.slack, evidence=self.evidence)
        reduction = bound + max(gain for _, gain in attained.places(prefix))
        if attained.dominates(accuracy, reduction):
            return f"after {prefix.order}, {accuracy:.4f} at 2^{reduction:.2f} at most is behind the front"
        return None


class Attained:
    """What has been measured: where every point lies, and the largest reduction that each stage brought."""

    def __init__(self, convention: str = "paper") -> None:
        self.convention = convention
        self._largest: dict[tuple[tuple[Step, ...], int], float] = {}  # log2 reduction by node
        self._gains: defaultdict[str, list[float]] = defaultdict(list)  # over the prefix, by stage
        self._places: list[tuple[float, float]] = []  # of every point, those that others beat, too

    @classmethod
    def of(cls, records: Iterable[Record], convention: str = "paper") -> "Attained":
        """What `records` tell, in whatever order they come."""
        attained = cls(convention)
        for record in sorted(records, key=lambda record: len(record.order)):
            attained.add(record)
        return attained

    def add(self, record: Record) -> None:
        """Take in a finished record, which tells of its last stage where its prefix is known."""
        places, steps = self.places(record), StageSequence.parse(record.sequence).steps
        if not places:
            return
        largest = self._largest[steps, record.seed] = max(gain for _, gain in places)
        before = 0.0 if len(steps) == 1 else self._largest.get((steps[:-1], record.seed))
        if before is not None:
            self._gains[record.order[-1]].append(largest - before)
        self._places += places

    def bound(self, remaining: Order, *, slack: float, evidence: int) -> float:
        """Bound log2 of what the stages `remaining` can still reduce; infinite while one is little known."""
        if any(len(self._gains[stage]) < evidence for stage in remaining):
            return math.inf
        return sum(max(0.0, *self._gains[stage]) + slack for stage in remaining)

    def dominates(self, accuracy: float, log2_reduction: float) -> bool:
        """Whether some measured point is at least as good in both and better in one."""
        return any(
            a >= accuracy and r >= log2_reduction and (a, r) != (accuracy, log2_reduction)
            for a, r in self._places
        )

    def places(self, record: Record) -> list[tuple[float, float]]:
        """Give accuracy and log2 reduction of each operating point."""
        return [
            (point.accuracy, math.log2(bitops_reduction(point, self.convention))) for point in record.points
        ]
