"""Random numbers of a sampler: a stream of its own for each trial, whichever process asks for it, and when.

Trials of a study are numbered, and the number is part of the seed. So processes that fill one study at once
draw different proposals, a study that is resumed goes on instead of repeating itself, and a random search
proposes the same sequences whether it is interrupted or not.
"""

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

PREFIX = "prefix"  # value of the attribute `design` of a trial that nobody proposed
RETRY = "retry_of"  # attribute of a trial that was enqueued again, so proposed before
RELEASER = "released_by"  # attribute of a trial that was failed to be enqueued again: who did so

_MOST = 2**31


class Numbering:
    """Numbers the proposals of one study. Whether a trial is one never changes, so each is read once."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._before = [0]  # proposals before each trial

    def seed_of(self, study: Study, trial: FrozenTrial) -> int:
        """A seed for the proposal of `trial`, by the seed of all and the number of proposals before it.

        A trial that was enqueued again proposes what the first one would have.
        """
        while RETRY in trial.user_attrs:
            trial = study.get_trials(deepcopy=False)[trial.user_attrs[RETRY]]
        if trial.number >= len(self._before):
            known = len(self._before) - 1
            for earlier in study.get_trials(deepcopy=False)[known : trial.number]:
                self._before.append(self._before[-1] + _was_proposed(earlier))
        before = self._before[trial.number]
        if trial.number == len(self._before) - 1:
            self._before.append(before + _was_proposed(trial))
        return (self._seed * 1_000_003 + before * 7919) % _MOST


def _was_proposed(trial: FrozenTrial) -> bool:
    attributes = trial.user_attrs
    return attributes.get("design") != PREFIX and RETRY not in attributes


class Streams(BaseSampler):
    """A sampler that is made anew for each trial, with the seed of that trial."""

    def __init__(self, make: Callable[[int], BaseSampler], *, seed: int) -> None:
        """Prepare; `make` gives the sampler for a seed."""
        self._make = make
        self._numbering = Numbering(seed)
        self._sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the stream of the trial."""
        self._sampler = self._make(self._numbering.seed_of(study, trial))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Ask the sampler within."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the sampler within."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Ask the sampler within."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler within learn."""
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: processes draw different streams already."""
