"""What a trial is told of a record."""

import math
from dataclasses import replace

import pytest
from builders import make_record

from ordercomp.objectives import Objectives, bitops_reduction, storage_reduction

EXITS = [(0.97, 16.0), (0.965, 32.0), (0.93, 40.0), (0.5, 500.0)]


def test_accuracy_and_log2_bitops_reduction_are_told_by_default() -> None:
    assert Objectives().values(make_record("DP", accuracy=0.9, bitops_cr=64.0)) == [0.9, 6.0]
    assert Objectives().directions == ["maximize", "maximize"]


def test_the_point_told_covers_the_largest_area_in_the_box() -> None:
    record = make_record("DPE", points=EXITS, baseline=0.98)
    areas = [(accuracy - 0.88) * math.log2(cost) for accuracy, cost in EXITS]
    assert Objectives().choose(record) == record.points[areas.index(max(areas))]
    assert Objectives(box_loss=0.012).choose(record) == record.points[0]


def test_points_that_keep_the_loss_are_preferred() -> None:
    record = make_record("DPE", points=EXITS, baseline=0.98)
    assert Objectives(max_loss=0.011).choose(record) == record.points[0]
    assert Objectives(max_loss=0.001).choose(record) == Objectives().choose(record)


def test_the_most_accurate_point_stands_for_a_record_outside_the_box() -> None:
    record = make_record("DPE", points=[(0.4, 10.0), (0.6, 2.0), (0.5, 90.0)])
    assert Objectives().choose(record).accuracy == 0.6


def test_the_order_of_points_does_not_matter() -> None:
    one, other = (make_record("E", points=points) for points in (EXITS, EXITS[::-1]))
    assert Objectives().values(one) == Objectives().values(other)


def test_constraints_are_positive_exactly_where_they_are_broken() -> None:
    costs = {"paper": {"bitops": 1.0, "bits": 1.0, "baseline_bitops": 1.0, "baseline_bits": 8000.0}}
    record = make_record("D", accuracy=0.96, bitops_cr=16.0, baseline=0.98, costs=costs)  # cr is 2: 500 bytes
    found = Objectives(max_loss=0.01, max_bytes=500).constraints(record)
    assert found == {"loss": pytest.approx(0.01), "bytes": pytest.approx(0.0)}
    assert Objectives(max_bytes=400).constraints(record) == {"bytes": pytest.approx(100.0)}
    assert Objectives().constraints(record) == {}


def test_a_point_is_kept_exactly_where_no_constraint_is_broken() -> None:
    costs = {"paper": {"bitops": 1.0, "bits": 1.0, "baseline_bitops": 1.0, "baseline_bits": 8000.0}}
    record = make_record(
        "DE", points=[(0.97, 16.0), (0.9, 32.0)], baseline=0.98, costs=costs
    )  # 500, 250 bytes

    def kept(**constraints: float) -> list[bool]:
        return [Objectives(**constraints).keeps(record, point) for point in record.points]  # type: ignore[arg-type]

    assert kept() == [True, True]
    assert kept(max_loss=0.02) == [True, False]
    assert kept(max_bytes=250) == [False, True]
    assert kept(max_loss=0.02, max_bytes=250) == [False, False]


def test_other_objectives_and_conventions_by_name() -> None:
    record = make_record("D", bitops_cr=64.0, conventions={"honest": 0.5})
    names = ("accuracy", "log2_bitops_cr", "log2_cr")
    assert Objectives(names=names).values(record) == [0.95, 6.0, 3.0]
    assert Objectives(names=names, convention="honest").values(record) == [0.95, 5.0, 3.0]
    timed = replace(record, points=(replace(record.points[0], extra={"latency_ms": 0.5, "latency_cr": 4.0}),))
    names = ("latency_ms", "log2_latency_cr")
    assert Objectives(names=names).directions == ["minimize", "maximize"]
    assert Objectives(names=names).values(timed) == [0.5, 2.0]
    assert bitops_reduction(record.points[0], "honest") == 32.0
    assert storage_reduction(record.points[0]) == 8.0


def test_what_a_record_lacks_is_named() -> None:
    record = make_record("D")
    with pytest.raises(ValueError, match=r"lacks honest\.bitops_cr"):
        Objectives(convention="honest").values(record)
    with pytest.raises(ValueError, match="lacks latency_ms"):
        Objectives(names=("accuracy", "latency_ms")).values(record)
    with pytest.raises(ValueError, match=r"lacks costs\.paper, which max_bytes needs"):
        Objectives(max_bytes=10).constraints(record)
    with pytest.raises(ValueError, match="has no operating points: diverged"):
        Objectives().values(make_record("D", error="diverged"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ()}, "distinct names"),
        ({"names": ("accuracy", "accuracy")}, "distinct names"),
        (
            {"names": ("speed",)},
            "among accuracy, log2_bitops_cr, log2_cr, latency_ms, log2_latency_cr, got 'speed'",
        ),
        ({"convention": "own"}, "convention must be among paper, honest, apot, nonzero, got 'own'"),
        ({"max_loss": -0.1}, r"max_loss must lie in \[0, 1\)"),
        ({"max_loss": 1.0}, r"max_loss must lie in \[0, 1\), a fraction"),
        ({"max_bytes": 0}, "max_bytes must be positive"),
        ({"max_bytes": float("nan")}, "max_bytes must be positive"),
        ({"box_loss": 0}, "box_loss must lie in"),
    ],
)
def test_impossible_objectives_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objectives(**arguments)  # type: ignore[arg-type]
