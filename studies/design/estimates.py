"""How long a plan takes: seconds per stage, from a few training steps on this machine."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import create_network, make_trainer, naming_the_model, task_data
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import known_stages

_PROBED_STEPS = 6
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
        whole = self.quantized_stage if "Q" in sequence.order else self.float_stage
        return whole * (_HEADS_ONLY if known_stages()[last].dynamic else 1.0)

    def total(self, nodes: Iterable[StageSequence]) -> float:
        """Expected seconds of training all nodes, one after the other."""
        return sum(self.of(node) for node in nodes)


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
    alone, quantized = (_image_seconds(one, count) for one in (network.copy(), network.quantized(Bits(4, 4))))
    return StepTimes(images * alone, images * quantized)


def _image_seconds(network: CompressedNetwork, count: int) -> float:
    example = network.architecture.example(count)
    network.module.train()
    seconds = []
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for _ in range(3):  # the first pass is slow
            start = time.perf_counter()
            sum(one.square().sum() for one in network.module(example)).backward()
            seconds.append(time.perf_counter() - start)
    return min(seconds) / count


def _stage_seconds(task: Task, network: CompressedNetwork) -> float:
    trainer = make_trainer(task, seed=0)
    images = len(trainer.data.train)
    steps = max(1, images // task.recipe.batch_size)
    short = replace(trainer, recipe=replace(task.recipe, epochs=_PROBED_STEPS / steps))
    with naming_the_model(task):
        short.train(network, fresh=True)  # the first steps are slow
    start = time.perf_counter()
    short.train(network, fresh=True)
    return (time.perf_counter() - start) / _PROBED_STEPS * steps * task.recipe.epochs
