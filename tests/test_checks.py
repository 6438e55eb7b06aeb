"""Insertions and repetitions."""

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.law import Law, derive_law
from ordercomp.analysis.simulation import Planted, simulate
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
    truth = Planted(stages="DPQ", effects={("P", "Q"): 1.0}, node_noise=0.02, taste=0.02)
    records = simulate(truth, seeds=5, rng=np.random.default_rng(0))
    swapped = {"PDQ": "QDP", "QDP": "PDQ"}
    by_run = {(record.order, record.seed): record for record in records}
    turned = [
        Record(**{**fields(record), "points": by_run[swapped[record.order], record.seed].points})
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


def repeated(stage: str, gain: float) -> list[Record]:
    """X twice, X once but harder, X once and gentle, at four seeds; the repeat gains accuracy."""
    hard, gentle = {stage: {"ratio": 0.7}}, {stage: {"ratio": 0.4}}
    return [
        record
        for seed in range(4)
        for record in (
            make_record(stage * 2, seed, 0.92 + gain + 0.001 * (seed % 2), 10.0, knobs=gentle),
            make_record(stage, seed, 0.92, 11.0, knobs=hard),
            make_record(stage, seed, 0.97, 3.0, knobs=gentle),
        )
    ]


OTHERS = [make_record(order, seed, knobs={}) for seed in range(4) for order in ("D", "Q", "DQ", "QD")]


@pytest.mark.parametrize(("gain", "outcome"), [(0.04, "fails"), (-0.04, "holds")])
def test_twice_is_compared_with_once_but_harder(gain: float, outcome: str) -> None:
    law = derive_law([*OTHERS, *repeated("P", gain)], stages="DQ")
    (check,) = law.repetition
    assert (check.stage, check.once, check.outcome, check.seeds) == ("P", "P(ratio=0.7)", outcome, 4)
    assert check.twice == "P(ratio=0.4) P(ratio=0.4)"
    assert check.sentence.startswith(
        f"That P(ratio=0.4) P(ratio=0.4) gains nothing over P(ratio=0.7) {outcome}"
    )


def test_without_a_harder_partner_twice_is_not_judged() -> None:
    records = [record for record in repeated("P", 0.0) if "0.7" not in record.sequence]
    assert derive_law([*OTHERS, *records], stages="DQ").repetition == ()


def test_the_law_followed_by_a_stage_again_is_compared_with_the_law() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=4, rng=np.random.default_rng(0))
    whole = [record for record in records if record.order == "DPQ"]
    again = [Record(**{**fields(record), "order": "DPQP", "sequence": "D P Q P"}) for record in whole]
    law = derive_law([*records, *again])
    assert law.law == "DPQ"
    (check,) = law.repetition
    assert (check.twice, check.once, check.outcome) == ("DPQP", "DPQ", "holds")
    assert check.effect.mean == 0


def fields(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}
