"""What one record is worth."""

import numpy as np
import pytest
from builders import make_record, record_value

from ordercomp.analysis.fronts import Scale, gains_over, measure, measure_all

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
    gained = gains_over([(measured, measured)])
    assert gained == (0, 0)


def test_a_failed_record_has_no_value() -> None:
    assert measure(make_record("D", error="loss became NaN"), scale=SCALE) is None
    assert measure(make_record("D", points=[]), scale=SCALE) is None


def test_convention_is_refused_if_the_points_lack_it() -> None:
    with pytest.raises(ValueError, match="convention 'honest'"):
        measure(make_record("D"), scale=Scale(convention="honest"))


@pytest.mark.parametrize("bitops_cr", [float("inf"), 0.0, -1.0])
def test_an_impossible_reduction_is_refused_with_its_record(bitops_cr: float) -> None:
    with pytest.raises(ValueError, match=r"point key 'bitops_cr' must be (positive|finite), got"):
        measure(make_record("D", bitops_cr=bitops_cr), scale=SCALE)


def test_single_points_are_compared_in_the_convention_of_the_scale() -> None:
    scale = Scale(split="validation", convention="honest")
    one = measure(make_record("DP", bitops_cr=16.0, conventions={"honest": 0.5}), scale=scale)
    other = measure(make_record("PD", bitops_cr=16.0, conventions={"honest": 0.25}), scale=scale)
    assert one is not None
    assert other is not None
    assert gains_over([(one, other)]) == (pytest.approx([1.0]), pytest.approx([0.0]))
    assert one.value == pytest.approx(record_value(one.record, scale=scale))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_many_records_are_valued_as_each_alone(split: str) -> None:
    scale = Scale(split=split)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    records = [
        make_record("E", points=zip(rng.uniform(0.8, 1.0, size), rng.uniform(0.5, 64.0, size), strict=True))
        for size in (1, 7, 2, 0, 12, 1, 1)
    ]
    many = measure_all(records, scale=scale)
    for record, measured in zip(records, many, strict=True):
        if measured is None:
            assert not record.points
            continue
        assert measured.value == pytest.approx(record_value(record, scale=scale))
        assert measured.test_value == pytest.approx(record_value(record, scale=Scale(split="test")))
    held = [one for one in many if one is not None]
    pairs = [(one, other) for one in held for other in held]
    together = np.array(gains_over(pairs))
    alone = np.hstack([gains_over([pair]) for pair in pairs])
    assert together == pytest.approx(alone)
