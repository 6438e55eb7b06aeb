"""Samplers by name, with defaults for small budgets."""

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
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
from sklearn.ensemble import ExtraTreesRegressor

from ordercomp.knobs import Knob
from ordercomp.objectives import DEFAULT_OBJECTIVES, Objectives
from ordercomp.search.history import History, features
from ordercomp.search.space import Space
from ordercomp.search.streams import Numbering, Streams
from ordercomp.sequence import KnobValue, StageSequence, Step

# A sampler that proposes whole sequences, by what the study has measured and by another sampler within.


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


# Propose, in turn with another sampler, neighbors of the networks that lead.
#
# What a person does who tunes by hand: take the network that is best at a tolerated loss and turn one knob
# by a notch, swap two stages, add or drop one. A sampler that models the whole space spends few of a small
# budget's trainings there. A neighbor shares most of its prefixes with its parent, too, so it is cheap to
# train.


STARTUP = 4  # networks before one leads

OWN_DRAW_IN = 4  # one proposal in so many is a draw of the sampler within, the others are neighbors

LEAST_LOSS = 1 / 50  # of the largest loss that is worth something: the strictest tolerance that is asked for


class Neighbors(Choosing):
    """Proposes neighbors of leading networks, three of four times, else a draw of the sampler within.

    Which network leads is asked at a tolerated loss, two of three times a half to one and a half of `loss`,
    a fraction, as the value of an order counts it; else anywhere from a fiftieth of `objectives.box_loss` to
    all of it, evenly in its logarithm. Neighbors whose missing stages train faster are drawn more often.
    """

    def __init__(
        self, base: BaseSampler, space: Space, *, objectives: Objectives, loss: float, seed: int
    ) -> None:
        super().__init__(base, space, objectives=objectives, seed=seed)
        self._box, self._loss = objectives.box_loss, loss

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Choose a neighbor that was never tried, or leave the choice to the sampler within."""
        front, kind = self.history.front, self.rng.integers(OWN_DRAW_IN)
        if front is None or len(self.history.inputs) < STARTUP or kind == 0:
            return self.draw(study, trial)
        part = self.rng.random()
        loss = self._box * LEAST_LOSS**part if kind == 1 else self._loss * (0.5 + part)
        leader = front.leader(front.floor + self._box - loss)
        untried = [] if leader is None else self.untried(study, neighbors(self.space, leader))
        if not untried:
            return self.draw(study, trial)
        speeds = np.array([1 / self.history.price(one) for one in untried])
        return untried[int(self.rng.choice(len(untried), p=speeds / speeds.sum()))]


def neighbors(space: Space, sequence: StageSequence) -> Iterator[StageSequence]:
    """Yield the sequences of `space` that are one step from `sequence`.

    A step turns one searched knob by a notch, swaps two neighboring stages, drops one, or adds one with its
    defaults.
    """
    steps = sequence.steps
    for place, step in enumerate(steps):
        for turned in _turned(space, step):
            yield from _within(space, (*steps[:place], turned, *steps[place + 1 :]))
        yield from _within(space, (*steps[:place], *steps[place + 1 :]))
        if place:
            yield from _within(space, (*steps[: place - 1], step, steps[place - 1], *steps[place + 1 :]))
    for stage in space.stages:
        for place in range(len(steps) + 1):
            yield from _within(space, (*steps[:place], Step.of(stage, {}), *steps[place:]))


def _within(space: Space, steps: tuple[Step, ...]) -> Iterator[StageSequence]:
    if steps:
        found = space.complete(StageSequence(steps))
        if space.contains(found):
            yield found


def _turned(space: Space, step: Step) -> Iterator[Step]:
    """The step with one of its searched knobs a notch lower or higher."""
    held = space.fixed.get(step.stage, {})
    for name, knob in space.knobs[step.stage].items():
        if knob.searched and name not in held:
            for value in _notches(knob, step.settings.get(name, knob.default)):
                yield Step.of(step.stage, {**step.settings, name: value})


def _notches(knob: Knob, value: KnobValue) -> list[KnobValue]:
    """The next choices, a tenth of the range up and down, or, where that is logarithmic, half and twice.

    A tenth is rounded to the grid, and is at least a step of it.
    """
    if knob.choices:
        place = knob.choices.index(value)
        return [*knob.choices[max(0, place - 1) : place], *knob.choices[place + 1 : place + 2]]
    assert not isinstance(value, str)
    assert knob.low is not None
    assert knob.high is not None
    if knob.log:
        beside = [value / 2, value * 2]
    else:
        tenth = (knob.high - knob.low) / 10
        step = knob.step or (1 if knob.integral else tenth)
        notch = step * max(1, round(tenth / step))
        beside = [value - notch, value + notch]
    kept = [number for number in beside if knob.low - 1e-9 <= number <= knob.high + 1e-9]
    return [math.floor(number) if knob.integral else round(number, 9) for number in kept]


# Ask a sampler for several candidates, and take the one with the most expected gain per second of training.
#
# A trial costs only the stages that no earlier trial has trained, so two candidates of equal promise may
# differ in price by a factor of the order's length. Optuna's samplers know nothing of that. Here the
# candidates come from any of them, each also with its first stages moved onto a prefix that is trained
# already. A small forest, fitted to all that was measured, says how much each would enlarge the front; what
# its missing stages will take is known from the records.


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


class CostAware(Choosing):
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
        super().__init__(base, space, objectives=objectives, seed=seed)
        self._options = options

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Draw candidates, and take the one that promises most for its price."""
        if len(self.history.inputs) < self._options.startup:
            return self.draw(study, trial)
        drawn = [self.draw(study, trial) for _ in range(self._options.candidates)]
        if self._options.snap:
            drawn += [self._snapped(sequence) for sequence in drawn]
        new = self.untried(study, drawn)
        if not new:
            return drawn[0]
        gains = self._expected_gains(new)
        prices = np.array([self.history.price(sequence) for sequence in new])
        scores = gains / prices**self._options.exponent
        return new[int(np.argmax(scores))] if scores.max() > 0 else new[0]

    def _snapped(self, sequence: StageSequence) -> StageSequence:
        """Replace the first steps by a trained prefix of the same order, drawn among all that fit."""
        lengths = [n for n in range(1, len(sequence)) if self.history.by_order.get(sequence.order[:n])]
        if not lengths:
            return sequence
        length = int(self.rng.choice(lengths))
        nodes = self.history.by_order[sequence.order[:length]]
        node = nodes[int(self.rng.integers(len(nodes)))]
        moved = StageSequence(node.steps + sequence.steps[length:])
        return moved if self.space.contains(moved) else sequence

    def _expected_gains(self, sequences: Sequence[StageSequence]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Mean area that each sequence adds to the front, over the trees of a forest."""
        forest = ExtraTreesRegressor(
            self._options.trees, min_samples_leaf=2, random_state=int(self.rng.integers(2**31))
        )
        forest.fit(np.array(self.history.inputs), np.array(self.history.outputs))
        rows = np.array([features(self.space, sequence) for sequence in sequences])
        guesses = np.array([tree.predict(rows) for tree in forest.estimators_])
        front = self.history.front
        assert front is not None
        return np.array(
            [
                np.mean([front.gain(accuracy, reduction) for accuracy, reduction in guesses[:, place]])
                for place in range(len(sequences))
            ]
        )


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
