"""Ask a sampler for several candidates, and take the one with the most expected gain per second of training.

A trial costs only the stages that no earlier trial has trained, so two candidates of equal promise may differ
in price by a factor of the order's length. Optuna's samplers know nothing of that. Here the candidates come
from any of them, each also with its first stages moved onto a prefix that is trained already. A small forest,
fitted to all that was measured, says how much each would enlarge the front; what its missing stages will take
is known from the records.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sklearn.ensemble import ExtraTreesRegressor

from ordercomp.search.ask.history import History, features
from ordercomp.search.ask.objective import Objectives
from ordercomp.search.ask.space import Space
from ordercomp.search.ask.streams import Numbering
from ordercomp.sequence import StageSequence

__all__ = ["CostAware", "CostOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostOptions:
    """How candidates are weighed."""

    candidates: int = 16  # asked of the sampler for each trial
    exponent: float = 1.0  # of the seconds; 0 ignores them: expected gain alone
    snap: bool = True  # also consider candidates moved onto a trained prefix
    startup: int = 10  # results before the forest is asked
    trees: int = 32

    def __post_init__(self) -> None:
        for name in ("candidates", "startup", "trees"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.exponent < 0:
            raise ValueError(f"exponent must not be negative, got {self.exponent}")


class CostAware(BaseSampler):
    """Wraps a sampler; proposes for trainings at `seed`, in a study with the given space and objectives."""

    def __init__(
        self,
        base: BaseSampler,
        space: Space,
        *,
        objectives: Objectives,
        seed: int = 0,
        options: CostOptions,
    ) -> None:
        self._base = base
        self._space = space
        self._options = options
        self._history = History(space, objectives, seed)
        self._numbering = Numbering(seed)
        self._rng = np.random.default_rng(seed)
        self._chosen: dict[int, StageSequence] = {}  # by trial, between the two calls that Optuna makes

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the sequence that the trial will have, and give its parameters."""
        if "fixed_params" in trial.system_attrs:
            return {}
        self._history.update(study)
        chosen = self._choose(study, trial)
        self._chosen[trial.number] = chosen
        return self._space.distributions(chosen)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Give the parameters of the chosen sequence."""
        chosen = self._chosen.pop(trial.number, None)
        return {} if chosen is None else self._space.params(chosen)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Leave what was not chosen to the sampler within."""
        return self._base.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the stream of the trial, and let the sampler within prepare."""
        self._rng = np.random.default_rng(self._numbering.seed_of(study, trial))
        self._base.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler within learn."""
        self._base.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: processes draw different streams already."""

    def _choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        if len(self._history.inputs) < self._options.startup:
            return self._space.suggest(_Draft(self._base, study, trial))
        taken = {
            running.user_attrs.get("sequence")
            for running in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        }
        drawn = [
            self._space.suggest(_Draft(self._base, study, trial)) for _ in range(self._options.candidates)
        ]
        if self._options.snap:
            drawn += [self._snapped(sequence) for sequence in drawn]
        new = [one for one in dict.fromkeys(drawn) if self._is_new(one) and str(one) not in taken]
        if not new:
            return drawn[0]
        gains = self._expected_gains(new)
        prices = np.array([self._history.price(sequence) for sequence in new])
        scores = gains / prices**self._options.exponent
        return new[int(np.argmax(scores))] if scores.max() > 0 else new[0]

    def _is_new(self, sequence: StageSequence) -> bool:
        return str(sequence) not in self._history.trained

    def _snapped(self, sequence: StageSequence) -> StageSequence:
        """Replace the first steps by a trained prefix of the same order, drawn among all that fit."""
        lengths = [n for n in range(1, len(sequence)) if self._history.by_order.get(sequence.order[:n])]
        if not lengths:
            return sequence
        length = int(self._rng.choice(lengths))
        nodes = self._history.by_order[sequence.order[:length]]
        node = nodes[int(self._rng.integers(len(nodes)))]
        moved = StageSequence(node.steps + sequence.steps[length:])
        return moved if self._space.contains(moved) else sequence

    def _expected_gains(self, sequences: Sequence[StageSequence]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Mean area that each sequence adds to the front, over the trees of a forest."""
        forest = ExtraTreesRegressor(
            self._options.trees, min_samples_leaf=2, random_state=int(self._rng.integers(2**31))
        )
        forest.fit(np.array(self._history.inputs), np.array(self._history.outputs))
        rows = np.array([features(self._space, sequence) for sequence in sequences])
        guesses = np.array([tree.predict(rows) for tree in forest.estimators_])
        front = self._history.front
        assert front is not None
        return np.array(
            [
                np.mean([front.gain(accuracy, reduction) for accuracy, reduction in guesses[:, place]])
                for place in range(len(sequences))
            ]
        )


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
