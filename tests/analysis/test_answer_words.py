"""The answer in sentences: nothing is said that the numbers do not, and nothing is guessed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from page_data import a_pair, pick

from ordercomp.analysis.answer import Answer, AnswerAt, Behind, CostAnswer, Regret, Standing
from ordercomp.analysis.report.text import (
    STAGE_NAMES,
    answer_words,
    cost_text,
    listed,
    other_network,
    where_costs_differ,
    where_it_changes,
)
from ordercomp.analysis.statistics import Effect
from ordercomp.stages.catalog import STAGES


def standings(inside: Sequence[str], out: int) -> dict[str, Standing]:
    ends = [*dict.fromkeys(inside, (0.0, 0.4)).items(), *((f"out{k}", (1.8, 4.0)) for k in range(out))]
    return {
        order: Standing(value=8.0, behind=high, interval=(low, high), probability_best=0.0, seeds=3)
        for order, (low, high) in ends
    }


def answer(inside: Sequence[str] = ("DPQE", "DQPE"), out: int = 22, **changes: Any) -> AnswerAt:
    return replace(
        AnswerAt(
            loss=0.02,
            recommended="DPQE",
            best_set=tuple(inside),
            regret=Regret(expected=0.124, upper95=0.41, random_order=2.1),
            standings=standings(inside, out),
            precedence=(("D", "P"), ("D", "Q"), ("D", "E"), ("P", "E"), ("Q", "E")),
        ),
        **changes,
    )


def test_the_answer_names_order_cost_what_is_out_and_what_holds() -> None:
    words = answer_words(answer(), "DPQE")
    assert words.lines == (
        "Take D → P → Q → E if a loss of 2 % is tolerated; 1 other may be as good.",
        "Against the best of the orders, whichever that is, it is expected to need about 9 % more bit "
        "operations, with 95 % confidence at most 33 % more; an order taken at random needs about 4.3 times "
        "as many.",
        "22 of the 24 orders that were run are out; 2 may be the best: DPQE or DQPE.",
        "Whichever of them is best: D before P, D before Q, P before E and Q before E.",
    )


def test_a_single_order_left_needs_no_precedence_beside_it() -> None:
    words = answer_words(answer(["DPQE"], 23, loss=None), "DPQE")
    assert words.headline == "Take D → P → Q → E."
    assert (words.out, words.holds) == ("All other 23 of 24 orders that were run are out.", "")
    assert answer_words(answer(["DP"], 1), "DP").out == "The other order is out."


def test_an_order_that_surely_costs_nothing_is_not_told_to_need_no_more() -> None:
    regret = Regret(expected=0.0, upper95=0.001, random_order=1.5)
    assert answer_words(answer(["DPQE"], 23, regret=regret), "DPQE").cost == (
        "With 95 % confidence none of the other orders needs fewer bit operations; an order taken at random "
        "needs about 2.8 times as many."
    )


def test_a_set_that_shares_no_precedence_says_so() -> None:
    words = answer_words(answer(["DPQE", "EQPD"], precedence=()), "DPQE")
    assert words.holds == "No pair of stages stands the same way in all of them."


def test_nothing_is_guessed_where_nothing_can_be_told() -> None:
    words = answer_words(AnswerAt(loss=0.01, seeds_needed=3), "DPQE")
    assert words.lines == (
        "These records cannot tell yet which order to take at a tolerated loss of 1 %. It would take 3 seeds "
        "of the orders that are left.",
    )


def test_a_loss_that_hardly_any_network_keeps_to_is_named() -> None:
    assert answer_words(AnswerAt(loss=0.002), "DPQE").lines == (
        "Nothing is recommended at a tolerated loss of 0.2 %: hardly any network loses so little.",
    )


def test_no_order_out_is_said_and_a_long_set_is_only_counted() -> None:
    all_in = [f"in{k}" for k in range(24)]
    assert answer_words(answer(all_in, 0, precedence=()), "DPQE").out == (
        "None of the 24 orders that were run is out: each may be the best."
    )
    assert answer_words(answer(all_in[:9], 15), "DPQE").out == (
        "15 of the 24 orders that were run are out; 9 may be the best."
    )


@pytest.mark.parametrize(
    ("doublings", "words"),
    [
        (0.0, "no more"),
        (0.006, "about 1 % more"),
        (0.124, "about 9 % more"),
        (0.99, "about 99 % more"),
        (1.0, "about 2 times as many"),
        (2.1, "about 4.3 times as many"),
        (8.0, "about 256 times as many"),
    ],
)
def test_doublings_in_words(doublings: float, words: str) -> None:
    assert cost_text(doublings) == words


def test_the_best_changes_where_what_may_be_best_has_nothing_in_common() -> None:
    early = [answer(loss=loss, recommended=order) for loss, order in ((0.01, "DPQE"), (0.02, "DQPE"))]
    late = answer(["DEPQ", "EDPQ"], loss=0.05, recommended="DEPQ")
    nothing = answer(loss=0.08, recommended=None)
    overlap = "From a tolerated loss of 1 % to 2 % the sets that may be best overlap."
    assert where_it_changes(early) == overlap  # DQPE at 2 % may have been best at 1 %, too
    assert (
        where_it_changes([*early, late, nothing]) == "At a tolerated loss of 1 % take DPQE, DEPQ from 5 % on."
    )
    blind = [answer(out=0, loss=loss) for loss in (0.002, 0.006)]
    assert where_it_changes([*blind, *early]).endswith(" At 0.2 % and 0.6 % nothing is out.")
    assert where_it_changes([late, nothing]) == ""


def test_shorter_chains_are_told_beside_the_order_of_all_stages() -> None:
    whole = answer(["DPQE", "DQPE"], 22)
    told = answer(
        ["DQ", "DPQE"],
        62,
        recommended="DQ",
        all_stages=whole,
        at_floor=0.4,
        worth={
            "Q": Behind(behind=5.1, interval=(4.5, 5.5)),
            "P": Behind(behind=0.01, interval=(0.0, 0.05)),
        },
    )
    lines = answer_words(told, "DPQE").lines
    assert "62 of the 64 chains that were run are out; 2 may be the best: DQ or DPQE." in lines
    assert (
        "What leaving a stage out costs, in doublings [95 %]: Q 5.10 [4.50, 5.50], P 0.01 [0.00, 0.05]. "
        "P brings nothing here."
    ) in lines
    assert (
        "If all of DPQE are used: D → P → Q → E, 0.40 doublings behind the best chain; 1 other of 24 orders "
        "may be as good."
    ) in lines
    assert "needs about 4.3 times as many (40 % of the values do not)." in lines[1]


def test_the_decided_pairs_are_told_with_the_rank_of_the_orders_that_keep_them() -> None:
    pairs = (
        a_pair("D", "P", "before", effect=Effect(mean=0.3, interval=(0.1, 0.5), probability=0.99)),
        a_pair("D", "Q", effect=Effect(mean=0.0, interval=(-0.1, 0.5), probability=0.5)),
        a_pair("P", "Q", "after", effect=Effect(mean=-0.3, interval=(-0.5, -0.1), probability=0.02)),
    )
    orders = ["DPQ", "QDP", "DQP", "PDQ", "PQD", "QPD"]
    told = answer(
        orders[:2], 0, recommended="DPQ", pairs=pairs, standings=standings(orders, 0), precedence=()
    )
    assert told.sorts == {"QDP": 2, "DQP": 3}
    assert answer_words(told, "DPQ").road == (
        "Decided pair by pair, as probabilities for the best chain: D before P (0.99) and Q before P (0.98). "
        "Of 6 orders 2 keep them, of rank 2 and 3; 1 of these may be the best."
    )
    assert answer_words(replace(told, pairs=pairs[1:2]), "DPQ").road.startswith("Pair by pair no order")


def test_a_table_of_scores_speaks_of_the_score() -> None:
    words = answer_words(answer(), "DPQE", cost="score")
    assert words.cost == (
        "Against the best of the orders its score is expected to lie 0.12 behind, with 95 % confidence "
        "at most 0.41; one taken at random lies 2.1 behind."
    )
    assert "bit operations" not in " ".join(words.lines)


def test_draws_that_have_not_settled_are_warned_of() -> None:
    assert answer_words(answer(rhat=1.01, effective_draws=400.0), "DPQE").doubt == ""
    assert (
        "R-hat 1.40, 12 effective draws" in answer_words(answer(rhat=1.4, effective_draws=12.0), "DPQE").doubt
    )


def test_a_network_of_another_order_that_reached_more_is_told_in_a_line() -> None:
    own, other = pick(0.02, "DPQ"), replace(pick(0.02, "QPD"), reduction=96.0, test_loss=0.021)
    assert other_network([own]) == ""
    told = "One that reached more, maybe by luck: QPD, 96×, 2.10 points lost."
    assert other_network([own, other]) == told


def test_names_are_joined() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_the_cost_is_named_and_where_the_best_changes_with_it() -> None:
    assert "more bits of storage" in answer_words(answer(), "DPQE", cost="storage").cost
    other = CostAnswer(recommended="QP", best_set=("QP", "PQ"))
    same = CostAnswer(recommended="DQPE", best_set=("DQPE",))
    asked = Answer(asked=answer(), by_cost={"storage": other, "macs": same})
    assert where_costs_differ(asked) == ("The best changes with the cost: by bits of storage take Q → P.")
    asked = replace(asked, by_cost={"storage": same, "macs": same})
    assert where_costs_differ(asked) == (
        "By bits of storage or multiplications the sets that may be best overlap with that by bit operations."
    )
    assert where_costs_differ(replace(asked, by_cost={})) == ""


def test_chains_that_a_copy_alone_tells_of_are_not_said_to_have_run() -> None:
    told = answer()
    ran = dict(list(told.standings.items())[:9])
    others = {order: replace(own, seeds=0) for order, own in told.standings.items() if order not in ran}
    words = answer_words(replace(told, standings={**ran, **others}), "DPQE")
    assert words.out == (
        "22 of the 24 orders, of which 9 were run here and the others on a cheaper copy, are out; 2 may be "
        "the best: DPQE or DQPE."
    )


def test_every_built_in_stage_has_a_name_in_sentences() -> None:
    assert set(STAGES) <= set(STAGE_NAMES)


def test_a_share_that_rounds_to_nothing_is_not_told() -> None:
    few, many = (answer(["DPQE", "DQPE"], 22, at_floor=share) for share in (0.004, 0.4))
    assert "of the values do not" not in " ".join(answer_words(few, "DPQE").lines)
    assert "(40 % of the values do not)" in " ".join(answer_words(many, "DPQE").lines)
