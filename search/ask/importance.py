"""Which parameters of a study matter, and how its trials ended."""

from collections import Counter
from collections.abc import Mapping

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from ordercomp.search.streams import PREFIX, RELEASER

Study = optuna.Study  # for those above this layer, who hold studies without asking Optuna for more

_FEWEST = 10  # trials that a statement about parameters needs


def count_states(study: Study) -> Mapping[str, int]:
    """Number of trials by state: "complete", "pruned", "fail", "waiting", "running"."""
    return Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))


def count_ended(study: Study) -> int:
    """Number of proposed trials that have ended, well or badly; prefixes on the way were not proposed.

    A trial that was failed to be enqueued again has not ended: the one in its stead will.
    """
    return sum(
        trial.state.is_finished() and trial.user_attrs.get("design") != PREFIX and not _was_released(trial)
        for trial in study.get_trials(deepcopy=False)
    )


def _was_released(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and RELEASER in trial.user_attrs


def parameter_importances(study: Study, objective: int = 0) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains (fANOVA), largest first.

    Only trials with the most common set of parameters enter, since others lack some of them. Empty with
    fewer than ten such trials.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    common = Counter(frozenset(trial.params) for trial in trials).most_common(1)
    alike = [trial for trial in trials if common and frozenset(trial.params) == common[0][0]]
    if len(alike) < _FEWEST or len({trial.values[objective] for trial in alike}) < 2:
        return {}
    part = optuna.create_study(directions=study.directions)
    part.add_trials(alike)
    evaluator = FanovaImportanceEvaluator(seed=0)  # Optuna's default looks at low values only
    found = get_param_importances(
        part, evaluator=evaluator, target=lambda trial: float(trial.values[objective])
    )
    return dict(found)
