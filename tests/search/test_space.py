"""The search space: every sequence goes to parameters and back."""

import itertools
import json
import random
from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FixedTrial

from ordercomp.knobs import Knob
from ordercomp.search.space import OrderRules, Space
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import complete, known_stages

KNOBS = {
    "D": {"depth": Knob(default=0.5, help="", low=0.1, high=0.85, step=0.1)},
    "P": {
        "ratio": Knob(default=0.4, help="", low=0.05, high=0.9),
        "norm": Knob(default="l2", help="", choices=("l1", "l2"), searched=False),
    },
    "Q": {"weights": Knob(default=4, help="", choices=(1, 2, 4, 8))},
    "E": {"exits": Knob(default=2, help="", low=1, high=8, log=True)},
    "F": {},
    "L": {"rank": Knob(default=8, help="", low=2, high=20, step=6)},
}


def random_sequence(space: Space, seed: int) -> StageSequence:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space.suggest(study.ask())


spaces = st.builds(
    Space,
    st.permutations("DPQEFL").flatmap(lambda letters: st.integers(1, 6).map(lambda n: "".join(letters[:n]))),
    st.just(KNOBS),
    optional=st.booleans(),
    encoding=st.sampled_from(["auto", "lehmer"]),
)


@given(space=spaces, seed=st.integers(0, 999), repeats=st.integers(0, 2))
def test_what_a_trial_suggests_comes_back_from_its_parameters(space: Space, seed: int, repeats: int) -> None:
    if set("DP") <= set(space.stages):
        space = Space(space.stages, KNOBS, space.optional, "DP", repeats, space.encoding)
    sequence = random_sequence(space, seed)
    params = space.params(sequence)
    assert space.suggest(FixedTrial(params)) == sequence
    assert StageSequence.parse(str(sequence)) == sequence
    assert space.contains(sequence)
    assert space.complete(sequence) == sequence


@given(space=spaces, seed=st.integers(0, 999))
def test_a_dense_space_has_the_same_parameters_for_every_sequence(space: Space, seed: int) -> None:
    dense = replace(space, dense=True)
    one, other = random_sequence(dense, seed), random_sequence(dense, seed + 1)
    assert dense.params(one).keys() == dense.params(other).keys()
    assert dense.suggest(FixedTrial(dense.params(one))) == one
    assert space.params(one).items() <= dense.params(one).items()
    study = optuna.create_study()
    trial = study.ask()
    dense.suggest(trial)
    assert trial.params.keys() == dense.params(one).keys()


@given(space=spaces, seed=st.integers(0, 999))
def test_parameters_make_a_valid_optuna_trial(space: Space, seed: int) -> None:
    sequence = random_sequence(space, seed)
    trial = optuna.trial.create_trial(
        value=0.0, params=space.params(sequence), distributions=space.distributions(sequence)
    )
    optuna.create_study().add_trial(trial)


@pytest.mark.parametrize("encoding", ["orders", "lehmer"])
def test_every_order_of_a_space_has_parameters_of_its_own(encoding: str) -> None:
    space = Space("DPQ", {letter: {} for letter in "DPQ"}, True, "PD", 2, encoding)  # type: ignore[arg-type]
    orders = space.rules.orders()
    assert len(orders) == len(set(orders)) == space.rules.count()
    codes = [tuple(space.params(StageSequence.parse(order)).items()) for order in orders]
    assert len(set(codes)) == len(orders)
    for order, code in zip(orders, codes, strict=True):
        assert space.suggest(FixedTrial(dict(code))).order == order


def test_permutations_subsets_and_repeats_are_counted() -> None:
    assert OrderRules(stages="DPQE").count() == 24
    assert OrderRules(stages="DPQE", optional=True).count() == 64
    assert OrderRules(stages="DP", repeatable="P", repeats=1).orders() == ["DP", "PD", "DPP", "PDP", "PPD"]


def test_allows_agrees_with_the_list_of_orders() -> None:
    rules = OrderRules(stages="DPQ", optional=True, repeatable="P", repeats=1)
    every = {"".join(letters) for n in range(1, 6) for letters in itertools.product("DPQE", repeat=n)}
    assert {order for order in every if rules.allows(order)} == set(rules.orders())


def test_five_stages_get_one_categorical_and_six_a_lehmer_code() -> None:
    five = Space("DPQEF", KNOBS).parameters(StageSequence.parse("FEQPD"))
    six = Space("DPQEFL", KNOBS).parameters(StageSequence.parse("LFEQPD"))
    assert isinstance(five["order"].distribution, CategoricalDistribution)
    assert [name for name in six if "." in name and name.startswith("pick")] == [
        "pick.6", "pick.5", "pick.4", "pick.3", "pick.2",
    ]  # fmt: skip


