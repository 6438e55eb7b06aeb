"""What a trial is told: the objectives and constraints of one record, on validation data.

A record with early exits has many operating points, but an Optuna trial has one value per objective. The
point told is the one that alone covers the largest area in a fixed box: accuracy above `baseline -
box_loss`, times log2 of the BitOps reduction. The box depends on nothing but the record, so the same
record is always told alike. All points stay in the trial's `record`, and fronts are drawn from them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ordercomp.codec import Number
from ordercomp.records import Convention, CostName, OperatingPoint, Record

LOSS = 0.02  # tolerated, a fraction of accuracy
SEEDS = 12  # at most; only chains that stay in doubt come so far
COST: CostName = "bitops"  # whose reduction the answer is about


Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Which numbers a study optimizes, and what it must respect. Raises ValueError for what cannot be."""

    names: tuple[str, ...] = ("accuracy", "log2_bitops_cr")
    convention: Convention = "paper"  # how costs are counted: paper, honest, apot or nonzero
    box_loss: Number = 0.1  # accuracy below the baseline at which an operating point is worth nothing
    max_loss: Number | None = None  # constraint: accuracy below the baseline at most, a fraction
    max_bytes: Number | None = None  # constraint: storage of the network

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"objectives must be distinct names, got {self.names}")
        if unknown := [name for name in self.names if name not in OBJECTIVES]:
            raise ValueError(f"objectives must be among {', '.join(OBJECTIVES)}, got {unknown[0]!r}")
        conventions = get_args(Convention)
        if self.convention not in conventions:
            raise ValueError(f"convention must be among {', '.join(conventions)}, got {self.convention!r}")
        if not 0 < self.box_loss <= 1:
            raise ValueError(f"box_loss must lie in (0, 1], got {self.box_loss}")
        if self.max_loss is not None and not 0 <= self.max_loss < 1:
            raise ValueError(f"max_loss must lie in [0, 1), a fraction of accuracy, got {self.max_loss}")
        if self.max_bytes is not None and not self.max_bytes > 0:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")

    @property
    def directions(self) -> list[Direction]:
        """The Optuna direction of each objective."""
        return [OBJECTIVES[name].direction for name in self.names]

    def choose(self, record: Record) -> OperatingPoint:
        """Pick the operating point that stands for the record.

        Among the points that keep `max_loss` (all, if none does), the one with the largest area in the
        box; the most accurate if none lies inside; the smaller cost on a tie. Raises ValueError if there
        are no points.
        """
        if not record.points:
            raise ValueError(
                f"record of {record.sequence!r} has no operating points: {record.error or 'unknown'}"
            )
        candidates = [point for point in record.points if self._keeps_loss(record, point)] or record.points
        floor = record.baseline.accuracy - self.box_loss

        def worth(point: OperatingPoint) -> tuple[float, float, float]:
            gain = math.log2(bitops_reduction(point, self.convention))
            area = max(0.0, point.accuracy - floor) * max(0.0, gain)
            return area, point.accuracy, gain

        return max(candidates, key=worth)

    def values(self, record: Record) -> list[float]:
        """Give the objective values to tell, in the order of `names`.

        Raises ValueError if the record lacks a number, e.g. a latency or the costs of another convention.
        """
        point = self.choose(record)
        return [OBJECTIVES[name].value(point, self.convention) for name in self.names]

    def constraints(self, record: Record) -> dict[str, float]:
        """Give each constraint's violation: positive is infeasible, as `Trial.set_constraint` wants it."""
        violations = {}
        point = self.choose(record)
        if self.max_loss is not None:
            violations["loss"] = record.baseline.accuracy - point.accuracy - self.max_loss
        if self.max_bytes is not None:
            violations["bytes"] = _stored_bytes(record, point, self.convention) - self.max_bytes
        return violations

    def keeps(self, record: Record, point: OperatingPoint) -> bool:
        """Whether an operating point respects every constraint. Raises ValueError as `constraints` does."""
        if self.max_bytes is not None and _stored_bytes(record, point, self.convention) > self.max_bytes:
            return False
        return self._keeps_loss(record, point)

    def reduction(self, point: OperatingPoint) -> float:
        """How many times smaller, in bit operations, or in storage where that alone is an objective."""
        stored = "log2_cr" in self.names and "log2_bitops_cr" not in self.names
        return (storage_reduction if stored else bitops_reduction)(point, self.convention)

    def check_bitops(self, who: str) -> None:
        """Raise ValueError, on behalf of `who`, unless bit operations are an objective."""
        if "log2_bitops_cr" not in self.names:
            raise ValueError(
                f"{who} goes by bit operations, so objectives must hold log2_bitops_cr, got {self.names}"
            )

    def restrict(self, record: Record) -> Record:
        """The record without the operating points that break a constraint."""
        return replace(record, points=tuple(point for point in record.points if self.keeps(record, point)))

    def _keeps_loss(self, record: Record, point: OperatingPoint) -> bool:
        allowed = 1.0 if self.max_loss is None else self.max_loss
        return record.baseline.accuracy - point.accuracy <= allowed


