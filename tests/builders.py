"""Synthetic records for tests: small, plain, and with every number under the caller's control."""

from collections.abc import Iterable, Mapping
from typing import Any

from ordercomp.analysis.fronts import DEFAULT_SCALE, Scale, front_value
from ordercomp.records import Baseline, OperatingPoint, Record
from ordercomp.sequence import KnobValue, StageSequence

__all__ = ["KNOBS", "make_record", "record_value"]

KNOBS: Mapping[str, Mapping[str, KnobValue]] = {
    "D": {"depth": 0.5},
    "P": {"ratio": 0.4},
    "Q": {"weights": 2, "activations": 4},
    "E": {"exits": 2},
}


def make_record(
    order: str,
    seed: int = 0,
    accuracy: float = 0.95,
    bitops_cr: float = 64.0,
    *,
    points: Iterable[tuple[float, float]] | None = None,
    knobs: Mapping[str, Mapping[str, KnobValue]] = KNOBS,
    baseline: float = 0.98,
    test_shift: float = 0.0,
    conventions: Mapping[str, float] | None = None,
    task: str = "synthetic",
    epochs: float | None = None,
    seconds: float = 1.0,
    error: str | None = None,
    **extra: Any,
) -> Record:
    """Build a record of `order` with one operating point, or with `points` of (accuracy, bitops_cr).

    Test accuracy is the validation accuracy plus `test_shift`, for the baseline too. `conventions` maps
    "honest" or "apot" to a factor on bitops_cr. With `error` set the record has no points. Further
    keywords are extra keys.
    """
    pairs = [(accuracy, bitops_cr)] if points is None else list(points)
    made = (
        []
        if error
        else [_point(index, pair, test_shift, conventions or {}) for index, pair in enumerate(pairs)]
    )
    return Record(
        order=order,
        sequence=str(StageSequence.from_order(order, knobs)),
        task=task,
        seed=seed,
        epochs=10.0 * len(order) if epochs is None else epochs,
        seconds=seconds,
        baseline=Baseline(accuracy=baseline, test_accuracy=baseline + test_shift),
        points=() if error else tuple(made),
        error=error,
        extra=extra,
    )


def _point(
    index: int, pair: tuple[float, float], test_shift: float, conventions: Mapping[str, float]
) -> OperatingPoint:
    accuracy, bitops_cr = pair
    return OperatingPoint(
        threshold=None if index == 0 else round(1 - 0.1 * index, 3),
        accuracy=accuracy,
        test_accuracy=accuracy + test_shift,
        bitops_cr=bitops_cr,
        cr=bitops_cr / 8,
        extra={
            name: {"bitops_cr": factor * bitops_cr, "cr": bitops_cr / 8}
            for name, factor in conventions.items()
        },
    )


def record_value(record: Record, *, scale: Scale = DEFAULT_SCALE) -> float:
    """Value of one network's own operating points, by the front of any records."""
    return front_value([record], scale=scale)
