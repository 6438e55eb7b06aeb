"""What a search proposes: nothing that cannot be applied, nothing twice under another name."""

from dataclasses import replace

import optuna
import pytest
from tiny_networks import tiny_network

from ordercomp.jobs.search import first_sequences, task_space, useful_space
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import load_task
from ordercomp.search.space import Space
from ordercomp.sequence import StageSequence
from ordercomp.stages.blocks import split_candidates
from ordercomp.stages.catalog import apply_untrained

optuna.logging.set_verbosity(optuna.logging.WARNING)

DIGITS = load_task("digits")


@pytest.fixture(scope="module")
def network() -> CompressedNetwork:
    """Three blocks, of which one can be dropped, so that many depths fail or come to the same."""
    return tiny_network("resnet8(width=4)")


@pytest.fixture(scope="module")
def space(network: CompressedNetwork) -> Space:
    return useful_space(task_space(DIGITS), network)


def values(space: Space, letter: str, name: str) -> list[object]:
    only = Space(letter, {letter: {name: space.knobs[letter][name]}})
    return [one.steps[0].settings[name] for one in only.sequences()]


@pytest.mark.integration
def test_depths_that_drop_no_block_or_the_same_ones_are_left_out(
    network: CompressedNetwork, space: Space
) -> None:
    assert values(space, "D", "depth") == [0.5]
    smaller = apply_untrained(network, StageSequence.parse("D(depth=0.5)"))
    assert len(smaller.dropped) == 1


@pytest.mark.integration
def test_exits_are_as_many_as_the_network_has_places(network: CompressedNetwork, space: Space) -> None:
    assert values(space, "E", "exits") == list(range(1, len(split_candidates(network)) + 1))


def test_finer_stages_keep_their_knobs(space: Space) -> None:
    whole = task_space(DIGITS)
    assert {letter: space.knobs[letter] for letter in "PQ"} == {
        letter: whole.knobs[letter] for letter in "PQ"
    }


@pytest.mark.integration
def test_every_proposal_can_be_applied(network: CompressedNetwork, space: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    proposed = [space.suggest(study.ask()) for _ in range(15)]
    assert any("D" in one.order for one in proposed)
    for one in proposed:
        assert apply_untrained(network, one).sequence.order == one.order


def test_a_knob_that_the_task_holds_and_one_without_any_use_stay(network: CompressedNetwork) -> None:
    held = replace(DIGITS, knobs={**DIGITS.knobs, "D": {"depth": 0.55}})  # off the declared grid
    assert useful_space(task_space(held), network).fixed["D"] == {"depth": 0.55}
    flat = tiny_network("user_nets:flat")
    whole = task_space(DIGITS, "PD")
    assert useful_space(whole, flat).knobs["D"] == whole.knobs["D"]


def test_the_first_sequences_are_those_of_the_task_coarse_before_fine_and_static_before_dynamic(
    space: Space,
) -> None:
    shuffled = task_space(DIGITS, "EQPD")
    orders = [one.order for one in first_sequences(DIGITS, shuffled)]
    assert orders == ["DPQE"] * len(DIGITS.settings) + ["PQE"] * len(DIGITS.settings)
    first = first_sequences(DIGITS, space)
    assert all(space.contains(one) for one in first)
    assert {one.steps[0].settings["depth"] for one in first if one.order == "DPQE"} == {0.5}  # moved there


def test_without_optional_stages_all_of_them_are_tried(space: Space) -> None:
    assert {one.order for one in first_sequences(DIGITS, replace(space, optional=False))} == {"DPQE"}
