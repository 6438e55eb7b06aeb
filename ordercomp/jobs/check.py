"""What a task's stages find in its network, told before anything is trained."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ordercomp.codec import Plain
from ordercomp.data.splits import OneBatch
from ordercomp.jobs.race import Race, plan_race
from ordercomp.measuring.cost import Cost, counted_macs, measure_cost
from ordercomp.networks.exits import Bits, frozen_names
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import (
    LEAST_BATCH,
    check_latency,
    check_start,
    create_network,
    log_notices,
    log_stage_notices,
    make_trainer,
    name_model_in_errors,
    start_network,
    task_data,
    task_metric,
)
from ordercomp.running.task import Task
from ordercomp.running.workers import one_thread
from ordercomp.sequence import StageSequence
from ordercomp.shipping.widths import describe_widths, unaligned_layers
from ordercomp.stages.blocks import find_blocks, split_candidates
from ordercomp.stages.catalog import apply_untrained, dry_run, known_stages
from ordercomp.training.trainer import DataTrainer

_log = logging.getLogger(__name__)


def check_task(task: Task) -> None:
    """Load the data, build the model, and apply each stage alone to it, and all of them, without training.

    Each network takes one step of training on random images and one on real ones, is copied and counted.

    Raises ValueError if one of these fails, in one line that names it: data that are not there, a model that
    cannot be built or traced, weights that do not fit it, a model without a block that D could drop.
    """
    for _ in dry_runs(task):
        pass


def dry_runs(task: Task) -> Iterator[CompressedNetwork]:
    """The networks that `check_task` tries, each when it has passed: the task's own one first.

    Then what each stage alone makes of it at each knob setting, and at the end what all of them make of it.
    Raises ValueError as `check_task` does, when the network that fails would be next.
    """
    check_latency(task)
    data = task_data(task, 0)
    task_metric(task, data)
    log_notices(data)
    if task.data.startswith("photos:"):  # of other data, what lies in memory was decoded already
        for split in (data.train, data.validation, data.test):
            getattr(split, "check")()  # noqa: B009
    network, _ = start_network(task, seed=0)
    alone = {task.sequence(letter, setting) for letter in task.stages for setting in task.settings}
    check_start(task, network, seed=0)
    if frozen := frozen_names(network.module):
        _log.warning("%d frozen parameters of %s stay frozen, such as %s", len(frozen), task.model, frozen[0])
    trainer = _one_step(task)
    _try(network, trainer, task)
    yield network
    for sequence in (*sorted(alone, key=str), task.sequence(task.stages, task.settings[-1])):
        compressed = apply_untrained(network, sequence)
        _try(compressed, trainer, task)
        if len(sequence.steps) == 1:
            log_stage_notices(compressed)
        yield compressed


def _one_step(task: Task) -> DataTrainer:
    """A trainer that takes a single step, on a few images as the recipe takes them from the data."""
    trainer = make_trainer(task, seed=0, batch_size=min(task.recipe.batch_size, LEAST_BATCH))
    recipe, rng = replace(trainer.recipe, epochs=_SHORTEST), torch.Generator().manual_seed(0)
    with name_model_in_errors(task):
        batches = trainer.data.train.batches(recipe.batch_size, rng=rng, augment=recipe.augment)
        batch = next(iter(batches))
    return replace(trainer, recipe=recipe, data=replace(trainer.data, train=OneBatch(batch)))


def _try(network: CompressedNetwork, trainer: DataTrainer, task: Task) -> None:
    dry_run(network)
    with name_model_in_errors(task):
        trainer.train(network.copy(), fresh=False)


_SHORTEST = 1e-9  # epochs: one step
_PROBED_STEPS = 6  # of training, for the seconds per stage
_ROUGH_IMAGES, _ROUGH_MACS = 8, 4e9  # at least so many images, more as long as they multiply no more
_HEADS_ONLY = 0.05  # share of a full stage's time that training heads on cached features takes


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one full-length stage on the uncompressed network, in float and quantized."""

    float_stage: float
    quantized_stage: float

    def of(self, sequence: StageSequence) -> float:
        """Expected seconds of the sequence's last stage; what pruning and distillation save is left out."""
        last = sequence.steps[-1].stage
        seconds = self.quantized_stage if "Q" in sequence.order else self.float_stage
        return seconds * (_HEADS_ONLY if known_stages()[last].dynamic else 1.0)

    def total(self, nodes: Iterable[StageSequence]) -> float:
        """Expected seconds of training all nodes, one after the other."""
        return sum(self.of(node) for node in nodes)


