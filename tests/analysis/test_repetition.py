"""Repetitions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.checks import closest_harder
from ordercomp.analysis.law import derive_law
from ordercomp.records import Record


def repeated(stage: str, gain: float) -> list[Record]:
    """X twice, X once but harder, X once and gentle, at four seeds; the repeat gains in accuracy."""
    hard, gentle = {stage: {"ratio": 0.7}}, {stage: {"ratio": 0.4}}
    return [
        record
        for seed in range(4)
        for record in (
            make_record(stage * 2, seed, 0.92 + gain + 0.001 * (seed % 2), 10.0, knobs=gentle),
            make_record(stage, seed, 0.92, 10.5, knobs=hard),
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
    (check,) = derive_law([*OTHERS, *records], stages="DQ").repetition
    assert (check.outcome, check.seeds) == ("undecided", 0)
    assert check.sentence == (
        "That P(ratio=0.4) P(ratio=0.4) gains nothing over a harder P undecided: "
        "there are no records of a harder P."
    )


def test_a_partner_of_another_reduction_is_no_fair_match() -> None:
    far = [make_record("P", seed, 0.92, 20.0, knobs={"P": {"ratio": 0.7}}) for seed in range(4)]
    records = [record for record in repeated("P", -0.04) if "0.7" not in record.sequence]
    (check,) = derive_law([*OTHERS, *records, *far], stages="DQ").repetition
    assert (check.once, check.outcome, check.seeds) == ("P(ratio=0.7)", "undecided", 0)
    assert check.sentence.endswith("undecided: their reductions are 1.00 doublings apart.")


def test_the_law_followed_by_a_stage_again_is_compared_with_the_law() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=4, rng=np.random.default_rng(0))
    whole = [record for record in records if record.order == "DPQ"]
    again = [replace(record, order="DPQP", sequence="D P Q P") for record in whole]
    law = derive_law([*records, *again])
    assert law.law == "DPQ"
    (check,) = law.repetition
    assert (check.twice, check.once, check.outcome) == ("DPQP", "DPQ", "holds")
    assert check.effect.mean == 0
    assert check.sentence.endswith("holds: +0.00 [+0.00, +0.00] doublings at seeds 0, 1, 2, 3.")


def test_another_order_followed_by_a_stage_again_is_compared_with_that_order() -> None:
    records = simulate(Planted.law("DPQ", 1.0), seeds=4, rng=np.random.default_rng(0))
    again = [replace(one, order="PDQD", sequence="P D Q D") for one in records if one.order == "PDQ"]
    (check,) = derive_law([*records, *again]).repetition
    assert (check.twice, check.once, check.outcome) == ("PDQD", "PDQ", "holds")


def test_the_harder_stage_is_the_closest_that_is_nearer_to_both_than_to_one() -> None:
    singles = {"P(ratio=0.6)": 2.1, "P(ratio=0.7)": 2.4, "P(ratio=0.5)": 1.4}
    assert closest_harder(2.0, 1.0, singles, last="P") == "P(ratio=0.6)"
    assert closest_harder(2.0, 1.0, {"P(ratio=0.5)": 1.4}, last="P") is None
    assert closest_harder(2.0, math.nan, {"P(ratio=0.5)": 1.4}, last="P") == "P(ratio=0.5)"
    assert closest_harder(2.0, 1.0, {}, last="P") is None


def test_of_stages_equally_close_the_one_with_the_last_knobs_is_the_harder() -> None:
    singles = {"Q(weights=1)": 2.5, "Q(weights=2)": 2.5, "Q(weights=3)": 2.5}
    assert closest_harder(2.0, 1.0, singles, last="Q(weights=2)") == "Q(weights=2)"
    assert closest_harder(2.0, 1.0, singles, last="Q(weights=4)") == "Q(weights=1)"