@dataclass(frozen=True, slots=True)
class _Objective:
    direction: Direction  # as Optuna spells it
    value: Callable[[OperatingPoint, str], float]


def bitops_reduction(point: OperatingPoint, convention: str = "paper") -> float:
    """How many times fewer bit operations than the baseline, in the convention asked for."""
    return _counted(point, convention, "bitops_cr", point.bitops_cr)


def storage_reduction(point: OperatingPoint, convention: str = "paper") -> float:
    """How many times less storage than the baseline, in the convention asked for."""
    return _counted(point, convention, "cr", point.cr)


def _convention_in(convention: str, counted: Mapping[str, object]) -> str:
    """The convention under which costs are found: where no weight is zero, `nonzero` is `honest`."""
    return "honest" if convention == "nonzero" and convention not in counted else convention


def _counted(point: OperatingPoint, convention: str, name: str, paper: float) -> float:
    if convention == "paper":
        return paper
    counted = point.extra.get(_convention_in(convention, point.extra))
    if not isinstance(counted, Mapping) or name not in counted:
        raise ValueError(f"the operating point lacks {convention}.{name}; measure it or use convention paper")
    return float(counted[name])


def latency_reduction(point: OperatingPoint) -> float:
    """How many times faster than the baseline, exported. Raises ValueError if that was not measured."""
    return _latency(point, "latency_cr")


def _latency(point: OperatingPoint, name: str) -> float:
    if name not in point.extra:
        raise ValueError(
            f"the operating point lacks {name}: no latency of the exported network was measured; set "
            "latency = true in the task, or take another cost"
        )
    return float(point.extra[name])


def _stored_bytes(record: Record, point: OperatingPoint, convention: str) -> float:
    costs = record.extra.get("costs")
    convention = _convention_in(convention, costs) if isinstance(costs, Mapping) else convention
    if not isinstance(costs, Mapping) or convention not in costs:
        raise ValueError(f"record of {record.sequence!r} lacks costs.{convention}, which max_bytes needs")
    return float(costs[convention]["baseline_bits"]) / storage_reduction(point, convention) / 8


OBJECTIVES: Mapping[str, _Objective] = {
    "accuracy": _Objective("maximize", lambda point, convention: point.accuracy),
    "log2_bitops_cr": _Objective("maximize", lambda point, how: math.log2(bitops_reduction(point, how))),
    "log2_cr": _Objective("maximize", lambda point, how: math.log2(storage_reduction(point, how))),
    "latency_ms": _Objective("minimize", lambda point, _: _latency(point, "latency_ms")),
    "log2_latency_cr": _Objective("maximize", lambda point, _: math.log2(latency_reduction(point))),
}
DEFAULT_OBJECTIVES = Objectives()
