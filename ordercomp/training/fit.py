"""The only training loop, and the objectives that it minimizes."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ordercomp.data.splits import ImageData
from ordercomp.training.recipe import Recipe
from ordercomp.training.steps import make_steps, own_stream

Item = TypeVar("Item")
Criterion = Literal["", "cross entropy", "mse", "huber"]
CRITERIA = ("cross entropy", "mse", "huber")
_STEEPEST = 5.0  # standard deviations of the targets
_CPU = torch.device("cpu")


class DivergedError(ArithmeticError):
    """Training produced a loss that is no finite number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One-cycle learning rate: linear from a 25th of `peak` up to `peak`, then to zero (Smith 2018)."""

    peak: float
    steps: int
    warmup: float  # fraction of the steps

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, …, steps - 1."""
        rising = max(1.0, self.warmup * self.steps)
        if step < rising:
            return self.peak * (0.04 + 0.96 * step / rising)
        return self.peak * (self.steps - step) / max(1.0, self.steps - rising)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting(Generic[Item]):
    """A training to be done: a module, its data, and what is minimized."""

    module: nn.Module  # called with the inputs of an item; gives the outputs of every exit
    batches: Callable[[], Iterable[Item]]  # starts a new epoch each time it is called
    inputs_of: Callable[[Item], tuple[Tensor, ...]]
    loss_of: Callable[[Sequence[Tensor], Item], Tensor]  # of outputs; shape ()
    example: Callable[[], Item]  # some item, which leaves the batches as they are
    schedule: Schedule
    recipe: Recipe
    autocast: torch.autocast


def fit(fitting: Fitting[Item]) -> float:
    """Train in place for `schedule.steps` steps and return the last epoch's mean loss.

    A seat of `ordercomp.training.together` hands it over, to be trained beside others. Raises DivergedError
    when a loss is not finite, at the end of the epoch in which it happened.
    """
    hand_over = getattr(seat, "hand_over", None)
    return fit_alone(fitting) if hand_over is None else float(hand_over(fitting))


seat = threading.local()  # has `hand_over` in a thread whose trainings are done by another one


def fit_alone(fitting: Fitting[Item]) -> float:
    """Train as `fit` does, in this thread and beside nothing."""

    def loss_of(item: Item) -> Tensor:
        return fitting.loss_of(fitting.module(*fitting.inputs_of(item)), item)

    return float(run_steps(fitting, fitting.module, fitting.batches, loss_of))


def run_steps(
    fitting: Fitting[Item],
    module: nn.Module,
    batches: Callable[[], Iterable[Any]],
    loss_of: Callable[[Any], Tensor],
) -> Tensor:
    """Train `module` on such batches, else as a fitting says; return the last epoch's mean loss or losses."""
    schedule, step, mean = fitting.schedule, 0, torch.tensor(math.nan)
    with own_stream(next(module.parameters()).device):
        steps = make_steps(module, loss_of, recipe=fitting.recipe, autocast=fitting.autocast)
        while step < schedule.steps:
            losses: list[Tensor] = []
            for item in batches():
                losses.append(steps.take(item, schedule.rate(step)))
                step += 1
                if step == schedule.steps:
                    break
            mean = torch.stack(losses).mean(0).cpu()
            if not mean.isfinite().all():
                raise DivergedError(
                    f"the training loss became {float(mean.sum())} within {step} of {schedule.steps} steps"
                )
        steps.finish()
    return mean


