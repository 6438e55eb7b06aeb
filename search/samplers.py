"""Samplers by name, with defaults for small budgets."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ordercomp.search.ask.cost_aware import CostAware, CostOptions
from ordercomp.search.ask.neighbors import Neighbors
from ordercomp.search.objective import DEFAULT_OBJECTIVES, Objectives
from ordercomp.search.space import Space
from ordercomp.search.streams import Streams

DENSE_SAMPLERS = ("nsga2", "nsga3", "gp")  # know only parameters that all trials have

_WITHOUT_COST = ("gp", "grid")  # too slow to ask for many candidates; bound to propose everything anyway


def make_sampler(
    name: str,
    space: Space,
    *,
    seed: int = 0,
    trials: int = 100,
    objectives: Objectives = DEFAULT_OBJECTIVES,
    cost: CostOptions | None = None,
    loss: float = 0.02,
) -> BaseSampler:
    """Make the sampler `name` for a study of about `trials` trials; equal seeds propose alike.

    Each trial of a study has its own stream of random numbers, in whatever process.

    The names are neighbors (of the networks that lead, most often at a tolerated `loss`, in turn with tpe),
    tpe, nsga2, nsga3, gp, random, and grid (every sequence of the space once). With `cost`, of several
    proposals the one is taken that promises most per second of untrained stages; it values them by
    `objectives`, and proposes for trainings at `seed`.
    Raises ValueError for another name, and where a sampler does not fit: grid needs listable knobs; gp needs
    the same parameters in every trial, so a dense space or no optional and repeated stages; neither can weigh
    costs. Weighing needs log2_bitops_cr among the objectives. Over a space that is not dense, nsga2 and nsga3
    choose most knobs at random.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if cost is not None:
            if name in _WITHOUT_COST:
                raise ValueError(f"sampler {name} cannot weigh costs; leave cost out or use tpe")
            objectives.check_bitops("weighing costs")
        make = _quiet_tpe if cost is not None and name == "tpe" else SAMPLERS[name]
        sampler: BaseSampler = Streams(functools.partial(_make, make, space, trials), seed=seed)
        if name == "neighbors":
            sampler = Neighbors(sampler, space, objectives=objectives, loss=loss, seed=seed)
        if cost is not None:
            sampler = CostAware(sampler, space, objectives=objectives, seed=seed, options=cost)
        return sampler


def _make(
    function: Callable[[Space, int, int], BaseSampler], space: Space, trials: int, seed: int
) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return function(space, seed, trials)


class _Exhaustive(BruteForceSampler):
    """Optuna's exhaustive sampler, for studies that the caller ends instead of the sampler."""

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Leave the study running."""


def _tpe(space: Space, seed: int, trials: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=_startup(trials))


def _quiet_tpe(space: Space, seed: int, trials: int) -> BaseSampler:
    """TPE that does not write its proposals into the study, since most of them are only candidates."""
    return TPESampler(
        seed=seed,
        multivariate=True,
        group=True,
        n_startup_trials=_startup(trials),
        constant_liar=False,
    )


def _nsga2(space: Space, seed: int, trials: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=_population(trials))


def _nsga3(space: Space, seed: int, trials: int) -> BaseSampler:
    return NSGAIIISampler(seed=seed, population_size=_population(trials))


def _gp(space: Space, seed: int, trials: int) -> BaseSampler:
    if not space.fixed_parameters:
        raise ValueError(
            "sampler gp needs the same parameters in every trial; "
            "make the space dense, leave out optional and repeated stages, or use tpe"
        )
    return GPSampler(seed=seed, n_startup_trials=_startup(trials))


def _random(space: Space, seed: int, trials: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _grid(space: Space, seed: int, trials: int) -> BaseSampler:
    space.sequences()  # raises if a knob cannot be listed
    return _Exhaustive(seed=seed)


def _startup(trials: int) -> int:
    """Random trials before a model is trusted: a quarter of a small budget, ten of a larger one."""
    return max(4, min(10, trials // 4))


def _population(trials: int) -> int:
    """At least five generations within the budget, fifty individuals at most (Optuna's default)."""
    return max(4, min(50, trials // 5))


SAMPLERS: Mapping[str, Callable[[Space, int, int], BaseSampler]] = {
    "tpe": _tpe,
    "neighbors": _quiet_tpe,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "gp": _gp,
    "random": _random,
    "grid": _grid,
}
