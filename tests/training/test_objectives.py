"""Losses of real targets, worked by hand."""

from dataclasses import replace

import pytest
import torch

from ordercomp.data.catalog import load_data
from ordercomp.training.fit import make_objective
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


def test_squared_errors_grow_by_a_line_beyond_five_deviations() -> None:
    objective = make_objective("mse", DATA, Recipe())
    assert float(objective.of_targets([torch.full((2, 1), 5.0)], TARGETS)) == pytest.approx((25 + 9) / 2)
    far = torch.full((2, 1), 7.0)  # 7 and 5 deviations off
    assert float(objective.of_targets([far], TARGETS)) == pytest.approx((25 + 2 * 5 * 2 + 25) / 2)


def test_a_head_on_large_features_does_not_run_away() -> None:
    torch.manual_seed(0)
    features, head = 3 * torch.randn(64, 4) + 3, torch.nn.Linear(4, 1)
    targets = 10 + 2 * (features @ torch.tensor([0.3, -0.2, 0.1, 0.0]) - 0.6)
    objective = make_objective("", DATA, Recipe())
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        loss = objective.of_targets([head(features)], targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss) < 0.1  # it is infinite with the plain squared error


def test_a_student_learns_from_its_teacher_s_outputs() -> None:
    objective = make_objective("mse", DATA, Recipe(alpha=0.75))
    found = objective.of_teacher([OUTPUT], [OUTPUT + 2], TARGETS)
    assert float(found) == pytest.approx(0.25 * 0.5 + 0.75 * 4)
    last = objective.of_teacher([OUTPUT, OUTPUT], [OUTPUT, OUTPUT, OUTPUT + 2], TARGETS)
    assert float(last) == pytest.approx(2 * (0.25 * 0.5 + 0.75 * 4))
