"""Insertions."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.law import Law, derive_law


@pytest.fixture(scope="module")
def law() -> Law:
    return derive_law(simulate(Planted.law("DPQE", 0.8), seeds=5, rng=np.random.default_rng(0)))


def test_every_pair_meets_every_other_stage_in_three_places(law: Law) -> None:
    assert len(law.insertion) == 6 * 2
    for check in law.insertion:
        assert [place.where for place in check.places] == ["before", "between", "after"]
        assert all(place.contexts > 0 for place in check.places)
        assert check.outcome == "holds"
    assert law.insertion[0].sentence.startswith("D before P with Q inserted holds: before +")


def test_a_pair_is_put_in_its_likelier_order() -> None:
    law = derive_law(
        simulate(Planted.law("QP", 1.0, node_noise=0.05), seeds=4, rng=np.random.default_rng(0)), stages="PQ"
    )
    assert law.insertion == ()  # no third stage
    law = derive_law(
        simulate(Planted.law("QPD", 1.0, node_noise=0.05), seeds=4, rng=np.random.default_rng(0)),
        stages="DPQ",
    )
    assert {(one.first, one.second) for one in law.insertion} == {("P", "D"), ("Q", "D"), ("Q", "P")}
    assert all(place.effect.mean > 0 for one in law.insertion for place in one.places)


def test_a_pair_that_turns_with_a_stage_between_fails() -> None:
    truth = Planted(
        stages="DPQ", effects={("P", "Q"): 1.0}, node_noise=0.02, interaction=0.02, seed_noise=0.05
    )
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
    (check,) = [
        one
        for one in law.insertion
        if {one.first, one.second, one.stage} == {"P", "Q", "D"} and one.stage == "D"
    ]
    assert "fails" in {place.outcome for place in check.places}
    assert check.outcome == "fails"
    assert check.sentence in law.sentences


def test_without_records_an_insertion_is_undecided() -> None:
    records = [
        make_record(order, seed, 0.97, 32.0 if order == "PQ" else 8.0, knobs={})
        for seed in range(4)
        for order in ("PQ", "QP", "D")
    ]
    law = derive_law(records, stages="DPQ")
    (check,) = [one for one in law.insertion if (one.first, one.second) == ("P", "Q")]
    assert (check.stage, check.outcome) == ("D", "undecided")
    assert "before no records" in check.sentence
