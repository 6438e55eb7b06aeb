"""Losses of real targets, worked by hand."""

from dataclasses import replace

import pytest
import torch

from ordercomp.data.catalog import load_data
from ordercomp.training.objectives import make_objective
from ordercomp.training.recipe import Recipe

DATA = replace(load_data("rotated-digits", train_limit=20), center=10.0, spread=2.0)
TARGETS = torch.tensor([10.0, 14.0])  # 0 and 2 deviations from the mean
OUTPUT = torch.tensor([[1.0], [2.0]])


def test_errors_are_squared_in_deviations_and_summed_over_exits() -> None:
    objective = make_objective("", DATA, Recipe())
    assert float(objective.of_targets([OUTPUT], TARGETS)) == pytest.approx(0.5)
    assert float(objective.of_targets([OUTPUT, OUTPUT + 1], TARGETS)) == pytest.approx(0.5 + 2.5)


def test_huber_errors_are_linear_beyond_one_deviation() -> None:
    objective = make_objective("huber", DATA, Recipe())
    assert float(objective.of_targets([OUTPUT + 3], TARGETS)) == pytest.approx((3.5 + 2.5) / 2)


def test_a_student_learns_from_its_teacher_s_outputs() -> None:
    objective = make_objective("mse", DATA, Recipe(alpha=0.75))
    found = objective.of_teacher([OUTPUT], [OUTPUT + 2], TARGETS)
    assert float(found) == pytest.approx(0.25 * 0.5 + 0.75 * 4)
    last = objective.of_teacher([OUTPUT, OUTPUT], [OUTPUT, OUTPUT, OUTPUT + 2], TARGETS)
    assert float(last) == pytest.approx(2 * (0.25 * 0.5 + 0.75 * 4))
