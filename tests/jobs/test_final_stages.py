"""Stages that nothing may follow: their place is known, needs no training, and no order breaks it."""

import pytest

from ordercomp.jobs.discover import closing_requests
from ordercomp.jobs.race import Race, plan_race
from ordercomp.jobs.search import first_sequences, task_space
from ordercomp.running.task import Task
from ordercomp.search.space import ExplicitOrders, LehmerOrders, OrderRules
from ordercomp.stages.catalog import final_stages


def task(stages: str, **more: object) -> Task:
    return Task(name="t", model="resnet8(width=4)", data="digits", stages=stages, **more)  # type: ignore[arg-type]


@pytest.mark.integration
def test_a_race_trains_nothing_for_the_place_of_h() -> None:
    with_h, without = Race(task=task("DPQEH"), seeds=3), Race(task=task("DPQE"), seeds=3)
    assert final_stages() == "H"
    assert with_h.stages == "DPQE"
    assert with_h.first == without.first
    plans = [plan_race(race, losing=True) for race in (with_h, without)]
    assert len(plans[0].nodes) == len(plans[1].nodes)
    assert [str(one) for one in with_h.finals("PD")] == [f"{one} H" for one in without.sequences(["PD"])]
    assert without.finals("PD") == []


def test_the_best_chain_is_coded_at_the_end() -> None:
    class Answered:
        recommended, best_set, probability_best = "DP", ("DP",), {"DP": 1.0}

    race = Race(task=task("DPH"), seeds=3)
    orders = [one.sequence.order for one in closing_requests(race, Answered())]  # type: ignore[arg-type]
    assert orders[0] == "DPH"
    assert not any(order.endswith("H") for order in orders[1:])


def test_eight_stages_are_planned_without_listing_their_orders() -> None:
    race = Race(task=task("DLPUWQEH"), seeds=2)
    assert race.stages == "DLPUWQE"
    plan = plan_race(race, losing=True)
    assert len(plan.nodes) < 600
    assert all("H" not in node.order for node in plan.nodes)


def test_a_task_that_names_h_before_others_is_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"stage H \(Entropy code\) must come last, as Q voids it, got 'DHQ'"
    ):
        task("DHQ")
    with pytest.raises(ValueError, match="stages must hold at least two letters to be ordered, got 'DH'"):
        Race(task=task("DH"), seeds=1)


def test_a_total_budget_is_shared_by_the_stages_that_train() -> None:
    both = task("DPQH", accounting="total")
    epochs = both.recipe.epochs
    assert str(both.sequence("DPQH")) == f"{both.sequence('DPQ')} H"
    assert [step.settings.get("epochs") for step in both.sequence("DH").steps] == [epochs * 3, None]


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("repeats", [0, 1])
def test_every_order_of_a_space_ends_well(optional: bool, repeats: int) -> None:
    rules = OrderRules(stages="DPHQ", optional=optional, repeatable="P", repeats=repeats, final="H")
    orders = rules.orders()
    assert len(orders) == rules.count()
    assert all("H" not in order[:-1] for order in orders)
    assert all(map(rules.allows, orders))
    assert not rules.allows("DPHQ")
    for code in (ExplicitOrders(tuple(orders)), LehmerOrders(rules)):
        for order in orders:
            chosen = code.parameters(order)
            assert code.draw(lambda name, _, chosen=chosen: chosen[name].value) == order
    wrong = dict(LehmerOrders(rules).parameters("DPQH" if not repeats else "DPPQH"))
    names = [name for name in wrong if name.startswith("pick.")]
    drawn = LehmerOrders(rules).draw(lambda name, kind: 0 if name in names else wrong[name].value)
    assert rules.ends_well(drawn)


def test_a_search_starts_with_h_last() -> None:
    chosen = task("DPQEH")
    space = task_space(chosen)
    assert space.final == "H"
    firsts = first_sequences(chosen, space)
    assert [one.order for one in firsts] == ["DPQEH", "PQEH"]
