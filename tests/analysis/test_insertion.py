"""Insertions."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.law import Law, LawOptions, derive_law
from ordercomp.records import Record


@pytest.fixture(scope="module")
def law() -> Law:
    return derive_law(simulate(Planted.law("DPQE", 0.8), seeds=5, rng=np.random.default_rng(0)))


def test_every_decided_pair_meets_every_other_stage_in_three_places(law: Law) -> None:
    assert len(law.insertion) == 6 * 2
    for check in law.insertion:
        assert [place.where for place in check.places] == ["before", "between", "after"]
        assert all(place.contexts > 0 for place in check.places)
        assert check.outcome == "holds"
    assert law.insertion[0].sentence.startswith("D before P with E inserted holds: before +")


def test_a_pair_that_turns_with_a_stage_between_fails() -> None:
    truth = Planted(stages="DPQ", effects={("P", "Q"): 1.0}, node_noise=0.02, interaction=0.02)
    records = simulate(truth, seeds=5, rng=np.random.default_rng(0))
    swapped = {"PDQ": "QDP", "QDP": "PDQ"}
    by_run = {(record.order, record.seed): record for record in records}
    turned = [
        replace(record, points=by_run[swapped[record.order], record.seed].points)
        if record.order in swapped
        else record
        for record in records
    ]
    law = derive_law(turned)
    (check,) = [one for one in law.insertion if (one.first, one.second, one.stage) == ("P", "Q", "D")]
    assert [place.outcome for place in check.places] == ["holds", "fails", "holds"]
    assert check.outcome == "fails"
    assert check.sentence in law.sentences


def test_without_records_an_insertion_is_undecided() -> None:
    records = [
        make_record(order, seed, 0.97 if order == "PQ" else 0.9, knobs={})
        for seed in range(4)
        for order in ("PQ", "QP", "D")
    ]
    law = derive_law(records, stages="DPQ")
    (check,) = law.insertion
    assert (check.first, check.second, check.stage, check.outcome) == ("P", "Q", "D", "undecided")
    assert "before no records" in check.sentence


def at_seeds(truth: Planted, seeds: range) -> list[Record]:
    records = simulate(truth, seeds=seeds.stop, rng=np.random.default_rng(0))
    return [record for record in records if record.seed in seeds]


def test_held_out_seeds_alone_test_an_insertion() -> None:
    """They say the opposite of the seeds that made the law."""
    records = [*at_seeds(Planted.law("DPQ", 1.0), range(5)), *at_seeds(Planted.law("QPD", 1.0), range(5, 9))]
    law = derive_law(records, stages="DPQ", options=LawOptions(held_out=4))
    assert law.law == "DPQ"
    assert {check.outcome for check in law.insertion} == {"fails"}
    assert {place.seeds for check in law.insertion for place in check.places} == {(5, 6, 7, 8)}
    assert all(check.sentence.endswith("doublings (seeds 5, 6, 7, 8).") for check in law.insertion)


def test_seeds_that_are_all_needed_to_decide_verify_nothing() -> None:
    law = derive_law(simulate(Planted.law("DPQ", 2.0), seeds=3, rng=np.random.default_rng(0)))
    assert law.law == "DPQ"
    assert {check.outcome for check in law.insertion} == {"undecided"}
    assert law.insertion[0].sentence.endswith("(no seed that had no part in deciding it).")


def test_places_through_under_trained_prefixes_do_not_count() -> None:
    truth = Planted.law("DPQE", 0.8, controls=True, node_noise=0.05)
    records = simulate(truth, seeds=5, rng=np.random.default_rng(0))
    trained = {(one.first, one.stage): one.places[0].contexts for one in derive_law(records).insertion}
    short = [raised(record, 0.05) if record.order == "DEPF" else record for record in records]
    found = {(one.first, one.stage): one.places[0].contexts for one in derive_law(short).insertion}
    assert {key for key in trained if found[key] != trained[key]} >= {("P", "D"), ("P", "E")}
    assert all(found[key] <= trained[key] for key in trained)


def raised(record: Record, gain: float) -> Record:
    points = [replace(point, accuracy=min(1.0, point.accuracy + gain)) for point in record.points]
    return replace(record, points=tuple(points))
