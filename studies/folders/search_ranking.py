"""How the points of a search compare: by its objectives, within its constraints, on validation data.

Three questions, three answers. The front holds what no other point beats in all objectives. The best point
within a tolerated loss is the one of least cost, where the cost is the first of bit operations, storage and
latency that the search had as an objective. The value of a set of points is that of `analysis.fronts`, in
doublings of the reduction of storage if that is the cost, of bit operations otherwise: a latency knows no
baseline to be compared with.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ordercomp.analysis.fronts import Candidate, Scale, candidates, hypervolume, is_nondominated
from ordercomp.analysis.report.result_files import Cost
from ordercomp.records import Record
from ordercomp.search.objective import OBJECTIVES, Objectives

COSTS: tuple[Cost, ...] = get_args(Cost)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Compares operating points as a search with these objectives does."""

    objectives: Objectives

    @property
    def scale(self) -> Scale:
        """Validation data, and the objectives' convention of cost."""
        return Scale(split="validation", convention=self.objectives.convention)

    @property
    def cost(self) -> Cost:
        """The objective by which `best` goes; that of bit operations where no cost is an objective."""
        return next((name for name in COSTS if name in self.objectives.names), COSTS[0])

    def candidates(self, records: Iterable[Record]) -> list[Candidate]:
        """The operating points that respect the constraints. Raises ValueError as `Objectives.keeps` does."""
        every = candidates(records, scale=self.scale)
        return [one for one in every if self.objectives.keeps(one.record, one.point)]

    def front(self, points: Sequence[Candidate]) -> list[Candidate]:
        """The points that no other beats in all objectives, by falling cost; equal ones are all kept."""
        kept = _undominated(points, [self._costs(one) for one in points])
        return sorted(kept, key=self._rank, reverse=True)

    def best(self, points: Iterable[Candidate], tolerance: float) -> Candidate | None:
        """The point of least cost with a loss of at most `tolerance`; None if there is none.

        Ties go to the smaller loss, then to the shorter order, never to what happened to come first.
        """
        within = [one for one in points if one.loss <= tolerance + 1e-12]
        return min(within, key=self._rank, default=None)

    def value(self, points: Sequence[Candidate]) -> float:
        """What the points are worth in doublings; 0 without any."""
        if not points:
            return 0.0
        weights = self.scale.weigh(np.array([one.loss for one in points]))
        reductions = np.array([self._doublings(one) for one in points])
        return hypervolume(np.column_stack([-weights, -reductions]), (0.0, 0.0))

    def outline(self, points: Sequence[Candidate]) -> list[Candidate]:
        """The points without those that add nothing to `value`."""
        return _undominated(points, [[one.loss, -self._doublings(one)] for one in points])

    def _rank(self, one: Candidate) -> tuple[float, float, int, str, float]:
        """What sorts the least cost to the front, the same way in whatever order networks were trained."""
        threshold = math.inf if one.point.threshold is None else one.point.threshold
        name = one.record.sequence
        return -self._gain(self.cost, one), one.loss, len(one.record.order), name, threshold

    def _costs(self, one: Candidate) -> list[float]:
        """All objectives, to be minimized; accuracy as the loss against the record's own baseline."""
        names = self.objectives.names
        return [one.loss if name == "accuracy" else -self._gain(name, one) for name in names]

    def _gain(self, name: str, one: Candidate) -> float:
        objective = OBJECTIVES[name]
        value = objective.value(one.point, self.objectives.convention)
        return value if objective.direction == "maximize" else -value

    def _doublings(self, one: Candidate) -> float:
        return math.log2(one.cr) if self.cost == "log2_cr" else one.log2_reduction


def _undominated(points: Sequence[Candidate], costs: Sequence[Sequence[float]]) -> list[Candidate]:
    if not points:
        return []
    return [one for one, keep in zip(points, is_nondominated(costs), strict=True) if keep]