@one_thread()
def probe_steps(task: Task) -> StepTimes:
    """Time a few steps on the task's own network and data, in float and quantized to 4 bits."""
    network = create_network(task, seed=0)
    return StepTimes(_stage_seconds(task, network), _stage_seconds(task, network.quantized(Bits(4, 4))))


def rough_times(task: Task, network: CompressedNetwork, *, macs: int) -> StepTimes:
    """Times from a few random images forward and back: seconds where `probe_steps` takes minutes.

    `macs` are the multiply-accumulates of an image. The training loop is faster on large batches, and slower
    where stages learn from a teacher, so this may be wrong by a factor of two or three.
    """
    count = min(task.recipe.batch_size, max(_ROUGH_IMAGES, int(_ROUGH_MACS // macs)))
    images = len(task_data(task, 0).train) * task.recipe.epochs
    alone = _image_seconds(network.copy(), count)
    quantized = _image_seconds(network.quantized(Bits(4, 4)), count)
    return StepTimes(images * alone, images * quantized)


def _image_seconds(network: CompressedNetwork, count: int) -> float:
    example = network.architecture.example(count)
    network.module.train()
    seconds = []
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for _ in range(3):  # the first pass is slow
            start = time.perf_counter()
            sum(logits.square().sum() for logits in network.module(example)).backward()
            seconds.append(time.perf_counter() - start)
    return min(seconds) / count


def _stage_seconds(task: Task, network: CompressedNetwork) -> float:
    trainer = make_trainer(task, seed=0)
    images = len(trainer.data.train)
    steps = max(1, images // task.recipe.batch_size)
    short = replace(trainer, recipe=replace(task.recipe, epochs=_PROBED_STEPS / steps))
    with name_model_in_errors(task):
        short.train(network, fresh=True)  # the first steps are slow
    start = time.perf_counter()
    short.train(network, fresh=True)
    return (time.perf_counter() - start) / _PROBED_STEPS * steps * task.recipe.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a sequence makes of the untrained network."""

    sequence: str
    bitops_cr: float  # how many times fewer bit operations, all images going to the end; convention "paper"
    first_exit_cr: float  # the same if all images leave at the first exit
    cr: float  # storage
    achieved: tuple[Plain, ...]  # what each step tells, such as P's ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
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
    widths: str  # what all stages together leave that int8 kernels do not like, in words; empty: nothing


@one_thread()
def check(task: Task, *, seeds: int = 4) -> Inspection:
    """Try every stage on the task's untrained network, and tell what it finds there and what it reaches.

    Raises ValueError in one line where `check_task` does, for a network whose multiply-accumulates we count
    otherwise than torch's FlopCounterMode, and for fewer than two stages, which have no order.
    """
    planned = plan_race(Race(task=task, seeds=seeds), losing=True).nodes
    network, *compressed = dry_runs(task)
    dense = measure_cost(network)
    if (counted := counted_macs(network)) != dense.macs:
        raise ValueError(
            f"the cost of {task.model} is not known: its layers tell {dense.macs} multiply-accumulates, "
            f"torch's FlopCounterMode counts {counted}"
        )
    blocks = find_blocks(network)
    data = task_data(task, 0)
    return Inspection(
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
        reached=tuple(_reached(smaller, dense) for smaller in compressed),
        trainings=len(planned),
        seconds=rough_times(task, network, macs=dense.macs).total(planned),
        widths=describe_widths(*unaligned_layers(compressed[-1])),
    )


def _reached(network: CompressedNetwork, dense: Cost) -> Reach:
    cost = measure_cost(network)
    return Reach(
        sequence=str(network.sequence),
        bitops_cr=dense.bitops() / cost.bitops(),
        first_exit_cr=dense.bitops() / cost.bitops_by_exit()[0],
        cr=dense.bits() / cost.bits(),
        achieved=tuple({"stage": done.step.stage, **done.achieved} for done in network.lineage),
    )
