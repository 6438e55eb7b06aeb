"""How the operating points of a search compare."""

import itertools
from dataclasses import replace

import pytest
from builders import make_record

from ordercomp.analysis.fronts import Scale, best_reductions, front, front_value
from ordercomp.jobs.search_folder import Ranking
from ordercomp.objectives import Objectives
from ordercomp.records import Record

POINTS = [(0.97, 16.0), (0.965, 32.0), (0.93, 40.0), (0.92, 30.0), (0.5, 500.0)]
COSTS = {"paper": {"baseline_bits": 8000.0}}


def with_costs(accuracy: float, bitops_cr: float, cr: float, milliseconds: float = 1.0) -> Record:
    record = make_record("D", accuracy=accuracy, bitops_cr=bitops_cr, costs=COSTS)
    point = replace(record.points[0], cr=cr, extra={"latency_ms": milliseconds})
    return replace(record, points=(point,))


def test_by_default_the_analysis_is_followed() -> None:
    records, ranking = [make_record("DE", points=POINTS, baseline=0.98)], Ranking(Objectives())
    scale, points = Scale(split="validation"), Ranking(Objectives()).candidates(records)
    assert ranking.front(points) == front(records, scale=scale)
    assert ranking.value(points) == front_value(records, scale=scale)
    assert ranking.best(points, 0.02) == best_reductions(records, tolerances=[0.02], scale=scale)[0.02]
    assert ranking.value(ranking.outline(points)) == ranking.value(points)


def test_equal_networks_stand_in_the_same_order_however_they_were_trained() -> None:
    records = [
        make_record(order, accuracy=0.96, bitops_cr=16.0, baseline=0.97) for order in ("PQ", "QP", "Q")
    ]
    ranking = Ranking(Objectives())
    for some in itertools.permutations(records):
        points = ranking.candidates(some)
        best, other = ranking.best(points, 0.02), best_reductions(some, tolerances=[0.02])[0.02]
        assert best is not None
        assert other is not None
        assert [best.record.order, other.record.order] == ["Q", "Q"]
        assert [one.record.order for one in ranking.front(points)] == ["QP", "PQ", "Q"]


def test_constraints_leave_points_out() -> None:
    record = make_record("DE", points=POINTS, baseline=0.98, costs=COSTS)  # 1000 bytes, by cr 2, 4, 5, …
    kept = Ranking(Objectives(max_loss=0.02, max_bytes=250)).candidates([record])
    assert [one.point.bitops_cr for one in kept] == [32.0]


def test_the_first_cost_among_the_objectives_decides() -> None:
    quick = with_costs(0.96, bitops_cr=64.0, cr=2.0, milliseconds=3.0)
    small = with_costs(0.96, bitops_cr=2.0, cr=16.0, milliseconds=2.0)
    best = {}
    for names in (("accuracy", "latency_ms"), ("accuracy", "log2_cr"), ("log2_bitops_cr", "log2_cr")):
        ranking = Ranking(Objectives(names=names))
        found = ranking.best(ranking.candidates([quick, small]), 0.05)
        assert found is not None
        best[ranking.cost] = found.record
    assert best == {"latency_ms": small, "log2_cr": small, "log2_bitops_cr": quick}
    assert Ranking(Objectives(names=("accuracy",))).cost == "log2_bitops_cr"


def test_a_front_goes_by_all_objectives() -> None:
    records = [with_costs(0.96, 64.0, 2.0), with_costs(0.95, 2.0, 16.0), with_costs(0.94, 2.0, 2.0)]
    three = Ranking(Objectives(names=("accuracy", "log2_bitops_cr", "log2_cr")))
    assert [one.record for one in three.front(three.candidates(records))] == [records[1], records[0]]
    two = Ranking(Objectives(names=("accuracy", "log2_bitops_cr")))
    assert [one.record for one in two.front(two.candidates(records))] == [records[0]]


def test_a_search_for_storage_is_valued_by_storage() -> None:
    ranking = Ranking(Objectives(names=("accuracy", "log2_cr")))
    assert ranking.value(ranking.candidates([with_costs(0.98, 2.0, 16.0)])) == pytest.approx(4.0)


def test_nothing_has_no_front_and_no_value() -> None:
    ranking = Ranking(Objectives())
    assert (ranking.front([]), ranking.best([], 0.1), ranking.value([]), ranking.outline([])) == (
        [],
        None,
        0,
        [],
    )
