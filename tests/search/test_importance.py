"""Which parameters of a study matter, whatever the direction of its objectives."""

import optuna
import pytest

from ordercomp.search.results import count_ended, count_states, parameter_importances

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(trials: int) -> optuna.Study:
    """The first objective depends on x alone, and at its worst on nothing; the second on y alone."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        study.tell(trial, [max(0.0, x - 0.5), y])
    return study


@pytest.mark.integration
def test_a_parameter_matters_where_the_objective_depends_on_it() -> None:
    study = study_of(40)
    assert parameter_importances(study, 0)["x"] > 0.9
    assert parameter_importances(study, 1)["y"] > 0.9
    assert sum(parameter_importances(study, 0).values()) == pytest.approx(1)
    assert parameter_importances(study, 0) == parameter_importances(study, 0)


@pytest.mark.integration
def test_the_order_may_have_all_its_choices() -> None:
    """As after a race: 64 orders, each with a value of its own. Optuna's fANOVA would not end."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(128):
        study.enqueue_trial({"order": str(number % 64)})
        trial = study.ask()
        order = trial.suggest_categorical("order", [str(place) for place in range(64)])
        study.tell(trial, int(order) / 64 + 0.01 * trial.suggest_float("x", 0, 1))
    shares = parameter_importances(study)
    assert list(shares) == ["order", "x"]
    assert shares["order"] > 0.8


def test_few_trials_say_nothing_of_parameters() -> None:
    assert parameter_importances(study_of(9)) == {}
    assert count_states(study_of(9)) == {"complete": 9}


def test_trials_that_ended_are_counted_without_prefixes_and_open_ones() -> None:
    study = study_of(3)
    study.add_trial(optuna.trial.create_trial(values=[0.5, 0.5], user_attrs={"design": "prefix"}, params={}))
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.ask()
    assert count_ended(study) == 4
