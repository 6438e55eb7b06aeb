"""The training loop: its schedule, its losses by hand, and what happens when training diverges."""

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from ordercomp.training.fit import (
    DivergedError,
    Fitting,
    Schedule,
    batched,
    distillation_loss,
    fit,
    label_loss,
)
from ordercomp.training.recipe import Recipe
from ordercomp.training.steps import parameter_groups

FLOAT32 = torch.autocast("cpu", torch.bfloat16, enabled=False)


def train(
    module: nn.Module,
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    epoch: Callable[[], Iterable[int]] = lambda: range(3),
) -> float:
    return fit(
        Fitting(
            module=_Outputs(module),
            batches=epoch,
            inputs_of=lambda item: (),
            loss_of=lambda outputs, item: loss_of(item),
            example=lambda: 0,
            schedule=Schedule(peak=0.1, steps=steps, warmup=0.25),
            recipe=Recipe(weight_decay=0.0),
            autocast=FLOAT32,
        )
    )


class _Outputs(nn.Module):
    """A module that gives no outputs: losses here look at what is inside."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self) -> tuple[Tensor, ...]:
        return ()


def test_the_rate_rises_to_its_peak_and_falls_towards_zero() -> None:
    schedule = Schedule(peak=0.5, steps=100, warmup=0.2)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == 0.5 / 25
    assert max(rates) == rates[20] == 0.5
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert math.isclose(rates[60], 0.25)


@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_rates_are_positive_and_bounded_however_short_the_training(steps: int, warmup: float) -> None:
    schedule = Schedule(peak=0.3, steps=steps, warmup=warmup)
    assert all(0 < schedule.rate(step) <= 0.3 for step in range(steps))


def test_training_takes_exactly_the_steps_asked_for_and_returns_the_last_mean_loss() -> None:
    layer, seen = nn.Linear(2, 1), []

    def loss_of(item: int) -> Tensor:
        seen.append(item)
        return layer(torch.ones(2)).square().sum() * 0 + item

    assert train(layer, loss_of, steps=7) == 0.0  # the third epoch holds item 0 alone
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert train(layer, loss_of, steps=6) == 1.0


def test_training_lowers_the_loss_and_leaves_no_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    inputs, targets = torch.randn(32, 4), torch.randn(32, 1)

    def loss_of(_item: int) -> Tensor:
        return (layer(inputs) - targets).square().mean()

    before = float(loss_of(0).detach())
    assert train(layer, loss_of, steps=60) < before
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_training_with_the_step(bad: float) -> None:
    layer = nn.Linear(2, 1)

    def loss_of(item: int) -> Tensor:
        return layer(torch.ones(2)).sum() * (bad if item == 2 else 1.0)

    with pytest.raises(DivergedError, match=r"the training loss became (nan|inf|-inf) within 3 of 9 steps"):
        train(layer, loss_of, steps=9)


def test_frozen_parameters_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    frozen = module[0].weight.clone()
    moved = module[1].weight.clone()
    train(module, lambda _item: module(torch.ones(2)).square().sum(), steps=5)
    assert torch.equal(module[0].weight, frozen)
    assert not torch.equal(module[1].weight, moved)


def test_weight_decay_spares_biases_and_normalizations() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    decayed, spared = parameter_groups(module, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [parameter.dim() for parameter in decayed["params"]] == [4, 2]  # type: ignore[attr-defined]
    assert [parameter.dim() for parameter in spared["params"]] == [1, 1, 1, 1]  # type: ignore[attr-defined]


def test_label_loss_by_hand_adds_the_exits() -> None:
    logits, labels = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0])
    assert math.isclose(float(label_loss([logits], labels, smoothing=0.0)), math.log(4 / 3), rel_tol=1e-6)
    both = label_loss([logits, -logits], labels, smoothing=0.0)
    assert math.isclose(float(both), math.log(4 / 3) + math.log(4), rel_tol=1e-6)
    smooth = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)  # 0.2 spread over both classes
    assert math.isclose(float(label_loss([logits], labels, smoothing=0.2)), smooth, rel_tol=1e-6)


def kl(teacher: list[float], student: list[float], temperature: float) -> float:
    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    pairs = zip(softmax(teacher), softmax(student), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs)


def test_distillation_loss_by_hand() -> None:
    student, teacher = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, -2.0], [0.0, 3.0, 1.0]]
    labels = torch.tensor([2, 1])
    recipe = Recipe(temperature=4.0, alpha=0.9)
    found = distillation_loss([torch.tensor(student)], [torch.tensor(teacher)], labels, recipe=recipe)
    soft = sum(kl(t, s, 4.0) for s, t in zip(student, teacher, strict=True)) / 2 * 16
    hard = float(label_loss([torch.tensor(student)], labels, smoothing=0.0))
    assert math.isclose(float(found), 0.1 * hard + 0.9 * soft, rel_tol=1e-5)


def test_labels_are_hard_where_a_teacher_softens_them() -> None:
    logits, teacher, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    smooth, hard = (
        distillation_loss([logits], [teacher], labels, recipe=Recipe(label_smoothing=share))
        for share in (0.3, 0.0)
    )
    assert torch.equal(smooth, hard)


def test_a_student_that_equals_its_teacher_has_only_the_label_loss() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    found = distillation_loss([logits], [logits], labels, recipe=Recipe(alpha=0.9))
    torch.testing.assert_close(found, 0.1 * label_loss([logits], labels, smoothing=0.0))


def test_exits_learn_from_exits_and_all_from_the_last_where_numbers_differ() -> None:
    one, two, three = (torch.randn(4, 3) for _ in range(3))
    labels, recipe = torch.tensor([0, 1, 2, 0]), Recipe(alpha=1.0)

    def loss(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        return distillation_loss(students, teachers, labels, recipe=recipe)

    torch.testing.assert_close(loss([one, two], [two, three]), loss([one], [two]) + loss([two], [three]))
    torch.testing.assert_close(loss([one, two], [three]), loss([one], [three]) + loss([two], [three]))
    torch.testing.assert_close(loss([one], [two, three]), loss([one], [three]))


@pytest.mark.parametrize(("count", "size", "expected"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_batches_cover_an_epoch_without_a_small_last_one(count: int, size: int, expected: list[int]) -> None:
    batches = list(batched(count, size, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == expected
    joined = torch.cat(batches).tolist()
    assert len(set(joined)) == len(joined)
    assert set(joined) <= set(range(count))
