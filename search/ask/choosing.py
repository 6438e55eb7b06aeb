"""A sampler that proposes whole sequences, by what the study has measured and by another sampler within."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ordercomp.search.history import History
from ordercomp.search.objective import Objectives
from ordercomp.search.space import Space
from ordercomp.search.streams import Numbering
from ordercomp.sequence import StageSequence


class Choosing(BaseSampler):
    """Wraps a sampler; a subclass says by `choose` which sequence a trial gets.

    It proposes for trainings at `seed`, in a study with the given space and objectives.
    """

    def __init__(self, base: BaseSampler, space: Space, *, objectives: Objectives, seed: int) -> None:
        self._base = base
        self._numbering = Numbering(seed)
        self._chosen: dict[int, StageSequence] = {}  # by trial, between the two calls that Optuna makes
        self.space = space
        self.history = History(space, objectives, seed)
        self.rng = np.random.default_rng(seed)

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Choose the sequence of a trial; `history` holds what was measured, `rng` the trial's stream."""
        raise NotImplementedError

    def draw(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Draw a sequence from the sampler within, without a trace in the study."""
        return self.space.suggest(_Draft(self._base, study, trial))

    def untried(self, study: Study, sequences: Iterable[StageSequence]) -> list[StageSequence]:
        """Those that are neither trained nor being trained, each once."""
        taken = {
            running.user_attrs.get("sequence")
            for running in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        }
        return [
            one
            for one in dict.fromkeys(sequences)
            if str(one) not in self.history.trained and str(one) not in taken
        ]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the sequence that the trial will have, and give its parameters."""
        if "fixed_params" in trial.system_attrs:
            return {}
        self.history.update(study)
        chosen = self.choose(study, trial)
        self._chosen[trial.number] = chosen
        return self.space.distributions(chosen)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Give the parameters of the chosen sequence."""
        chosen = self._chosen.pop(trial.number, None)
        return {} if chosen is None else self.space.params(chosen)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Leave what was not chosen to the sampler within."""
        return self._base.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the stream of the trial, and let the sampler within prepare."""
        self.rng = np.random.default_rng(self._numbering.seed_of(study, trial))
        self._base.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler within learn."""
        self._base.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: processes draw different streams already."""


class _Draft:
    """Stands in for a trial while a candidate is drawn from a sampler; nothing is written to the study."""

    def __init__(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> None:
        self._sampler, self._study = sampler, study
        self._trial = copy.copy(trial)
        self._trial.params, self._trial.distributions = {}, {}
        joint = sampler.infer_relative_search_space(study, trial)
        self._relative = sampler.sample_relative(study, trial, joint) if joint else {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, step=step, log=log)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, step=step, log=log)))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._trial.params:
            return self._trial.params[name]
        if name in self._relative:
            value = self._relative[name]
        else:
            value = self._sampler.sample_independent(self._study, self._trial, name, distribution)
        self._trial.params = {**self._trial.params, name: value}
        self._trial.distributions = {**self._trial.distributions, name: distribution}
        return value
