"""Claims read off answers, and the page of findings."""

from dataclasses import replace

import pytest
from builders import make_record

from ordercomp.analysis.answer import Answer, AnswerAt, OrderMatters, Regret, Standing
from ordercomp.analysis.values import LOSSES
from ordercomp.records import Record
from ordercomp.sequence import Order
from ordercomp.studies.experiment import Conclusion, Finding
from tools.findings_page import OrderClaim, before, findings_page, is_order, read_claim, verdict_table
from tools.findings_sections import Recording, latency_words, race_words, rules_table


def answer(loss: float, best: tuple[Order, ...], behind: dict[Order, float]) -> AnswerAt:
    """At three seeds; the first order is recommended with a regret of a tenth of a doubling."""
    chances = {order: (1 / len(best) if order in best else 0.0) for order in behind}
    return AnswerAt(
        loss=loss,
        recommended=next(iter(behind)),
        best_set=best,
        regret=Regret(expected=0.1, upper95=0.4, random_order=1.0),
        standings={
            order: Standing(
                value=9 - lag,
                behind=lag,
                interval=(0.0 if order in best else lag / 2, 2 * lag),
                probability_best=chances[order],
                seeds=3,
            )
            for order, lag in behind.items()
        },
        precedence=(("D", "E"),),
        order_matters=OrderMatters(p=0.001, spread=2.0),
    )


BEHIND = {"DPQE": 0.1, "DQPE": 0.3, "EPQD": 2.1}


@pytest.mark.parametrize(
    ("agrees", "expected"),
    [
        (before("D", "E"), "holds (1.00)"),
        (before("E", "D"), "fails (0.00, costs 2.00)"),
        (before("P", "Q"), "open (0.50)"),
        (is_order("DQPE"), "open (0.50, costs 0.20)"),
        (is_order(None), "-"),
    ],
)
def test_a_claim_holds_fails_or_is_open_by_the_orders_that_may_be_best(agrees: object, expected: str) -> None:
    claim = OrderClaim("text", "who", agrees)  # type: ignore[arg-type]
    assert str(read_claim(claim, answer(0.02, ("DPQE", "DQPE"), BEHIND))) == expected


def test_where_nothing_can_be_told_no_claim_is_read() -> None:
    assert str(read_claim(OrderClaim("", "", is_order("DPQE")), AnswerAt(loss=0.02))) == "-"


NO_REGRET = Regret(expected=0.0, upper95=0.0, random_order=0.0)


@pytest.mark.parametrize(
    "hollow", [replace(answer(0.002, ("DPQE",), BEHIND), regret=NO_REGRET), AnswerAt(loss=0.002)]
)
def test_where_no_network_loses_so_little_nothing_is_told(hollow: AnswerAt) -> None:
    assert str(read_claim(OrderClaim("", "", is_order("DPQE")), hollow)) == "-"
    told = {loss: answer(loss, ("DPQE", "DQPE"), BEHIND) for loss in LOSSES}
    page = findings_page([recording("digits", {**told, 0.002: hollow})], {}, {}, {}, {})
    assert "| 0.2 % | - | hardly any network loses so little |" in page
    assert "From a tolerated loss of 0.6 % to 8 % the sets that may be best overlap." in page


def test_claims_of_an_experiment_stand_beside_each_other() -> None:
    judged = {
        "a": [Finding(claim="x", measured="", verdict="agree", seeds=3, effect=0.5, interval=(0.1, 0.9))],
        "b": [
            Finding(claim="y", measured="", verdict="undecided", seeds=3),
            Finding(claim="x", measured="", verdict="disagree", seeds=3, effect=-0.5),
        ],
    }
    recordings = {name: [make_record("D", task=name)] for name in judged}
    table = verdict_table(
        "title", lambda records: Conclusion(findings=tuple(judged[records[0].task])), recordings
    )
    assert table.columns == ("claim", "a", "b")
    assert table.rows == (("x", "agree, +0.50 [+0.10, +0.90]", "disagree, -0.50"), ("y", "-", "undecided"))


def recording(name: str, answers: dict[float, AnswerAt]) -> Recording:
    records = [make_record("DPQE", seed=seed, hardware="a chip", precision="float32") for seed in range(3)]
    told = tuple(answers[loss] for loss in LOSSES)
    alone = AnswerAt(loss=0.02, seeds_needed=3, setting="D(depth=0.5)")
    return Recording(
        name=name,
        records=records,
        answer=Answer(asked=told[3], by_loss=told, by_setting=(alone,)),
        weaker="DQPE",
    )


