"""What many records are worth, each by itself, on the soft scale."""

import numpy as np
import pytest
from builders import make_record, record_value

from ordercomp.analysis.fronts import Scale, measure_all

SCALE = Scale(split="validation")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_many_records_are_valued_as_each_alone(split: str) -> None:
    scale = Scale(split=split)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    records = [
        make_record("E", points=zip(rng.uniform(0.8, 1.0, size), rng.uniform(0.5, 64.0, size), strict=True))
        for size in (1, 7, 2, 0, 12, 1, 1)
    ]
    for record, value in zip(records, measure_all(records, scale=scale), strict=True):
        expected = record_value(record, scale=scale) if record.points else None
        assert value == (None if expected is None else pytest.approx(expected))


def test_a_growing_network_is_worth_nothing_and_a_failed_one_has_no_value() -> None:
    records = [make_record("D", bitops_cr=0.5), make_record("D", error="loss became NaN")]
    assert measure_all(records, scale=SCALE) == [0, None]


def test_convention_is_refused_if_the_points_lack_it() -> None:
    with pytest.raises(ValueError, match="convention 'honest'"):
        measure_all([make_record("D")], scale=Scale(convention="honest"))


@pytest.mark.parametrize("bitops_cr", [float("inf"), 0.0, -1.0])
def test_an_impossible_reduction_is_refused_with_its_record(bitops_cr: float) -> None:
    with pytest.raises(ValueError, match=r"point key 'bitops_cr' must be (positive|finite), got"):
        measure_all([make_record("D", bitops_cr=bitops_cr)], scale=SCALE)
