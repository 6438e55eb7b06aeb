"""What one record is worth."""

import pytest
from builders import make_record

from ordercomp.analysis.fronts import Scale, record_value
from ordercomp.analysis.readouts import measure

SCALE = Scale(split="validation")


@pytest.mark.parametrize("accuracy", [0.99, 0.98, 0.9, 0.1])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_shortcut_for_single_points_agrees_with_the_front(accuracy: float, split: str) -> None:
    record = make_record("DP", accuracy=accuracy, bitops_cr=20.0, test_shift=-0.01)
    scale = Scale(split=split)  # type: ignore[arg-type]
    measured = measure(record, scale=scale)
    assert measured is not None
    assert measured.value == pytest.approx(record_value(record, scale=scale))
    assert measured.test_value == pytest.approx(record_value(record, scale=Scale(split="test")))


def test_a_growing_network_is_worth_nothing() -> None:
    measured = measure(make_record("D", bitops_cr=0.5), scale=SCALE)
    assert measured is not None
    assert measured.value == 0


def test_several_points_are_worth_their_front() -> None:
    record = make_record("E", points=[(0.98, 2.0), (0.95, 8.0), (0.90, 4.0)])
    measured = measure(record, scale=SCALE)
    assert measured is not None
    assert measured.value == pytest.approx(record_value(record, scale=SCALE))
    assert measured.end_accuracy == 0.98
    gained = measured.over(measured)
    assert gained == (0, 0)


def test_a_failed_record_has_no_value() -> None:
    assert measure(make_record("D", error="loss became NaN"), scale=SCALE) is None
    assert measure(make_record("D", points=[]), scale=SCALE) is None


def test_convention_is_refused_if_the_points_lack_it() -> None:
    with pytest.raises(ValueError, match="convention 'honest'"):
        measure(make_record("D"), scale=Scale(convention="honest"))
