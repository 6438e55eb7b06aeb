"""The race of a task: blocks by seed, controls where they matter, plans without enumerating all orders."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.jobs import race as race_module
from ordercomp.jobs.race import Race, plan_race
from ordercomp.records import CostName, Record
from ordercomp.running.task import TASKS
from ordercomp.sequence import permutations
from ordercomp.stages.catalog import STAGES, known_stages

DIGITS = TASKS["digits"]


def measured(race: Race, value: Mapping[str, float], seeds: int) -> list[Record]:
    """Records of the first blocks of a race in a world where each order has this reduction, in doublings.

    Shorter chains have one.
    """
    rng = np.random.default_rng(0)
    records: list[Record] = []
    for seed in range(seeds):
        block = race.next_block(records, range(seed))
        for sequence in dict.fromkeys(prefix for one in block for prefix in one.prefixes):
            reduction = 2 ** (value.get(sequence.order, 1.0) + 0.1 * rng.standard_normal())
            made = make_record(sequence.order, seed, 0.975, reduction, task="digits", accounting="per-stage")
            records.append(replace(made, sequence=str(sequence)))
    return records


def test_blocks_are_halves_at_all_rungs_until_orders_lose() -> None:
    race = Race(task=DIGITS, seeds=8)
    value = {order: 5.0 + order.index("E") for order in permutations("DPQE")}
    records = measured(race, value, 4)
    whole = [record for record in records if len(record.order) == 4]
    orders = [{record.order for record in whole if record.seed == seed} for seed in range(4)]
    assert [len(some) for some in orders] == [12, 12, 12, 6]
    assert orders[0] | orders[1] == set(value)
    assert all(order.endswith("E") for order in orders[3])
    assert len([record for record in whole if record.seed == 3]) == 12  # two rungs


def test_an_unfinished_seed_does_not_decide_who_runs_next() -> None:
    race = Race(task=DIGITS, seeds=8)
    records = measured(race, dict.fromkeys(permutations("DPQE"), 5.0), 2)
    torn = [record for record in records if record.seed == 0] + records[-3:]
    assert race.next_block(torn, [0]) == race.next_block(records, [0])


@pytest.mark.parametrize(("cost", "left"), [("bitops", {4}), ("storage", {1, 2, 3})])
def test_chains_leave_by_the_cost_of_the_task(cost: CostName, left: set[int]) -> None:
    """Short chains reduce bit operations least, and storage most."""
    race = Race(task=replace(DIGITS, cost=cost), seeds=8)
    records = [
        replace(one, points=tuple(replace(point, cr=1000 / point.bitops_cr) for point in one.points))
        for one in measured(race, {order: 5.0 + order.index("E") for order in permutations("DPQE")}, 3)
    ]
    assert {len(sequence.order) for sequence in race.next_block(records, range(3))} <= left


def test_a_race_ends_after_its_seeds() -> None:
    race = Race(task=DIGITS, seeds=2)
    records = measured(race, dict.fromkeys(permutations("DPQE"), 5.0), 2)
    assert race.next_block(records, [0, 1]) == []


def test_controls_follow_static_prefixes_alone() -> None:
    race = Race(task=DIGITS, seeds=3)
    assert sorted({one.order for one in race.controls(["DPQE", "DEPQ"])}) == ["DF", "DPF", "DPQF"]
    assert len(race.controls(["DPQE"])) == 2 * 3


def test_a_plan_says_what_is_trained_at_most_and_as_expected() -> None:
    race = Race(task=DIGITS, seeds=4)
    most, expected = (plan_race(race, losing=losing) for losing in (False, True))
    assert len(most.blocks) == 4
    assert len(expected.nodes) < len(most.nodes) <= 4 * 2 * 37 + 2 * 2 * 15
    assert most.unshared > len(most.nodes)


@pytest.mark.parametrize("count", [6, 8, 10])
def test_many_stages_are_planned_without_listing_their_orders(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = "DPQEKABCGH"[:count]
    known = {letter: STAGES.get(letter, STAGES["K"]) for letter in letters}
    monkeypatch.setattr("ordercomp.running.task.known_stages", lambda: known)
    monkeypatch.setattr("ordercomp.stages.catalog.known_stages", lambda: known)
    monkeypatch.setattr(race_module, "known_stages", lambda: {**known_stages(), **known})
    race = Race(task=replace(DIGITS, stages=letters), seeds=4)
    plan = plan_race(race, losing=False)
    assert len(plan.blocks[0]) in (2 * 24, 2 * 36, 2 * 48)
    assert len(plan.nodes) < 4 * 2 * 442


@pytest.mark.parametrize(
    ("stages", "seeds", "message"),
    [("P", 2, "at least two"), ("PE", 0, "seeds must be"), ("PEP", 2, "distinct")],
)
def test_what_is_no_race_is_refused(stages: str, seeds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Race(task=replace(DIGITS, stages=stages), seeds=seeds)