def test_knobs_are_parameters_only_where_the_stage_is_there() -> None:
    space = Space("DPQ", KNOBS, optional=True, repeatable="P", repeats=1)
    assert set(space.params(StageSequence.parse("Q"))) == {"order", "Q.weights"}
    assert set(space.params(StageSequence.parse("PDP(ratio=0.3)"))) == {
        "order", "P.ratio", "D.depth", "P2.ratio",
    }  # fmt: skip


def test_grid_values_are_free_of_rounding_noise() -> None:
    space = Space("D", KNOBS)
    found = {random_sequence(space, seed).steps[0].settings["depth"] for seed in range(60)}
    assert found == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}


def test_sequences_lists_the_whole_grid_once() -> None:
    space = Space("DQ", KNOBS)
    listed = list(space.sequences())
    assert len(listed) == len(set(listed)) == 2 * 8 * 4
    assert all(space.contains(sequence) for sequence in listed)
    assert StageSequence.parse("Q(weights=1) D(depth=0.8)") in listed


def test_a_number_without_a_grid_cannot_be_listed() -> None:
    with pytest.raises(ValueError, match=r"P\.ratio has no step"):
        Space("P", KNOBS).sequences()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DP", "order 'DP', which is not among the permutations of DPQ"),
        ("DPQP", "order 'DPQP'"),
        ("D(depth=0.55)PQ", r"D\.depth must lie on the grid of 0\.1, got 0\.55"),
        ("DP(norm=l1)Q", r"P\.norm is held at 'l2', got 'l1'"),
        ("DPQ(weights=3)", "weights must be one of 1, 2, 4, 8, got 3"),
        ("DPQ(bits=3)", "stage Q has no knob 'bits'"),
    ],
)
def test_a_sequence_outside_the_space_is_refused_with_the_reason(text: str, message: str) -> None:
    space = Space("DPQ", KNOBS)
    with pytest.raises(ValueError, match=message):
        space.params(StageSequence.parse(text))
    assert not space.contains(StageSequence.parse(text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": "DX"}, "no stage 'X'; known stages are: D, P"),
        ({"stages": "DD"}, "distinct letters"),
        ({"stages": ""}, "at least one stage"),
        ({"stages": "DP", "repeats": -1}, "repeats must not be negative"),
        ({"stages": "DP", "repeats": 1}, "none of 'DP' may come twice"),
        ({"stages": "DP", "encoding": "morse"}, "encoding must be"),
    ],
)
def test_an_impossible_space_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(knobs=KNOBS, **arguments)  # type: ignore[arg-type]


def test_fixed_knobs_are_not_searched() -> None:
    space = Space("DQ", KNOBS, fixed={"Q": {"weights": 2}})
    drawn = [step for step in random_sequence(space, 0).steps if step.stage == "Q"]
    assert [step.settings for step in drawn] == [{"weights": 2}]
    assert "Q.weights" not in space.params(StageSequence.parse("DQ(weights=2)"))
    with pytest.raises(ValueError, match=r"Q\.weights is held at 2, got 4"):
        space.params(StageSequence.parse("DQ"))
    for fixed, message in (({"Z": {}}, "no stage 'Z'"), ({"Q": {"weights": 3}}, "must be one of 1, 2, 4, 8")):
        with pytest.raises(ValueError, match=message):
            Space("DQ", KNOBS, fixed=fixed)


def test_the_text_is_the_canonical_one_of_the_stages() -> None:
    declared = {letter: stage.knobs for letter, stage in known_stages().items()}
    space = Space("DPQE", declared, fixed={"D": {"student": "fresh"}})
    for seed in range(10):
        sequence = random_sequence(space, seed)
        assert complete(sequence) == sequence == space.complete(sequence)
        assert "student=fresh" in str(sequence)
        assert "importance" not in str(sequence)


def test_the_description_tells_spaces_apart() -> None:
    spaces = [
        Space("DP", KNOBS),
        Space("PD", KNOBS),
        Space("DP", KNOBS, optional=True),
        Space("DP", KNOBS, fixed={"D": {"depth": 0.5}}),
        Space("DP", KNOBS, encoding="lehmer"),
    ]
    assert len({json.dumps(space.describe(), sort_keys=True) for space in spaces}) == len(spaces)
    assert Space("DP", dict(KNOBS)).describe() == spaces[0].describe()


def test_each_distribution_contains_its_value() -> None:
    space = Space("DPQEL", KNOBS)
    for seed in range(20):
        for name, parameter in space.parameters(random_sequence(space, seed)).items():
            distribution: BaseDistribution = parameter.distribution
            assert distribution._contains(distribution.to_internal_repr(parameter.value)), name


def test_random_module_is_left_alone() -> None:
    random.seed(3)
    before = random.getstate()
    random_sequence(Space("DPQ", KNOBS), 1)
    assert random.getstate() == before
