"""What training minimizes: cross entropy for classes, squared or Huber errors for real targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ordercomp.data.splits import ImageData
from ordercomp.training.fit import distillation_loss, label_loss
from ordercomp.training.recipe import Recipe

Criterion = Literal["", "cross entropy", "mse", "huber"]
CRITERIA = ("cross entropy", "mse", "huber")

_STEEPEST = 5.0  # standard deviations of the targets


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
        """As Objective says."""
        return label_loss(outputs, targets, smoothing=self.recipe.label_smoothing)

    def of_teacher(self, outputs: Sequence[Tensor], taught: Sequence[Tensor], targets: Tensor) -> Tensor:
        """As Objective says."""
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
        """As Objective says."""
        wanted = ((targets - self.center) / self.spread).float()
        return torch.stack([self.error(one.float()[:, 0], wanted) for one in outputs]).sum()

    def of_teacher(self, outputs: Sequence[Tensor], taught: Sequence[Tensor], targets: Tensor) -> Tensor:
        """As Objective says."""
        if len(taught) != len(outputs):
            taught = [taught[-1]] * len(outputs)
        soft = [self.error(one.float(), other.float()) for one, other in zip(outputs, taught, strict=True)]
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
