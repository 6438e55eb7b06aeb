"""The race of a task: what starts and what follows, controls and repetitions, plans."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.race import Cell
from ordercomp.jobs import race as race_module
from ordercomp.jobs.race import Race, described, plan_race, with_prefixes
from ordercomp.records import CostName, Record
from ordercomp.running.node import SIDE_BY_SIDE
from ordercomp.running.task import TASKS
from ordercomp.sequence import permutations
from ordercomp.stages.catalog import STAGES, known_stages

DIGITS = TASKS["digits"]


def measured(race: Race, cells: list[Cell], value: Mapping[str, float]) -> list[Record]:
    """Records of chains at seeds in a world where each order has this reduction, in doublings.

    Shorter chains have one.
    """
    nodes = {
        (prefix, request.seed): None
        for request in race.requests(cells)
        for prefix in request.sequence.prefixes
    }
    records: list[Record] = []
    for sequence, seed in nodes:
        rng = np.random.default_rng([seed, *str(sequence).encode()])
        reduction = 2 ** (value.get(sequence.order, 1.0) + 0.1 * rng.standard_normal())
        made = make_record(sequence.order, seed, 0.975, reduction, task="digits", accounting="per-stage")
        records.append(replace(made, sequence=str(sequence)))
    return records


@pytest.mark.integration
def test_a_quarter_starts_at_all_settings_and_the_rest_follows_where_the_doubt_is() -> None:
    race = Race(task=DIGITS, seeds=8)
    value = {order: 5.0 + order.index("E") for order in permutations("DPQE")}
    assert len(race.requests(race.first)) == 12
    records, cells = measured(race, list(race.first), value), list(race.first)
    for _ in range(6):
        block = race.next_cells(records, cells)
        cells += block
        records = measured(race, cells, value)
    later = [chain for chain, _ in cells[6:]]
    assert sum(chain.endswith("E") for chain in later) >= len(later) / 2


def test_what_is_open_decides_nothing_and_is_not_chosen_again() -> None:
    race = Race(task=DIGITS, seeds=8)
    value = dict.fromkeys(permutations("DPQE"), 5.0)
    records = measured(race, list(race.first), value)
    block = race.next_cells(records, race.first)
    more = [*records, *measured(race, list(block)[:1], value)]
    following = race.next_cells(more, race.first, block)
    assert following == race.next_cells(records, race.first, block)
    assert not set(block) & set(following)


def test_seeds_that_may_be_one_network_are_asked_for_together_until_that_did_not_pay() -> None:
    race = Race(task=DIGITS, seeds=6, side_by_side=3)
    value = dict.fromkeys(permutations("DPQE"), 5.0)
    records = measured(race, list(race.first), value)
    block = race.next_cells(records, race.first)
    ran = with_prefixes([*race.first, *block])
    assert all({(chain, mate) for mate in range(3)} <= ran for chain, seed in block if seed < 3)
    asked = [request.sequence for request in race.requests(block)]
    assert len(list(itertools.groupby(asked))) == len(set(asked))
    apart = measured(race, list(block), value)
    together = [replace(record, extra={**record.extra, SIDE_BY_SIDE: [0, 3]}) for record in apart]
    later = with_prefixes([*ran, *race.next_cells([*records, *together], ran)]) - ran
    assert all((chain, mate) in ran | later for chain, seed in later for mate in range(3 * (seed // 3), 3))
    assert len({seed for _, seed in later}) == 3
    alone = replace(race, side_by_side=1)
    assert race.next_cells([*records, *apart], ran) == alone.next_cells([*records, *apart], ran)


def test_chains_are_in_doubt_by_the_cost_of_the_task() -> None:
    """Short chains reduce bit operations least, and storage most."""
    value = {order: 5.0 + order.index("E") for order in permutations("DPQE")}
    costs: tuple[CostName, ...] = ("bitops", "storage")
    longest = {}
    for cost in costs:
        race = Race(task=replace(DIGITS, cost=cost), seeds=8)
        records = [
            replace(one, points=tuple(replace(point, cr=1000 / point.bitops_cr) for point in one.points))
            for one in measured(race, list(race.first), value)
        ]
        table = race.table(records, with_prefixes(race.first))
        longest[cost] = len(table.orders[int(np.nanmean(table.values, axis=1).argmax())])
        assert race.next_cells(records, race.first)
    assert longest["bitops"] == 4 > longest["storage"]


def test_a_race_ends_where_nothing_was_measured() -> None:
    race = Race(task=DIGITS, seeds=2)
    assert race.next_cells([], race.first) == ()


def test_controls_follow_static_prefixes_alone() -> None:
    race = Race(task=DIGITS, seeds=3)
    assert sorted({one.order for one in race.controls(["DPQE", "DEPQ"])}) == ["DF", "DPF", "DPQF"]
    assert len(race.controls(["DPQE"])) == 2 * 3


def test_a_stage_is_repeated_beside_one_that_is_as_hard_at_once_and_after_the_order() -> None:
    race = Race(task=DIGITS, seeds=3)
    assert [str(one) for one in race.repetitions("QPE")] == [
        "Q(weights=4,activations=8) Q(weights=2,activations=4)",
        "Q(weights=2,activations=4)",
        str(DIGITS.sequence("QPEQ", DIGITS.settings[0])),
        "P(ratio=0.4) P(ratio=0.4)",
        "P(ratio=0.4)",
        "P(ratio=0.64)",
        str(DIGITS.sequence("QPEP", DIGITS.settings[0])),
    ]


def test_what_is_as_hard_at_once_stays_within_the_knobs() -> None:
    """A ladder may have made the usual one as hard as can be."""
    hard = {"D": {"depth": 0.2}, "P": {"ratio": 0.85}}
    race = Race(task=replace(DIGITS, settings=({}, hard)), seeds=3)
    asked = {str(sequence) for sequence in race.repetitions("DP")}
    assert {"D(depth=0.1)", "P(ratio=0.9)"} <= asked


def test_a_setting_is_told_in_few_words() -> None:
    assert described(DIGITS, DIGITS.settings[0]) == "D 0.7, P 0.2, Q 4/8"


@pytest.mark.integration
def test_a_plan_says_what_is_trained_at_most_and_as_expected() -> None:
    race = Race(task=DIGITS, seeds=3)
    most, expected = (plan_race(race, losing=losing) for losing in (False, True))
    assert len(most.seeds) == 3
    assert most.seeds[0] == tuple(permutations("DPQE"))
    assert len(expected.nodes) < len(most.nodes) <= 3 * 2 * 64 + 2 * 15
    assert most.unshared > len(most.nodes)


@pytest.mark.integration
@pytest.mark.parametrize("count", [6, 8, 10])
def test_many_stages_are_planned_without_listing_their_orders(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = "DPQEKABCGJ"[:count]
    known = {letter: STAGES.get(letter, STAGES["K"]) for letter in letters}
    monkeypatch.setattr("ordercomp.running.task.known_stages", lambda: known)
    monkeypatch.setattr("ordercomp.stages.catalog.known_stages", lambda: known)
    monkeypatch.setattr(race_module, "known_stages", lambda: {**known_stages(), **known})
    race = Race(task=replace(DIGITS, stages=letters), seeds=4)
    plan = plan_race(race, losing=False)
    assert len(plan.seeds[0]) in (24, 36, 48)
    assert len(plan.nodes) < 4 * 2 * 442


@pytest.mark.parametrize(
    ("stages", "seeds", "message"),
    [("P", 2, "at least two"), ("PE", 0, "seeds must be"), ("PEP", 2, "distinct")],
)
def test_what_is_no_race_is_refused(stages: str, seeds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Race(task=replace(DIGITS, stages=stages), seeds=seeds)
    with pytest.raises(ValueError, match="first_seed must be at least 0, got -1"):
        Race(task=DIGITS, seeds=2, start=-1)


def test_a_race_from_another_seed_on_reads_its_own_seeds_and_goes_the_same_way() -> None:
    value = {order: 5.0 + order.index("E") for order in permutations("DPQE")}
    own, later = Race(task=DIGITS, seeds=8), Race(task=DIGITS, seeds=8, start=20)
    records = measured(own, list(own.first), value)
    shifted = [replace(record, seed=record.seed + 20) for record in records]
    assert {request.seed for request in later.requests(later.first)} == {20}
    assert later.next_cells([*records, *shifted], later.first) == own.next_cells(records, own.first)
    assert not np.isfinite(later.table(records, with_prefixes(later.first)).values).any()
