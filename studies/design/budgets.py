"""Equal budgets: orders of different lengths that share out the same number of epochs."""

from collections.abc import Iterable
from dataclasses import replace

from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence, Step
from ordercomp.stages.catalog import complete
from ordercomp.studies.preset import Preset


def totaled(task: Task) -> Task:
    """The task with its records marked as accounted by total epochs."""
    return replace(task, accounting="total")


def share_epochs(task: Task, preset: Preset, orders: Iterable[Order]) -> list[StageSequence]:
    """The orders at the preset's first knob setting, each as long as all stages of the task together.

    An order with as many stages as the task trains each as long as the recipe says, like everywhere else.
    """
    found: dict[StageSequence, None] = {}
    for order in orders:
        case = preset.grid("".join(sorted(set(order))))[0]
        plain = replace(task, accounting="per-stage").sequence(order, case)
        if len(order) == len(task.stages):
            found[plain] = None
            continue
        epochs = task.recipe.epochs * len(task.stages) / len(order)
        steps = [Step.of(step.stage, {**step.settings, "epochs": epochs}) for step in plain.steps]
        found[complete(StageSequence(tuple(steps)))] = None
    return list(found)
