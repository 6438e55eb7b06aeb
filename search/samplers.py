"""Samplers by name, with defaults for small budgets.

Each trial has a stream of random numbers of its own, whichever process asks for it, and when: trials of a
study are numbered, and the number is part of the seed. So processes that fill one study at once draw
different proposals, a study that is resumed goes on instead of repeating itself, and a random search
proposes the same sequences whether it is interrupted or not.
"""

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
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
from ordercomp.search.trials import PREFIX, RETRY, design_of
from ordercomp.sequence import KnobValue, Order, StageSequence, Step

STARTUP = 4  # networks before one leads
LEAST_LOSS = 1 / 50  # of the largest loss that is worth something: the strictest tolerance that is asked for
_INSISTING, _REDRAWS = 4, 64  # draws of what failed, until they are even ones, and until that is taken
OWN_DRAW_IN = 4  # one proposal in so many is a draw of the sampler within, the others are neighbors

DENSE_SAMPLERS = ("nsga2", "nsga3", "gp")  # know only parameters that all trials have
_WITHOUT_COST = ("gp", "grid")  # too slow to ask for many candidates; bound to propose everything anyway


class _Wrapper(BaseSampler):
    """Leaves everything to the sampler within, and knows the stream of random numbers of each trial."""

    def __init__(self, sampler: BaseSampler, *, seed: int) -> None:
        self._within = sampler
        self._seed = seed
        self._before = [0]  # proposals before each trial; whether a trial is one never changes

    def _seed_of(self, study: Study, trial: FrozenTrial) -> int:
        """A seed for the proposal of `trial`, by the seed of all and the number of proposals before it.

        A trial that was enqueued again proposes what the first one would have.
        """
        while RETRY in trial.user_attrs:
            trial = study.get_trials(deepcopy=False)[trial.user_attrs[RETRY]]
        if trial.number >= len(self._before):
            counted = len(self._before) - 1
            for earlier in study.get_trials(deepcopy=False)[counted : trial.number]:
                self._before.append(self._before[-1] + _was_proposed(earlier))
        before = self._before[trial.number]
        if trial.number == len(self._before) - 1:
            self._before.append(before + _was_proposed(trial))
        return (self._seed * 1_000_003 + before * 7919) % 2**31

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._within.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._within.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._within.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._within.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._within.after_trial(study, trial, state, values)


def _was_proposed(trial: FrozenTrial) -> bool:
    return design_of(trial) != PREFIX and RETRY not in trial.user_attrs


