"""From orders to requests: knob settings, seeds and control arms, alike for all orders that are compared."""

from collections.abc import Iterable, Sequence

from ordercomp.running.jobs import Request
from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence, Step
from ordercomp.stages.catalog import known_stages
from ordercomp.studies.experiment import Part
from ordercomp.studies.preset import Preset

CONTROL = Step("F")  # more training without compression


def sequences(task: Task, preset: Preset, orders: Iterable[Order]) -> list[StageSequence]:
    """Every order at every knob setting that the preset has for its stages, without doubles.

    Orders of the same stages meet the same settings, so that they differ in nothing else.
    """
    found: dict[StageSequence, None] = {}
    for order in orders:
        for case in preset.grid("".join(sorted(set(order)))):
            found[task.sequence(order, case)] = None
    return list(found)


def rungs(task: Task, preset: Preset, stage: str) -> list[StageSequence]:
    """A stage alone at the settings of its ladder."""
    return list(dict.fromkeys(task.sequence(stage, case) for case in preset.rungs(stage)))


def controls(some: Iterable[StageSequence]) -> list[StageSequence]:
    """F after every static prefix of the sequences, which shows whether it was trained to the end."""
    stages = known_stages()
    found: dict[StageSequence, None] = {}
    for sequence in some:
        for prefix in sequence.prefixes:
            if any(stages[step.stage].dynamic or step.stage == CONTROL.stage for step in prefix.steps):
                break
            found[prefix + CONTROL] = None
    return list(found)


def one_part(task: Task, preset: Preset, some: Sequence[StageSequence], *, controlled: bool = True) -> Part:
    """All sequences at seed 0, then all at seed 1, and so on; with control arms if the preset has them.

    `task` is the prepared one. A budget that ends early thus leaves whole seeds.
    """
    whole = [*some, *(controls(some) if controlled and preset.controls else [])]
    requests = tuple(Request(sequence, seed) for seed in range(preset.seeds) for sequence in whole)
    return Part(task=task, requests=requests)


def restrict(order: Order, stages: Order) -> Order:
    """The order without the letters that are not among `stages`."""
    return "".join(letter for letter in order if letter in stages)
