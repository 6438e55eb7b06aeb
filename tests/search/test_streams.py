"""Streams of random numbers: parallel processes and resumed studies never draw the same proposals."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from benchmarks.search_worlds import SYNTHETIC_KNOBS
from ordercomp.objectives import Objectives
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_study

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


def opened(sampler: str, storage: optuna.storages.BaseStorage, *, seed: int = 0) -> optuna.Study:
    """The study as one process sees it."""
    space = Space("DPQE", SYNTHETIC_KNOBS, optional=True, dense=sampler in ("nsga2", "gp"))
    return open_study(
        storage,
        name="s",
        space=space,
        objectives=Objectives(),
        sampler=make_sampler(sampler, space, seed=seed, trials=40),
        task="t",
    )


def propose(study: optuna.Study, sampler: str = "random") -> str:
    space = Space("DPQE", SYNTHETIC_KNOBS, optional=True, dense=sampler in ("nsga2", "gp"))
    trial = study.ask()
    sequence = str(space.suggest(trial))
    trial.set_user_attr("sequence", sequence)
    return sequence


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe", "neighbors"])
def test_four_processes_with_one_seed_propose_different_sequences(sampler: str) -> None:
    storage = optuna.storages.InMemoryStorage()
    processes = [opened(sampler, storage) for _ in range(4)]
    proposed = [propose(process, sampler) for _ in range(10) for process in processes]
    assert len(set(proposed)) >= 38  # a space this large holds few repetitions


def test_a_resumed_search_goes_on_instead_of_repeating_itself() -> None:
    storage = optuna.storages.InMemoryStorage()
    first = [propose(opened("random", storage)) for _ in range(1)]
    study = opened("random", storage)
    first += [propose(study) for _ in range(5)]
    again = opened("random", storage)
    second = [propose(again) for _ in range(6)]
    assert len({*first, *second}) == 12
    whole = opened("random", optuna.storages.InMemoryStorage())
    assert [propose(whole) for _ in range(12)] == first + second


def test_prefixes_and_retries_change_no_proposal() -> None:
    plain = opened("random", optuna.storages.InMemoryStorage())
    expected = [propose(plain) for _ in range(4)]
    study = opened("random", optuna.storages.InMemoryStorage())
    found = []
    for attributes in ({"design": "prefix"}, {"design": "adaptive", "retry_of": 0}) * 2:
        found.append(propose(study))
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    assert found == expected


def test_seeds_differ() -> None:
    one, other = (opened("random", optuna.storages.InMemoryStorage(), seed=seed) for seed in (0, 1))
    assert [propose(one) for _ in range(3)] != [propose(other) for _ in range(3)]
