"""What a task's stages find in its network, told before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ordercomp.codec import Plain
from ordercomp.jobs.race import Race, plan_race
from ordercomp.measuring.cost import Cost, counted_macs, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import task_data
from ordercomp.running.task import Task
from ordercomp.stages.blocks import find_blocks, split_candidates
from ordercomp.studies.design.checks import rehearsals
from ordercomp.studies.design.estimates import rough_times


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a sequence makes of the untrained network."""

    sequence: str
    bitops_cr: float  # how many times fewer bit operations, all images going to the end; convention "paper"
    first_exit_cr: float  # the same if all images leave at the first exit
    cr: float  # storage
    achieved: tuple[Plain, ...]  # what each step tells, such as P's ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSurvey:
    """A task as its stages see it."""

    task: str
    model: str
    data: str
    images: Mapping[str, int]  # of each part
    classes: int
    shape: tuple[int, int, int]  # channels, height, width
    blocks: tuple[str, ...]
    droppable: tuple[str, ...]  # of these blocks, those that D may drop
    exits: tuple[str, ...]  # after which E may put an exit
    macs: int  # of one image; the same as torch's FlopCounterMode counts
    reached: tuple[Reach, ...]  # each stage alone at each knob setting, then all of them
    trainings: int  # that a race of the orders is expected to take
    seconds: float  # roughly, for all of these on one worker


def survey_task(task: Task, *, seeds: int = 4) -> TaskSurvey:
    """Try every stage on the task's untrained network, and tell what it finds there and what it reaches.

    Raises ValueError in one line where `check_task` does, for a network whose multiply-accumulates we count
    otherwise than torch's FlopCounterMode, and for fewer than two stages, which have no order.
    """
    planned = plan_race(Race(task=task, seeds=seeds), losing=True).nodes
    network, *compressed = rehearsals(task)
    dense = measure_cost(network)
    if (counted := counted_macs(network)) != dense.macs:
        raise ValueError(
            f"the cost of {task.model} is not known: its layers tell {dense.macs} multiply-accumulates, "
            f"torch's FlopCounterMode counts {counted}"
        )
    blocks = find_blocks(network)
    data = task_data(task, 0)
    return TaskSurvey(
        task=task.name,
        model=task.model,
        data=task.data,
        images={"training": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        classes=data.classes,
        shape=(data.channels, *data.size),
        blocks=tuple(block.name for block in blocks),
        droppable=tuple(block.name for block in blocks if block.droppable),
        exits=tuple(block.name for block in split_candidates(network)),
        macs=dense.macs,
        reached=_reached(compressed, dense),
        trainings=len(planned),
        seconds=rough_times(task, network, macs=dense.macs).total(planned),
    )


def _reached(networks: Sequence[CompressedNetwork], dense: Cost) -> tuple[Reach, ...]:
    found = []
    for network in networks:
        cost = measure_cost(network)
        found.append(
            Reach(
                sequence=str(network.sequence),
                bitops_cr=dense.bitops() / cost.bitops(),
                first_exit_cr=dense.bitops() / cost.bitops_by_exit()[0],
                cr=dense.bits() / cost.bits(),
                achieved=tuple({"stage": done.step.stage, **done.achieved} for done in network.lineage),
            )
        )
    return tuple(found)
