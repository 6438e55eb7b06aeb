"""The recordings that ship with the package are complete and readable."""

import pytest

from ordercomp.analysis.law import derive_law
from ordercomp.orders import permutations
from ordercomp.studies.recorded import load_recorded, recorded_names


def test_digits_holds_every_order_with_controls_at_three_knob_settings() -> None:
    records = load_recorded("digits")
    seeds = {record.seed for record in records}
    assert len(seeds) >= 3
    for order in permutations("DPQE"):
        texts = {record.sequence for record in records if record.order == order}
        assert len(texts) == 3
    assert {record.order for record in records} >= {"DF", "PQF", "DPQF", "DD", "PP", "QQ", "DPQEQ"}


def test_a_law_is_derived_from_recorded_runs() -> None:
    law = derive_law(load_recorded("digits"), stages="DPQE")
    assert len(law.pairs) == 6
    assert law.verification is not None
    assert law.verification.of == 24


def test_an_unknown_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="recording must be one of digits"):
        load_recorded("faces")
    assert recorded_names() == sorted(recorded_names())