class PerTrialSampler(_Wrapper):
    """A sampler that is made anew for each trial, with the seed of that trial."""

    def __init__(self, make: Callable[[int], BaseSampler], *, seed: int) -> None:
        """Prepare; `make` gives the sampler for a seed."""
        super().__init__(make(seed), seed=seed)
        self._make = make

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the stream of the trial."""
        self._within = self._make(self._seed_of(study, trial))
        super().before_trial(study, trial)


class SequenceSampler(_Wrapper):
    """Proposes whole sequences, by what the study has measured and by another sampler within.

    A subclass says by `choose` which sequence a trial gets. It proposes for trainings at `seed`, in a study
    with the given space and objectives.
    """

    def __init__(self, within: BaseSampler, space: Space, *, objectives: Objectives, seed: int) -> None:
        super().__init__(within, seed=seed)
        self._proposed: dict[int, StageSequence] = {}  # by trial, between the two calls that Optuna makes
        self.space = space
        self.history = History(space, objectives, seed)
        self.rng = np.random.default_rng(seed)

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Choose the sequence of a trial; `history` holds what was measured, `rng` the trial's stream."""
        raise NotImplementedError

    def draw(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Draw a sequence from the sampler within, without a trace in the study.

        What failed for good is drawn again, at last evenly, as some samplers insist on one proposal.
        """
        random = RandomSampler(seed=int(self.rng.integers(2**31)))
        for place in range(_REDRAWS):
            drawn = self._draw(study, trial, random if place >= _INSISTING else self._within)
            if not self.history.has_failed(drawn):
                break
        return drawn

    def _draw(self, study: Study, trial: FrozenTrial, sampler: BaseSampler) -> StageSequence:
        draft = copy.copy(trial)
        draft.params, draft.distributions = {}, {}
        joint = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, joint) if joint else {}

        def suggest(name: str, distribution: BaseDistribution) -> Any:
            if name not in draft.params:
                if name in relative:
                    value = relative[name]
                else:
                    value = sampler.sample_independent(study, draft, name, distribution)
                draft.params = {**draft.params, name: value}
                draft.distributions = {**draft.distributions, name: distribution}
            return draft.params[name]

        return self.space.draw(suggest)

    def untried(self, study: Study, sequences: Iterable[StageSequence]) -> list[StageSequence]:
        """Those that are neither trained nor being trained and did not fail for good, each once."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        tried = {*self.history.trained, *(trial.user_attrs.get("sequence") for trial in running)}
        return [
            sequence
            for sequence in dict.fromkeys(sequences)
            if str(sequence) not in tried and not self.history.has_failed(sequence)
        ]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose the sequence that the trial will have, and give its parameters."""
        if "fixed_params" in trial.system_attrs:
            return {}
        self.history.update(study)
        sequence = self.choose(study, trial)
        self._proposed[trial.number] = sequence
        return self.space.distributions(sequence)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Give the parameters of the chosen sequence."""
        sequence = self._proposed.pop(trial.number, None)
        return {} if sequence is None else self.space.params(sequence)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the stream of the trial, and let the sampler within prepare."""
        self.rng = np.random.default_rng(self._seed_of(study, trial))
        super().before_trial(study, trial)


class Unfailed(SequenceSampler):
    """The sampler within, but that it proposes nothing that failed for good, or begins with what did.

    The study is read again only after a trial of this process failed, which spares a long study much.
    """

    _stale = True  # whether something may have failed since the study was read

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Note a failure, and tell the sampler within."""
        self._stale = self._stale or state != TrialState.COMPLETE
        super().after_trial(study, trial, state, values)

    def choose(self, study: Study, trial: FrozenTrial) -> StageSequence:
        """Draw until nothing of it failed."""
        return self.draw(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Leave the trial to the sampler within, unless that would propose what failed."""
        if self._stale:
            self.history.update(study)
            self._stale = False
        if self.history.failed and "fixed_params" not in trial.system_attrs:
            first = self._draw(study, trial, self._within)
            self._within.before_trial(study, trial)  # its stream begins anew
            if self.history.has_failed(first):
                return super().infer_relative_search_space(study, trial)
        return self._within.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Give the parameters of the chosen sequence, or those of the sampler within."""
        if trial.number in self._proposed:
            return super().sample_relative(study, trial, search_space)
        return self._within.sample_relative(study, trial, search_space)


class Neighbors(SequenceSampler):
    """Proposes neighbors of leading networks, three of four times, else a draw of the sampler within.

    This is what a person does who tunes by hand. A sampler that models the whole space spends few of a small
    budget's trainings there; a neighbor shares most of its prefixes with its parent, so it is cheap to train.

    Which network leads is asked at a tolerated loss, two of three times a half to one and a half of `loss`,
    a fraction, as the value of an order counts it; else anywhere from a fiftieth of `objectives.box_loss` to
    all of it, evenly in its logarithm. Neighbors whose missing stages train faster are drawn more often, and
    those of orders that have more of the `chances` to be best, if any are known.
    """

    def __init__(
        self,
        within: BaseSampler,
        space: Space,
        *,
        objectives: Objectives,
        loss: float,
        seed: int,
        chances: Mapping[Order, float],
    ) -> None:
        super().__init__(within, space, objectives=objectives, seed=seed)
        self._box, self._loss = objectives.box_loss, loss
        self._chances = chances

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
        speeds = np.array([1 / self.history.missing_seconds(sequence) for sequence in untried])
        if self._chances:
            least = min(self._chances.values()) / 2
            speeds *= [self._chances.get(sequence.order, least) for sequence in untried]
        return untried[int(self.rng.choice(len(untried), p=speeds / speeds.sum()))]


def neighbors(space: Space, sequence: StageSequence) -> Iterator[StageSequence]:
    """Yield the sequences of `space` that are one step from `sequence`.

    A step turns one searched knob by a notch, swaps two neighboring stages, drops one, or adds one with its
    defaults.
    """
    for steps in _moved(space, sequence.steps):
        neighbor = space.complete(StageSequence(steps))
        if steps and space.contains(neighbor):
            yield neighbor


def _moved(space: Space, steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """The steps after each possible move, within the space or not."""
    for place, step in enumerate(steps):
        before, after = steps[:place], steps[place + 1 :]
        for name, knob in space.searched(step.stage).items():
            for value in _notches(knob, step.settings.get(name, knob.default)):
                yield (*before, Step.of(step.stage, {**step.settings, name: value}), *after)
        yield (*before, *after)
        if place:
            yield (*before[:-1], step, before[-1], *after)
    for stage in space.stages:
        for place in range(len(steps) + 1):
            yield (*steps[:place], Step.of(stage, {}), *steps[place:])


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
    inside = [number for number in beside if knob.low - 1e-9 <= number <= knob.high + 1e-9]
    return [math.floor(number) if knob.integral else round(number, 9) for number in inside]


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


class CostAware(SequenceSampler):
    """Asks a sampler for several candidates, and takes the one with the most gain expected per second.

    A trial costs only the stages that no earlier trial has trained, so two candidates of equal promise may
    differ in price by a factor of the order's length. Candidates come from any sampler, each also with its
    first stages moved onto a prefix that is trained already. A small forest, fitted to all that was measured,
    says how much each would enlarge the front; what its missing stages will take is known from the records.
    """

    def __init__(
        self, within: BaseSampler, space: Space, *, objectives: Objectives, seed: int, options: CostOptions
    ) -> None:
        super().__init__(within, space, objectives=objectives, seed=seed)
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
        prices = np.array([self.history.missing_seconds(sequence) for sequence in new])
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


def make_sampler(
    name: str,
    space: Space,
    *,
    seed: int = 0,
    trials: int = 100,
    objectives: Objectives = DEFAULT_OBJECTIVES,
    cost: CostOptions | None = None,
    loss: float = 0.02,
    chances: Mapping[Order, float] | None = None,
) -> BaseSampler:
    """Make the sampler `name` for a study of about `trials` trials; equal seeds propose alike.

    Each trial of a study has its own stream of random numbers, in whatever process.

    The names are neighbors (of the networks that lead, most often at a tolerated `loss`, in turn with tpe),
    tpe, nsga2, nsga3, gp, random, and grid (every sequence of the space once). With `cost`, of several
    proposals the one is taken that promises most per second of untrained stages; it values them by
    `objectives`, and proposes for trainings at `seed`. `chances` of orders to be the best, where a race told
    some, weigh the neighbors.
    Raises ValueError for another name, and where a sampler does not fit: grid needs listable knobs; gp needs
    the same parameters in every trial, so a dense space or no optional and repeated stages; neither can weigh
    costs. Weighing needs log2_bitops_cr among the objectives. Over a space that is not dense, nsga2 and nsga3
    choose most knobs at random.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    if cost is not None:
        if name in _WITHOUT_COST:
            raise ValueError(f"sampler {name} cannot weigh costs; leave cost out or use tpe")
        objectives.check_bitops("weighing costs")
    make = SAMPLERS["neighbors" if name == "tpe" and cost is not None else name]

    def make_for(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(space, seed, trials)

    sampler: BaseSampler = PerTrialSampler(make_for, seed=seed)
    if name == "neighbors":
        sampler = Neighbors(
            sampler, space, objectives=objectives, loss=loss, seed=seed, chances=chances or {}
        )
    elif cost is None:
        sampler = Unfailed(sampler, space, objectives=objectives, seed=seed)
    if cost is not None:
        sampler = CostAware(sampler, space, objectives=objectives, seed=seed, options=cost)
    return sampler


class _Exhaustive(BruteForceSampler):
    """Optuna's exhaustive sampler, for studies that the caller ends instead of the sampler."""

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Leave the study running."""


def _tpe(space: Space, seed: int, trials: int, **options: Any) -> BaseSampler:
    startup = _startup(trials)
    return TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=startup, **options)


def _gp(space: Space, seed: int, trials: int) -> BaseSampler:
    if not space.fixed_parameters:
        raise ValueError(
            "sampler gp needs the same parameters in every trial; "
            "make the space dense, leave out optional and repeated stages, or use tpe"
        )
    return GPSampler(seed=seed, n_startup_trials=_startup(trials))


def _grid(space: Space, seed: int, trials: int) -> BaseSampler:
    space.sequences()  # raises if a knob cannot be listed
    return _Exhaustive(seed=seed)


def _startup(trials: int) -> int:
    """Random trials before a model is trusted: a quarter of a small budget, ten of a larger one."""
    return max(4, min(10, trials // 4))


def _population(trials: int) -> int:
    """At least five generations within the budget, fifty individuals at most (Optuna's default)."""
    return max(4, min(50, trials // 5))


SAMPLERS: Mapping[str, Callable[[Space, int, int], BaseSampler]] = {  # by space, seed and number of trials
    "tpe": _tpe,
    "neighbors": functools.partial(_tpe, constant_liar=False),  # most of its draws are mere candidates
    "nsga2": lambda _, seed, trials: NSGAIISampler(seed=seed, population_size=_population(trials)),
    "nsga3": lambda _, seed, trials: NSGAIIISampler(seed=seed, population_size=_population(trials)),
    "gp": _gp,
    "random": lambda _, seed, trials: RandomSampler(seed=seed),
    "grid": _grid,
}
