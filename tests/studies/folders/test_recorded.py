"""The recordings that ship with the package are complete and readable."""

import pytest

from ordercomp.analysis.law.derive import derive_law
from ordercomp.orders import permutations
from ordercomp.search.bench.tabular import space_of
from ordercomp.studies.folders.recorded import load_recorded, recorded_names


def test_digits_holds_every_order_with_controls_at_three_knob_settings() -> None:
    records = load_recorded("digits")
    seeds = {record.seed for record in records}
    assert len(seeds) >= 8
    for order in permutations("DPQE"):
        texts = {record.sequence for record in records if record.order == order}
        assert len(texts) == 3
    assert {record.order for record in records} >= {"DF", "PQF", "DPQF", "DD", "PP", "QQ", "DPQEQ"}


def test_fashion_mnist_holds_every_order_with_controls_at_two_knob_settings() -> None:
    records = load_recorded("fashion-mnist")
    assert {record.seed for record in records} == {0, 1, 2}
    assert all(record.error is None for record in records)
    for order in permutations("DPQE"):
        assert len({record.sequence for record in records if record.order == order}) == 2
    assert {record.order for record in records} >= {"DF", "PQF", "DPQF", "DD", "PP", "QQ", "DPQEQ"}
    assert min(record.baseline.test_accuracy for record in records) > 0.89


def test_the_grid_on_digits_answers_every_proposal_of_a_search() -> None:
    records = [record for record in load_recorded("digits-grid") if "F" not in record.order]
    space = space_of(records)
    assert {record.sequence for record in records} == {str(sequence) for sequence in space.sequences()}
    assert all(record.error is None for record in records)


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_every_seed_of_a_recording_holds_the_same_nodes(name: str) -> None:
    nodes: dict[int, set[str]] = {}
    for record in load_recorded(name):
        nodes.setdefault(record.seed, set()).add(record.sequence)
    assert len({frozenset(texts) for texts in nodes.values()}) == 1


def test_a_law_is_derived_from_recorded_runs() -> None:
    law = derive_law(load_recorded("digits"), stages="DPQE")
    assert len(law.pairs) == 6
    assert law.verification is not None
    assert law.verification.of == 24


def test_an_unknown_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="recording must be one of digits"):
        load_recorded("faces")
    assert recorded_names() == sorted(recorded_names())
