import math

import pytest
from builders import make_record

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.ranking import permutation_records, rank_orders, read_softly


def test_orders_are_ranked_by_their_mean_value_over_seeds() -> None:
    records = [make_record("DP", seed, 0.98, 16.0) for seed in (0, 1)]
    records += [make_record("PD", 0, 0.98, 64.0), make_record("PD", 1, 0.98, 1.0)]
    ranking = rank_orders(records, "DP")
    assert [(one.order, one.value) for one in ranking] == [("DP", pytest.approx(4)), ("PD", pytest.approx(3))]
    assert ranking[0].standard_error == pytest.approx(0)
    assert all(one.complete for one in ranking)


def test_orders_are_compared_only_at_seeds_and_knobs_that_all_have() -> None:
    harder = {"P": {"ratio": 0.8}}
    records = [make_record("DP", 0, 0.98, 16.0), make_record("PD", 0, 0.98, 8.0)]
    records += [make_record("PD", 1, 0.98, 1024.0), make_record("PD", 0, 0.98, 1024.0, knobs=harder)]
    assert [(one.order, dict(one.values)) for one in rank_orders(records, "DP")] == [
        ("DP", {0: pytest.approx(4)}),
        ("PD", {0: pytest.approx(3)}),
    ]


def test_without_common_ground_everything_counts_and_is_marked() -> None:
    ranking = rank_orders([make_record("DP", 0), make_record("PD", 1)], "DP")
    assert not any(one.complete for one in ranking)
    assert math.isnan(ranking[0].standard_error)


def test_failed_run_is_worth_nothing_and_later_record_replaces_it() -> None:
    failed = make_record("DP", error="diverged")
    assert rank_orders([failed], "DP")[0].value == 0.0
    assert rank_orders([failed, make_record("DP", accuracy=0.98)], "DP")[0].value == pytest.approx(6)


def test_ties_are_alphabetical_and_other_orders_are_passed_over() -> None:
    records = [make_record(order) for order in ("PD", "DP", "D", "DPF", "DPQ", "DD")]
    assert [one.order for one in rank_orders(records, "DP")] == ["DP", "PD"]
    assert [one.order for one in permutation_records(records, "DP")] == ["PD", "DP"]
    assert rank_orders([], "DP") == []


def test_an_order_is_read_by_a_soft_value_beside_the_others() -> None:
    records = [
        make_record("DP", accuracy=0.88, bitops_cr=256.0),
        make_record("PD", accuracy=0.98, bitops_cr=16.0),
    ]
    found = {
        tolerance: read_softly(records, "PD", scale=Scale(tolerance=tolerance)) for tolerance in (0.05, 1.0)
    }
    assert [(one.best, one.rank, one.of) for one in found.values() if one] == [("PD", 1, 2), ("DP", 2, 2)]
    assert [one.behind > 0 for one in found.values() if one] == [False, True]
    assert read_softly(records[:1], "DP") is read_softly(records[:1], "PD") is None