def label_loss(logits: Sequence[Tensor], labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross entropy summed over exits; logits of each have shape (n, classes)."""
    losses = [functional.cross_entropy(exit_.float(), labels, label_smoothing=smoothing) for exit_ in logits]
    return torch.stack(losses).sum()


def distillation_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], labels: Tensor, *, recipe: Recipe
) -> Tensor:
    """(1 - alpha)·CE + alpha·T²·KL(teacher ‖ student), summed over exits (Hinton et al. 2015).

    Exit k learns from exit k of the teacher; if their numbers differ, every exit learns from its last.
    Labels are hard whatever `recipe.label_smoothing` says: the teacher's output is what softens them.
    """
    targets = _for_each_exit(targets, len(logits))
    temperature = recipe.temperature
    losses = [
        functional.kl_div(
            functional.log_softmax(student.float() / temperature, dim=1),
            functional.log_softmax(teacher.float() / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        for student, teacher in zip(logits, targets, strict=True)
    ]
    soft = torch.stack(losses).sum() * temperature**2
    hard = label_loss(logits, labels, smoothing=0.0)
    return (1 - recipe.alpha) * hard + recipe.alpha * soft


def _for_each_exit(targets: Sequence[Tensor], exits: int) -> Sequence[Tensor]:
    """A teacher's outputs for each exit of a student: exit by exit, or its last if their numbers differ."""
    return targets if len(targets) == exits else [targets[-1]] * exits


def batched(count: int, size: int, rng: torch.Generator, *, device: torch.device = _CPU) -> Iterator[Tensor]:
    """Shuffled indices of one epoch in batches; a smaller last one is left out unless it is alone."""
    order = torch.randperm(count, generator=rng).to(device)
    full = max(1, count // size) * size
    for start in range(0, min(full, count), size):
        yield order[start : start + size]


# What training minimizes: cross entropy for classes, squared or Huber errors for real targets


class Objective(Protocol):
    """The loss of the outputs of every exit, summed over exits."""

    def of_targets(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The loss against the data's targets, shape (n,)."""

    def of_teacher(self, outputs: Sequence[Tensor], taught: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The loss against a teacher's outputs and the targets, weighted by the recipe's alpha."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Cross entropy, and distillation by softened outputs."""

    recipe: Recipe

    def of_targets(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        return label_loss(outputs, targets, smoothing=self.recipe.label_smoothing)

    def of_teacher(self, outputs: Sequence[Tensor], taught: Sequence[Tensor], targets: Tensor) -> Tensor:
        return distillation_loss(outputs, taught, targets, recipe=self.recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Errors in standard deviations of the training targets; a student's outputs learn from the teacher's.

    Exit k learns from exit k of the teacher; if their numbers differ, every exit learns from its last.
    """

    recipe: Recipe
    error: Callable[[Tensor, Tensor], Tensor]
    center: float  # mean of the training targets
    spread: float  # their standard deviation

    def of_targets(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        wanted = ((targets - self.center) / self.spread).float()
        return torch.stack([self.error(output.float()[:, 0], wanted) for output in outputs]).sum()

    def of_teacher(self, outputs: Sequence[Tensor], taught: Sequence[Tensor], targets: Tensor) -> Tensor:
        taught = _for_each_exit(taught, len(outputs))
        soft = [
            self.error(output.float(), wanted.float()) for output, wanted in zip(outputs, taught, strict=True)
        ]
        hard = self.of_targets(outputs, targets)
        return (1 - self.recipe.alpha) * hard + self.recipe.alpha * torch.stack(soft).sum()


def bounded_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error whose slope grows no further beyond five standard deviations.

    An exit head learns at the full rate whatever the size of its features; where that is too fast for the
    squared error it would double at each step.
    """
    return 2 * functional.huber_loss(outputs, targets, delta=_STEEPEST)


def check_criterion(criterion: str) -> None:
    """Raise ValueError for a name that is none."""
    if criterion and criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")


def make_objective(criterion: Criterion, data: ImageData, recipe: Recipe) -> Objective:
    """The objective of that name, or the usual one of the data: cross entropy or mse.

    Raises ValueError if it does not suit the targets.
    """
    if data.real == (criterion == "cross entropy") and criterion:
        kind = "real targets: mse or huber" if data.real else "classes: cross entropy"
        raise ValueError(f"criterion {criterion} does not suit {data.name}, which has {kind}")
    if not data.real:
        return Classes(recipe)
    error = functional.huber_loss if criterion == "huber" else bounded_mse
    return Numbers(recipe=recipe, error=error, center=data.center, spread=data.spread)
