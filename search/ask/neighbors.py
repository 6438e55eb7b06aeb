"""Propose, in turn with another sampler, neighbors of the networks that lead.

What a person does who tunes by hand: take the network that is best at a tolerated loss and turn one knob by a
notch, swap two stages, add or drop one. A sampler that models the whole space spends few of a small budget's
trainings there. A neighbor shares most of its prefixes with its parent, too, so it is cheap to train.
"""

import math
from collections.abc import Iterator

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ordercomp.knobs import Knob
from ordercomp.search.ask.choosing import Choosing
from ordercomp.search.objective import Objectives
from ordercomp.search.space import Space
from ordercomp.sequence import KnobValue, StageSequence, Step

STARTUP = 4  # networks before one leads
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
        front, kind = self.history.front, self.rng.integers(4)
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
