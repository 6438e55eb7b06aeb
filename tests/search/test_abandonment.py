"""When a pipeline is given up, and when it is not."""

import math

import pytest
from builders import make_record

from ordercomp.search.drive import Abandonment, Attained

RULE = Abandonment(tolerance=0.1, recovery=0.05, slack=0.5, evidence=2)


def attained_with(*reductions: float) -> Attained:
    """Each reduction is one that Q brought after D, which brought a factor of 2."""
    attained = Attained()
    first = make_record("D", bitops_cr=2.0, accuracy=0.97)
    attained.add(first)
    for reduction in reductions:
        attained.add(make_record("DQ", bitops_cr=2.0 * reduction, accuracy=0.96))
    return attained


def test_accuracy_beyond_recovery_ends_a_pipeline() -> None:
    attained = Attained()
    assert RULE.reason(make_record("D", accuracy=0.84, baseline=0.98), "Q", attained) is None
    reason = RULE.reason(make_record("D", accuracy=0.82, baseline=0.98), "Q", attained)
    assert reason == "accuracy after D can recover to 0.8700 at most"


def test_the_best_operating_point_decides() -> None:
    prefix = make_record("E", points=[(0.95, 1.0), (0.2, 4.0)], baseline=0.98)
    assert RULE.reason(prefix, "Q", Attained()) is None


def test_little_known_stages_are_not_bounded() -> None:
    assert math.isinf(attained_with(8.0).bound("Q", slack=0.5, evidence=2))
    assert attained_with(8.0, 4.0).bound("Q", slack=0.5, evidence=2) == 3.5
    assert math.isinf(attained_with(8.0, 4.0).bound("QE", slack=0.5, evidence=2))


def test_a_place_from_which_the_front_is_out_of_reach_ends_a_pipeline() -> None:
    attained = attained_with(8.0, 64.0)  # front: 0.96 at 2^7
    behind = make_record("P", accuracy=0.90, bitops_cr=1.1, baseline=0.98)
    assert "behind the front" in str(RULE.reason(behind, "Q", attained))  # 0.95 at 2^6.64 at most
    assert RULE.reason(make_record("P", accuracy=0.92, bitops_cr=1.1), "Q", attained) is None  # 0.97
    assert RULE.reason(make_record("P", accuracy=0.90, bitops_cr=2.0), "Q", attained) is None  # 2^7.5


def test_a_finished_or_failed_pipeline_is_not_abandoned() -> None:
    assert RULE.reason(make_record("D", accuracy=0.1), "", Attained()) is None
    assert RULE.reason(make_record("D", error="diverged"), "Q", Attained()) is None


def test_failed_records_teach_nothing() -> None:
    attained = attained_with(8.0)
    attained.add(make_record("DQ", error="diverged"))
    attained.add(make_record("P", error="gone"))
    attained.add(make_record("PQ", bitops_cr=4.0))
    assert math.isinf(attained.bound("Q", slack=0, evidence=2))


def test_records_teach_the_same_in_any_order_and_without_their_prefix_nothing_of_a_stage() -> None:
    first, second = make_record("D", bitops_cr=2.0), make_record("DQ", bitops_cr=16.0)
    for records in ([first, second], [second, first]):
        assert Attained.of(records).bound("Q", slack=0, evidence=1) == 3.0
    alone = Attained.of([second])
    assert math.isinf(alone.bound("Q", slack=0, evidence=1))
    assert alone.dominates(0.9, 3.9)


@pytest.mark.parametrize("bad", [{"tolerance": -0.1}, {"recovery": -1}, {"slack": -1}, {"evidence": 0}])
def test_bad_rules_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Abandonment(**bad)  # type: ignore[arg-type]
