"""What a search should propose: knobs that make a difference to this network, sensible sequences first."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork, describe
from ordercomp.running.task import Task
from ordercomp.search.space import Space
from ordercomp.sequence import KnobValue, StageSequence, Step
from ordercomp.stages.catalog import apply_untrained, known_stages
from ordercomp.stages.stage import StageError

_COARSE_FIRST = ("architecture", "neuron", "sub-neuron")


def useful_space(space: Space, network: CompressedNetwork) -> Space:
    """The space without values of coarse knobs that cannot be applied to `network`, or change nothing of it.

    Of several values that come to the same network one is left, the default if it is among them. Coarse are
    the knobs of stages that add or remove whole parts, such as blocks and exits; they are tried out, without
    training, on a copy. A knob of which no value is left stays as it was.
    """
    stages = known_stages()
    knobs: dict[str, Mapping[str, Knob]] = dict(space.knobs)
    for letter in space.stages:
        if stages[letter].granularity == "architecture":
            held = space.fixed.get(letter, {})
            knobs[letter] = {
                name: knob if name in held or not knob.searched else _useful(letter, name, knob, network)
                for name, knob in space.knobs[letter].items()
            }
    return replace(space, knobs=knobs)


def first_sequences(task: Task, space: Space) -> list[StageSequence]:
    """What somebody would try first: static before dynamic, coarse before fine, with the knobs of the task.

    All stages and, where they may be left out, all but the first, at each rung; knobs are moved to the
    nearest value that the space holds.
    """
    stages = known_stages()
    order = "".join(
        sorted(
            space.stages,
            key=lambda one: (stages[one].dynamic, _COARSE_FIRST.index(stages[one].granularity)),
        )
    )
    orders = [order, order[1:]] if space.optional and len(order) > 1 else [order]
    cases = task.cases or ({},)
    found = [_moved(space, task.sequence(one, case)) for one in orders for case in cases]
    return [one for one in dict.fromkeys(found) if space.contains(one)]


def _useful(letter: str, name: str, knob: Knob, network: CompressedNetwork) -> Knob:
    values = _listed(knob)
    before = _structure(network)
    made: dict[str, list[KnobValue]] = {}
    for value in values:
        try:
            result = apply_untrained(network, StageSequence((Step.of(letter, {name: value}),)))
        except StageError:
            continue
        if (structure := _structure(result)) != before:
            made.setdefault(structure, []).append(value)
    kept = [knob.default if knob.default in alike else alike[0] for alike in made.values()]
    kept = [value for value in values if value in kept]
    if not kept or len(kept) == len(values):
        return knob
    default = knob.default if knob.default in kept else _nearest(kept, knob.default)
    place = values.index(kept[0])
    if len(kept) > 1 and kept == values[place : place + len(kept)] and not knob.choices:
        return replace(knob, default=default, low=_number(kept[0]), high=_number(kept[-1]))
    return Knob(default=default, choices=tuple(kept), help=knob.help)


def _listed(knob: Knob) -> list[KnobValue]:
    """The values of a knob that a search may try; none if they are not listed."""
    if knob.choices:
        return list(knob.choices)
    space = Space("X", {"X": {"knob": knob}})
    try:
        return [sequence.steps[0].settings["knob"] for sequence in space.sequences()]
    except ValueError:  # a number without a grid
        return []


def _structure(network: CompressedNetwork) -> str:
    return json.dumps(describe(network.module, network.dropped, network.rebuilt), sort_keys=True)


def _moved(space: Space, sequence: StageSequence) -> StageSequence:
    """The sequence with each listed or bounded knob at the nearest value of the space."""
    steps = []
    for step in sequence.steps:
        settings = dict(step.settings)
        for name, knob in space.knobs[step.stage].items():
            if name in settings and knob.searched and name not in space.fixed.get(step.stage, {}):
                settings[name] = _nearest(_listed(knob) or [settings[name]], settings[name])
        steps.append(Step.of(step.stage, settings))
    return space.complete(StageSequence(tuple(steps)))


def _nearest(values: Iterable[KnobValue], wanted: KnobValue) -> KnobValue:
    """The value closest to the one wanted, which itself is taken if it is there."""
    chosen = list(values)
    if wanted in chosen or isinstance(wanted, str):
        return wanted if wanted in chosen else chosen[0]
    return min(chosen, key=lambda value: abs(_number(value) - _number(wanted)))


def _number(value: KnobValue) -> float | int:
    return value if isinstance(value, int | float) else 0
