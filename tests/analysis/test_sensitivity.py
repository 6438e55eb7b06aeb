import pytest
from builders import make_record

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.ranking import alternatives, sensitivity
from ordercomp.analysis.report.tables import sensitivity_table

RECORDS = [
    make_record("DP", accuracy=0.88, bitops_cr=256.0),
    make_record("PD", accuracy=0.98, bitops_cr=16.0),
]


def test_price_of_accuracy_decides_who_is_best() -> None:
    strict, lenient = Scale(tolerance=0.05), Scale(tolerance=1.0)
    readings = sensitivity(RECORDS, "DP", "PD", scales=[strict, lenient])
    assert [(one.best, one.rank, one.of) for one in readings] == [("PD", 1, 2), ("DP", 2, 2)]
    assert [one.agreement for one in readings] == [pytest.approx(1), pytest.approx(-1)]
    assert readings[0].behind == 0.0
    assert readings[1].behind > 0


def test_order_without_records_has_no_reading() -> None:
    assert sensitivity(RECORDS[:1], "DP", "PD", scales=[Scale()]) == []


def test_alternatives_begin_with_the_scale_itself_and_change_one_thing_each() -> None:
    scale = Scale(tolerance=0.6)
    first, *others = alternatives(scale)
    assert first == scale
    assert [one.tolerance for one in others] == [0.3, 1.0, 0.6, 0.6]
    assert [one.shape for one in others] == ["soft", "soft", "hard", "soft"]
    assert [one.split for one in others] == ["test", "test", "test", "validation"]


def test_table_has_one_row_per_scale() -> None:
    table = sensitivity_table(sensitivity(RECORDS, "DP", "PD", scales=alternatives()), "PD")
    assert len(table.rows) == 5
    assert table.rows[0] == ("soft", "10 points", "test", "paper", "PD", "1 of 2", "0.00", "+1.00")


def test_no_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scales must hold at least one scale"):
        sensitivity(RECORDS, "DP", "PD", scales=[])
