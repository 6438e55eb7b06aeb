"""The recordings that ship with the package are complete and readable."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.search_worlds import space_of
from ordercomp.analysis.law import derive_law
from ordercomp.jobs.recordings import load_recorded, raced_elsewhere, recorded_hints, recorded_names
from ordercomp.records import Record
from ordercomp.sequence import permutations


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


@pytest.mark.parametrize(
    ("name", "seeds", "least"), [("cifar10", range(5), 0.75), ("fashion-mnist-raced", range(3, 7), 0.89)]
)
def test_recordings_of_a_gpu_hold_every_prefix_of_every_order_at_two_knob_settings(
    name: str, seeds: range, least: float
) -> None:
    records = load_recorded(name)
    assert all(record.error is None for record in records)
    assert min(record.baseline.test_accuracy for record in records) > least
    made = [record for record in records if record.extra["hardware"] == "NVIDIA H200"]
    nodes = nodes_by_seed([record for record in made if "F" not in record.order])
    assert list(nodes) == list(seeds)
    assert len({frozenset(texts) for texts in nodes.values()}) == 1
    orders = [record.order for record in made if record.seed == seeds[0] and len(record.order) == 4]
    assert sorted({order for order in orders if "F" not in order}) == sorted(permutations("DPQE"))


@pytest.mark.integration
def test_late_seeds_of_the_race_on_fashion_mnist_hold_the_orders_that_it_had_left() -> None:
    records = [record for record in load_recorded("fashion-mnist-raced") if record.seed > 6]
    nodes = nodes_by_seed(records)
    assert list(nodes) == [7, 8, 9, 10]
    assert len({frozenset(texts) for texts in nodes.values()}) == 1
    whole = Counter(record.order for record in records if len(record.order) == 4)
    left = ("DPQE", "EDPQ", "EDQP", "DQPE", "QDPE", "PDQE", "DEQP", "DEPQ")
    assert whole == dict.fromkeys(left, 4 * 2)


def nodes_by_seed(records: list[Record]) -> dict[int, set[str]]:
    nodes: dict[int, set[str]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        nodes.setdefault(record.seed, set()).add(record.sequence)
    return nodes


def test_controls_of_cifar10_tell_that_the_orders_ahead_were_trained_to_the_end() -> None:
    records = {record.sequence: record for record in load_recorded("cifar10") if record.seed == 0}
    gains = {
        record.order: record.points[0].accuracy - records[text.removesuffix(" F")].points[0].accuracy
        for text, record in records.items()
        if record.order in ("DF", "DPF", "DQF", "DPQF", "DQPF")
    }
    assert len(gains) == 5
    assert max(gains.values()) < 0.012


def test_the_grid_on_digits_answers_every_proposal_of_a_search() -> None:
    records = [record for record in load_recorded("digits-grid") if "F" not in record.order]
    space = space_of(records)
    assert {record.sequence for record in records} == {str(sequence) for sequence in space.sequences()}
    assert all(record.error is None for record in records)


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_every_seed_of_a_recording_holds_the_same_nodes(name: str) -> None:
    nodes = nodes_by_seed(load_recorded(name))
    assert len({frozenset(texts) for texts in nodes.values()}) == 1


@pytest.mark.integration
def test_a_law_is_derived_from_recorded_runs() -> None:
    law = derive_law(load_recorded("digits"), stages="DPQE")
    assert len(law.pairs) == 6
    assert law.verification is not None
    assert law.verification.of == 24


@pytest.mark.integration
@pytest.mark.parametrize("name", recorded_names())
def test_a_recording_names_no_place_of_the_machine_that_made_it(name: str) -> None:
    texts = [
        value for record in load_recorded(name) for value in record.extra.values() if isinstance(value, str)
    ]
    assert not [text for text in texts if Path(text).is_absolute()]


def test_an_unknown_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="recording must be one of cifar10, digits"):
        load_recorded("faces")
    assert recorded_names() == sorted(recorded_names())


def test_recordings_of_other_data_are_a_hint_for_the_stages_that_they_know() -> None:
    names = raced_elsewhere("digits")
    assert names == ("fashion-mnist-raced", "cifar10")
    hints = recorded_hints(names, "LQE", cost="latency")
    assert (hints.stages, hints.names) == ("QE", names)
    assert set(hints.at(0.02).chains) == {"Q", "E", "QE", "EQ"}
    assert len(raced_elsewhere("folder:mine")) == 3


@pytest.mark.parametrize(
    ("names", "stages", "message"),
    [
        (("digits",), "LUD", "prior from recordings needs two of the stages DPQE, got 'LUD'"),
        (("digit",), "DPQE", "recording must be one of .*, got 'digit'"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(names: tuple[str, ...], stages: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recorded_hints(names, stages)
