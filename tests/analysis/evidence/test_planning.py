"""The adaptive budget."""

import numpy as np
import pytest
from builders import KNOBS, make_record

from ordercomp.analysis.evidence.planning import Block, Planner, blocks
from ordercomp.analysis.evidence.simulation import Planted, simulate
from ordercomp.analysis.law.derive import derive_law
from ordercomp.records import Record

Runs = dict[tuple[str, int], Record]


def oracle(truth: Planted, seeds: int) -> Runs:
    records = simulate(truth, seeds=seeds, rng=np.random.default_rng(0))
    return {(record.sequence, record.seed): record for record in records}


def follow(planner: Planner, runs: Runs) -> set[tuple[str, int]]:
    """Train whatever is proposed until nothing is."""
    trained: set[tuple[str, int]] = set()
    while (block := planner.propose()) is not None:
        for node in block.nodes:
            if node not in trained:
                trained.add(node)
                planner.learn(runs[node])
    return trained


def test_four_stages_have_66_blocks_a_setting_and_seed() -> None:
    menu = blocks("DPQE", [KNOBS], [0, 1])
    assert len(menu) == 2 * 66
    assert {len([b for b in menu if b.pair == pair]) for pair in {b.pair for b in menu}} == {22}


def test_blocks_that_settings_share_are_listed_once() -> None:
    menu = blocks("DP", [KNOBS, {**KNOBS, "E": {"exits": 3}}], [0])
    assert menu == [Block(("D", "P"), ("D(depth=0.5) P(ratio=0.4)", "P(ratio=0.4) D(depth=0.5)"), 0)]
    assert [text for text, _ in menu[0].nodes] == [
        "D(depth=0.5)",
        "P(ratio=0.4)",
        "D(depth=0.5) P(ratio=0.4)",
        "P(ratio=0.4) D(depth=0.5)",
    ]


def test_prefixes_that_are_trained_or_under_way_cost_nothing() -> None:
    menu = blocks("DP", [{}], [0, 1])
    planner = Planner("DP", menu, seconds={"D": 5.0, "P": 2.0})
    assert planner.cost(menu[0]) == 5 + 2 + 2 + 5
    planner.learn(make_record("D", 0, knobs={}, seconds=3.0))
    assert planner.cost(menu[0]) == 2 + 2 + 3  # D now costs what it took
    proposed = planner.propose()
    assert proposed is not None
    assert planner.cost(proposed) == 0


def test_the_cheapest_seed_comes_first_and_no_block_twice() -> None:
    menu = blocks("DP", [{}], range(4))
    planner = Planner("DP", menu)
    planner.learn(make_record("D", 0, knobs={}))
    proposed = [planner.propose() for _ in range(5)]
    assert [block.seed for block in proposed if block] == [0, 1, 2, 3]
    assert proposed[-1] is None


def test_a_clear_law_takes_a_fraction_of_the_full_design() -> None:
    runs = oracle(Planted.law("DPQE", 1.0), 8)
    planner = Planner("DPQE", blocks("DPQE", [{}], range(8)))
    trained = follow(planner, runs)
    assert {pair.verdict for pair in planner.evidence} == {"before"}
    assert len(trained) <= len(runs) / 3


def test_settled_pairs_ask_for_nothing() -> None:
    runs = oracle(Planted.law("DPQ", 1.0), 4)
    planner = Planner("DPQ", blocks("DPQ", [{}], range(6)))
    for record in runs.values():
        planner.learn(record)
    assert planner.propose() is None


def test_an_undecided_pair_is_the_one_that_gets_more() -> None:
    truth = Planted(stages="DPQ", effects={("D", "P"): 2.0, ("D", "Q"): 2.0, ("P", "Q"): 0.2}, taste=0.15)
    runs = oracle(truth, 4)
    planner = Planner("DPQ", blocks("DPQ", [{}], range(8)))
    for (_, seed), record in runs.items():
        if seed < 3:
            planner.learn(record)
    verdicts = {(pair.first, pair.second): pair.verdict for pair in planner.evidence}
    assert verdicts == {("D", "P"): "before", ("D", "Q"): "before", ("P", "Q"): "undecided"}
    proposed = planner.propose()
    assert proposed is not None
    assert (proposed.pair, proposed.seed) == (("P", "Q"), 3)


def test_the_same_records_lead_to_the_same_proposals() -> None:
    runs = oracle(Planted.law("DPQ", 0.5), 5)
    first, second = (Planner("DPQ", blocks("DPQ", [{}], range(5)), seed=7) for _ in range(2))
    assert follow(first, runs) == follow(second, runs)


def test_failed_runs_are_not_asked_for_again() -> None:
    planner = Planner("DP", blocks("DP", [{}], [0]))
    planner.learn(make_record("DP", 0, knobs={}, error="loss became NaN"))
    planner.learn(make_record("PD", 0, knobs={}))
    assert planner.propose() is None


@pytest.mark.parametrize("seed", range(3))
def test_without_any_effect_adaptive_plans_make_no_edge(seed: int) -> None:
    records = simulate(Planted(stages="DPQ", node_noise=0.3), seeds=4, rng=np.random.default_rng(seed))
    runs = {(record.sequence, record.seed): record for record in records}
    planner = Planner("DPQ", blocks("DPQ", [{}], range(4)))
    follow(planner, runs)
    assert not {pair.verdict for pair in planner.evidence} & {"before", "after"}


def test_seeds_of_the_planner_are_further_ones_and_those_it_was_given_are_planned() -> None:
    runs = oracle(Planted(stages="DPQ"), 5)
    planner = Planner("DPQ", blocks("DPQ", [{}], range(5)))
    for (_, seed), record in runs.items():
        if seed < 3:
            planner.learn(record)
    assert planner.planned == 3
    widths = [pair.effect.high - pair.effect.low for pair in planner.evidence]
    follow(planner, runs)
    assert planner.planned == 3
    fixed = derive_law([record for (_, seed), record in runs.items() if seed < 3])
    for width, pair in zip(widths, fixed.pairs, strict=True):
        assert width > 1.2 * (pair.effect.high - pair.effect.low)


def test_looking_after_every_seed_does_not_decide_more_often_by_luck() -> None:
    fooled, simulations = 0, 40
    for number in range(simulations):
        truth = Planted(stages="DP", node_noise=0.3)
        records = simulate(truth, seeds=10, rng=np.random.default_rng(number))
        planner = Planner("DP", blocks("DP", [{}], range(10)))
        verdicts = set()
        for record in records:  # the whole trie of one seed after the other: 7 looks
            if record.seed >= 3:
                planner.propose()
            planner.learn(record)
            verdicts |= {pair.verdict for pair in planner.evidence}
        fooled += bool(verdicts & {"before", "after"})
    assert fooled / simulations <= 0.07
