"""Mixed precision against float32 on a real task, by accuracy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ordercomp.measuring.accuracy import measure
from ordercomp.measuring.cost import measure_cost
from ordercomp.running.node import create_network, make_trainer, task_data
from ordercomp.running.task import load_task
from ordercomp.stages.catalog import make_stage

SEEDS = (0, 1, 2)
TOLERATED = 0.01  # mean difference of accuracy over the seeds, a fraction; one image is 0.003


@pytest.mark.slow
def test_bfloat16_is_as_accurate_as_float32_in_float_and_quantized() -> None:
    found = {
        precision: [_accuracies(precision, seed) for seed in SEEDS] for precision in ("float32", "bfloat16")
    }
    differences = np.array(found["bfloat16"]) - np.array(found["float32"])
    assert np.abs(differences.mean(axis=0)).max() <= TOLERATED
    assert np.abs(differences).max() > 0  # they did compute differently


def _accuracies(precision: str, seed: int) -> tuple[float, float]:
    """Validation accuracy of the digits baseline and of its quantized network."""
    task = load_task("digits")
    task = replace(task, recipe=replace(task.recipe, precision=precision))
    torch.set_num_threads(1)
    network = create_network(task, seed=seed)
    trainer = make_trainer(task, seed=seed)
    trainer.for_stage("baseline").train(network, fresh=True)
    step = task.sequence("Q").steps[0]
    quantized = make_stage(step).apply(network, trainer=trainer.for_stage("Q1"))
    data, dense = task_data(task, seed), measure_cost(network)
    ends = [
        measure(one, validation=data.validation, test=data.test, baseline=dense)[0]
        for one in (network, quantized)
    ]
    return ends[0].accuracy, ends[1].accuracy