def exits() -> list[Record]:
    """Heads alone, an early E reduces four times more; trained jointly, as much."""
    return [
        make_record(order, seed, 0.97, times, knobs={"P": {"ratio": 0.4}, "E": {"train": train}})
        for seed in range(3)
        for order, train, times in (
            ("PE", "heads", 4.0),
            ("EP", "heads", 16.0),
            ("PE", "joint", 16.0),
            ("EP", "joint", 16.0),
        )
    ]


def timed() -> list[Record]:
    """P before Q needs fewer bit operations, Q before P takes less time."""
    reached = {"P": (2.0, 1.5), "Q": (16.0, 1.2), "PQ": (64.0, 2.0), "QP": (32.0, 4.0)}
    records = [make_record(order, seed, 0.975, reached[order][0]) for order in reached for seed in range(2)]
    return [
        replace(one, points=(replace(one.points[0], extra={"latency_cr": reached[one.order][1]}),))
        for one in records
    ]


def test_where_latency_counts_the_rival_is_told_beside_the_orders_of_all_stages() -> None:
    reached = {"P": 1.1, "PQ": 1.2, "PQD": 3.0, "DPQ": 6.0, "QPD": 2.0}
    records = [make_record(order, 0, 0.975, 8.0) for order in reached]
    records = [
        replace(one, points=(replace(one.points[0], extra={"latency_cr": reached[one.order]}),))
        for one in records
    ]
    words = latency_words("digits", records, 0.02)
    assert words.startswith("- digits, 2 %: the 3 orders of D, P, Q need 8 times fewer bit operations ")
    assert "and are 2 to 6 times faster; PQD, the best of arXiv 2604.04988 by" in words
    assert words.endswith("is 3 times faster, rank 2.")


def test_the_page_tells_law_claims_and_what_is_open_for_each_recording() -> None:
    plain = {loss: answer(loss, ("DPQE", "DQPE"), BEHIND) for loss in LOSSES}
    flipped = {**plain, 0.05: answer(0.05, ("EPQD",), {"EPQD": 0.1, "DPQE": 1.1, "DQPE": 1.3})}
    both = [recording("digits", plain), recording("cifar10", flipped)]
    page = findings_page(both, {"cifar10": exits()}, {"digits": timed()}, {}, {})
    assert "| digits | 3 | 3 | 98.0 % | 98.0 % | a chip | float32 |" in page
    assert "| CIFAR-10 (JPEG copies) | 3 | 3 |" in page
    assert "| 2 % | DPQE | DPQE, DQPE | 0.10 | 0.40 | 1.00 | 2.0 | 0.001 |" in page
    assert "| D(depth=0.5), 2 % | - | it takes 3 seeds |" in page
    assert "- At a tolerated loss of 0.2 % take DPQE, EPQD from 5 % on, DPQE from 8 % on." in page
    assert "- CIFAR-10 (JPEG copies), 5 %: EPQD alone is left." in page
    assert "- digits: Take D → P → Q → E if a loss of 2 % is tolerated" in page
    assert "- digits, 2 %: 1 beside DPQE may be best" in page
    assert "| digits | 2 % | PQ | 2.00 | QP | 4.00 | +0.33 | 2 |" in page
    assert "- digits, 2 %: the 2 orders of P, Q need 32 to 64 times fewer bit operations" in page
    assert "and are 2 to 4 times faster.\n" in page
    assert "| CIFAR-10 (JPEG copies) | 5 % | +2.00 [+2.00, +2.00] | +0.00 [+0.00, +0.00] | 3 |" in page
    weaker = "| weaker first | a rival: by the loss of each stage alone |"
    assert f"{weaker} DQPE: open (0.50, costs 0.20) | DQPE: fails (0.00, costs 1.20) |" in page


def test_races_of_many_stages_tell_where_the_predicted_chains_stand() -> None:
    asked = answer(0.02, ("SDQP", "DSQP"), {"SDQP": 0.1, "DSQP": 0.3, "DPUQSE": 4.2})
    raced = replace(recording("stages-digits", dict.fromkeys(LOSSES, asked)), weaker="QS")
    rows = {row[1]: row[2:] for row in rules_table({"stages-digits": raced}).rows}
    assert rows["recommended"] == ("SDQP", "0.10", "[0.00, 0.20]", "3")
    assert rows["principle, pairs"] == ("DPUQSE", "4.20", "[2.10, 8.40]", "3")
    assert rows["weaker first"] == ("QS", "never ran", "", "")
    first, second = race_words("stages-digits", raced)
    assert "3 chains; SDQP is expected 0.10 doublings behind" in first
    assert second.startswith("- Leaving a stage out costs")
