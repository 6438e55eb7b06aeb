"""The ladder: settings made gentler or harder along the stages' grids until fronts bracket the loss."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna
import pytest
from builders import make_record

from ordercomp.analysis.values import Hint
from ordercomp.jobs.ladder import MOST_STEPS, RaceState, find_ladder, moved
from ordercomp.jobs.race import Race
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.node import create_network
from ordercomp.running.task import TASKS, Task
from ordercomp.sequence import StageSequence

LIGHT, HARD = {"P": {"ratio": 0.4}, "Q": {"weights": 4}}, {"P": {"ratio": 0.6}, "Q": {"weights": 2}}
TASK = replace(
    TASKS["digits"],
    model="resnet8(width=2)",
    stages="PQ",
    knobs={"Q": {"activations": 8}},
    settings=(LIGHT, HARD),
)


def loss_by_bits(least: float) -> Callable[[StageSequence], float]:
    """Each halving of the bits that are left costs 3 %, after the first ones."""

    def loss(sequence: StageSequence) -> float:
        knobs = {step.stage: step.settings for step in sequence.steps}
        pruned = 0.1 * float(knobs["P"]["ratio"]) if "P" in knobs else 0.0
        quantized = least * 8 / float(knobs["Q"]["weights"]) if "Q" in knobs else 0.0
        return pruned + quantized

    return loss


def train(requests: Sequence[Request], loss: Callable[[StageSequence], float]) -> list[Record]:
    nodes = dict.fromkeys((prefix, one.seed) for one in requests for prefix in one.sequence.prefixes)
    made = []
    for sequence, seed in nodes:
        record = make_record(sequence.order, seed, 0.98 - loss(sequence), 4.0 ** len(sequence), task="digits")
        made.append(replace(record, sequence=str(sequence), extra={"accounting": "per-stage"}))
    return made


@pytest.fixture(scope="module")
def network() -> CompressedNetwork:
    return create_network(TASKS["digits"], seed=0)


def found(
    task: Task, loss: Callable[[StageSequence], float], hint: Hint | None = None
) -> tuple[RaceState, int]:
    """The state after its ladder was found in a world of these losses, and the rounds of probes it took."""
    race = Race(task=task, seeds=3, hint=hint or Hint())
    study = optuna.create_study()
    state = RaceState.of(race, study)
    records = train(race.requests(race.first), loss)
    rounds = 0
    for requests in find_ladder(state, records.copy):
        rounds += 1
        records += train(requests, loss)
    again = RaceState.of(race, study)
    assert (again.why, again.race, again.left) == (state.why, state.race, state.left)
    return state, rounds


def test_settings_on_both_sides_of_the_loss_stay() -> None:
    state, rounds = found(replace(TASK, loss=0.06), loss_by_bits(0.01))
    assert (state.race.task.settings, rounds) == (TASK.settings, 0)
    assert state.why == "the task's knob settings bracket a loss of 6 %"


@pytest.mark.integration
def test_gentler_settings_are_made_where_hardly_any_order_keeps_to_the_loss() -> None:
    state, rounds = found(replace(TASK, loss=0.03), loss_by_bits(0.01))
    gentle, before = state.race.task.settings
    assert rounds == 1
    assert gentle["P"]["ratio"] < before["P"]["ratio"] == 0.4
    assert float(gentle["Q"]["weights"]) > 4 == before["Q"]["weights"]
    assert state.left == [HARD]
    assert state.why.startswith(
        "for a loss of 3 % all chains run with P 0.2, Q 8/16 and P 0.4, Q 4/8, as hardly"
    )


@pytest.mark.parametrize(("slope", "whose"), [(0.75, "the copy's"), (0.0, "the task's")])
def test_where_hints_name_short_chains_first_these_are_judged(slope: float, whose: str) -> None:
    """None of all stages is among them, which says nothing against the settings."""
    state, rounds = found(
        replace(TASK, loss=0.06), loss_by_bits(0.01), Hint({"Q": 3.0, "P": 2.0}, slope=slope)
    )
    assert (state.race.task.settings, rounds) == (TASK.settings, 0)
    assert state.why == f"{whose} knob settings bracket a loss of 6 %"


@pytest.mark.integration
def test_settings_that_a_copy_took_are_made_gentler_where_the_task_loses_more() -> None:
    """What a barely trained copy bears need not suit the task."""
    hint = Hint({"Q": 3.0, "PQ": 2.0, "QP": 1.0}, slope=0.75)
    state, rounds = found(replace(TASK, loss=0.01), loss_by_bits(0.01), hint)
    assert rounds == 1
    assert state.race.task.settings[0]["Q"]["weights"] > 4
    assert state.why.endswith("as hardly any first chains keep to it at the copy's")


@pytest.mark.integration
def test_harder_settings_are_made_where_all_orders_lose_much_less() -> None:
    state, _ = found(replace(TASK, loss=0.3), loss_by_bits(0.01))
    before, hard = state.race.task.settings
    assert before == HARD
    assert hard["P"]["ratio"] > 0.6
    assert hard["Q"]["weights"] == 1
    assert state.left == [LIGHT]


@pytest.mark.integration
def test_grids_at_their_end_are_told_and_the_gentlest_is_taken() -> None:
    state, rounds = found(replace(TASK, loss=0.0001), lambda _: 0.5)
    assert rounds <= MOST_STEPS
    assert state.why.endswith("; they cannot be made gentler, all grids are at their end")
    assert len(state.race.task.settings) == 2


@pytest.mark.integration
def test_a_step_moves_each_static_stage_that_can_and_the_worst_one_by_two(network: CompressedNetwork) -> None:
    task = TASKS["digits"]
    start = task.settings[0]
    gentler = moved(task, network, start, gentler=True, offender="Q")
    assert gentler == {"D": {"depth": 0.7}, "P": {"ratio": 0.1}, "Q": {"weights": 16, "activations": 32}}
    harder = moved(task, network, start, gentler=False, offender="Q")
    assert harder == {"D": {"depth": 0.6}, "P": {"ratio": 0.3}, "Q": {"weights": 2, "activations": 4}}
    ends = {"D": {"depth": 1.0}, "P": {"ratio": 0.05}, "Q": {"weights": 32, "activations": 32}}
    assert moved(task, network, ends, gentler=True, offender="") is None


def test_a_setting_that_decides_nothing_stops_and_its_records_no_longer_speak() -> None:
    race = Race(task=replace(TASK, loss=0.3), seeds=3)
    state = RaceState.of(race, optuna.create_study())
    state.settle(TASK.settings, "as told")
    records = train(race.requests(race.first), loss_by_bits(0.01))
    harder = [  # of the two settings the one of 2 bits reduces more, and all keep to the loss
        replace(one, points=tuple(replace(point, bitops_cr=2 * point.bitops_cr) for point in one.points))
        if "weights=2" in one.sequence
        else one
        for one in records
    ]
    state.drop_idle(harder)
    assert state.race.task.settings == (HARD,)
    assert state.why == "as told; P 0.4, Q 4/8 decides nothing there and stops"
    held = {one.sequence: state.holds(one) for one in harder}
    assert not held[str(TASK.sequence("PQ", LIGHT))]
    assert held[str(TASK.sequence("PQ", HARD))]
    assert RaceState.of(race, state._study).left == [LIGHT]
