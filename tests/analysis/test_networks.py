"""Networks to take: chosen with care, told with an interval, and those of the order that is recommended."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.answer import Answer, AnswerAt, derive_answer
from ordercomp.analysis.networks import choose_point, loss_interval, networks_to_take
from ordercomp.analysis.order_model import Effort
from ordercomp.analysis.report.tables import times_text
from ordercomp.analysis.report.text import network_words
from ordercomp.analysis.values import images_in
from ordercomp.records import Record
from ordercomp.sequence import permutations

QUICK = Effort(chains=4, burn_in=20, draws=40)


def world(seeds: int, images: int = 1000) -> list[Record]:
    """D before P reduces more, at a loss of about 1 %."""
    rng = np.random.default_rng(0)
    return [
        make_record(
            order,
            seed,
            points=[
                (round(0.98 * images - rng.integers(0, 10)) / images, reduction)
                for reduction in (40.0, 200.0 if order.index("D") < order.index("P") else 60.0)
            ],
            test_shift=-0.01,
        )
        for seed in range(seeds)
        for order in permutations("DPQ")
    ]


def test_the_images_are_counted_from_the_shares() -> None:
    assert images_in([k / 360 for k in (350, 351, 353, 360)]) == 360
    assert images_in([0.9065, 0.88583333333333, 0.8861666666666667]) == 6000
    assert images_in([0.5]) is None
    assert images_in([math.pi / 4, math.e / 3, 0.1]) is None


def test_the_interval_of_a_loss_is_newcombe_s() -> None:
    """Method 10 of Newcombe (1998), his example of 9 of 10 against 3 of 10."""
    assert loss_interval(0.9, 0.3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert loss_interval(0.9, 0.8, None) is None
    narrow, wide = (loss_interval(0.98, 0.97, images) or (0.0, 0.0) for images in (10_000, 360))
    assert wide[0] < narrow[0] < 0.01 < narrow[1] < wide[1]


def test_a_point_is_chosen_one_standard_error_below_the_loss() -> None:
    record = make_record("DPQ", points=[(0.97, 50.0), (0.965, 80.0), (0.94, 300.0)])
    chosen = choose_point([record], 0.02, images=None)
    assert chosen is not None
    assert chosen[1].bitops_cr == 80.0
    careful = choose_point([record], 0.02, images=360)
    assert careful is not None
    assert careful[1].bitops_cr == 50.0
    assert choose_point([record], 0.005, images=None) is None


def test_networks_are_those_of_the_recommended_order() -> None:
    records = world(4)
    answer = derive_answer(records, stages="DPQ", effort=QUICK)
    taken = networks_to_take([*records, make_record("DPQF", bitops_cr=9999.0)], answer, "DPQ")
    told = {one.loss: one for one in answer.by_loss}
    first = {one.loss: one for one in reversed(taken)}
    assert 0.02 in first
    for loss, one in first.items():
        if told[loss].recommended is not None and not one.note.startswith("the network of"):
            assert one.order == told[loss].recommended
        assert one.interval is not None
        assert one.interval[0] <= one.test_loss <= one.interval[1]
    assert all(len(one.order) == 3 for one in taken)


def test_another_order_s_network_that_reached_more_is_told_with_a_note() -> None:
    records = world(4)
    lucky = make_record("QPD", 9, points=[(0.98, 5000.0)], test_shift=-0.01)
    answer = derive_answer(records, stages="DPQ", effort=QUICK)
    taken = [one for one in networks_to_take([*records, lucky], answer, "DPQ") if one.loss == 0.02]
    assert [one.order for one in taken][-1] == "QPD"
    assert "; this single network reached more" in taken[-1].note


def test_a_larger_loss_never_buys_less_and_what_tests_worse_is_told() -> None:
    """DPQ is the order to take at 2 %, QPD from 3 % on, which reaches less within it."""
    uncounted = math.pi * 1e-5  # no share of a number of images, so the loss itself is compared
    hard = make_record("DPQ", points=[(0.97 + uncounted, 900.0)])
    hard = replace(hard, points=(replace(hard.points[0], test_accuracy=0.95),))
    late = make_record("QPD", points=[(0.955, 700.0), (0.92, 2000.0)])
    answer = Answer(
        asked=AnswerAt(loss=0.02, recommended="DPQ"),
        by_loss=tuple(AnswerAt(loss=loss, recommended="QPD") for loss in (0.03, 0.08)),
    )
    taken = networks_to_take([hard, late], answer, "DPQ")
    assert [(one.loss, one.order, one.note) for one in taken] == [
        (0.02, "DPQ", "lost more than 2 % on test data"),
        (0.03, "DPQ", "the network of 2 %: QPD's reached less"),
        (0.08, "QPD", ""),
    ]


def test_without_a_recommendation_the_best_network_says_nothing_about_the_order() -> None:
    records = world(1)
    answer = derive_answer(records, stages="DPQ", effort=QUICK)
    taken = networks_to_take(records, answer, "DPQ")
    assert taken
    assert {one.note for one in taken} == {
        "the most compressed one measured; this says nothing about the order"
    }


def by_storage(record: Record) -> Record:
    """The same network, whose storage is the smaller the more bit operations it takes."""
    points = (replace(point, cr=1000.0 / point.bitops_cr) for point in record.points)
    return replace(record, points=tuple(points))


def test_answer_and_networks_go_by_the_cost_that_was_asked_for() -> None:
    records = [by_storage(record) for record in world(4)]
    bitops, storage = (
        derive_answer(records, stages="DPQ", cost=cost, effort=QUICK) for cost in ("bitops", "storage")
    )
    assert set(bitops.best_set) <= {"DPQ", "DQP", "QDP"}
    assert bitops.by_cost["storage"].recommended in storage.best_set
    assert set(storage.by_cost) == {"bitops", "macs"}
    (first, *_) = (one for one in networks_to_take(records, storage, "DPQ") if one.loss == 0.02)
    assert first.order == storage.recommended
    assert first.storage == first.reduced("storage") == 1000.0 / 40
    assert "--threshold" in first.command  # as a loss alone would choose it by bit operations
    assert first.reduced("macs") == first.reduction * 2 * 4 / 32**2


def by_latency(record: Record) -> Record:
    """The same network, which is the faster the fewer bit operations it takes."""
    points = (replace(one, extra={**one.extra, "latency_cr": one.bitops_cr}) for one in record.points)
    return replace(record, points=tuple(points))


def test_answer_and_networks_can_go_by_the_latency_of_exported_networks() -> None:
    records = [by_latency(record) for record in world(4)]
    bitops, latency = (
        derive_answer(records, stages="DPQ", cost=cost, effort=QUICK) for cost in ("bitops", "latency")
    )
    assert set(bitops.by_cost) == {"storage", "macs", "latency"}
    assert latency.best_set == bitops.best_set
    (first, *_) = (one for one in networks_to_take(records, latency, "DPQ") if one.loss == 0.02)
    assert first.latency == first.reduced("latency") == first.reduction
    assert f"{times_text(first.latency)} faster, " in network_words(first, cost="latency")
