"""Metrics by name: what "right" means, and how what is right about images becomes one figure in [0, 1].

Losses, operating points and fronts are about the task's metric. It reads a network's outputs batch by batch
(confidence, guess, right or wrong), and scores the images at the exit at which each leaves.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordercomp.networks.exits import agreement

_FLOATS = NDArray[np.float64]
_BOOLS = NDArray[np.bool_]

Sums = Callable[[_FLOATS | _BOOLS], _FLOATS]
"""The sum, at each of t thresholds, of values (e, n) over all images, each at the exit at which it leaves."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What e exits say about n images; all of shape (e, n)."""

    confidence: Tensor
    guesses: Tensor  # numbers of classes, or numbers in the units of the targets
    right: Tensor  # bool


class Score(Protocol):
    """One figure of many images, larger is better, in [0, 1]."""

    def figure(self, right: _BOOLS, sums: Sums) -> _FLOATS:
        """The figure at each threshold, shape (t,); `right` has shape (e, n)."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of the images that are right."""

    def figure(self, right: _BOOLS, sums: Sums) -> _FLOATS:
        """As Score says."""
        share: _FLOATS = sums(right) / right.shape[1]
        return share


@dataclass(frozen=True, slots=True)
class Weighted:
    """The share of the images that are right, each with a weight of its own; they add up to 1."""

    weights: _FLOATS = field(repr=False)  # shape (n,)

    def figure(self, right: _BOOLS, sums: Sums) -> _FLOATS:
        """As Score says."""
        return np.minimum(1.0, sums(right * self.weights))


@dataclass(frozen=True, slots=True)
class MacroF1:
    """The mean over classes of the harmonic mean of precision and recall; 0 for a class never guessed."""

    guesses: NDArray[np.float64] = field(repr=False)  # shape (e, n)
    labels: NDArray[np.int64] = field(repr=False)  # shape (n,)

    def figure(self, right: _BOOLS, sums: Sums) -> _FLOATS:
        """As Score says; classes without an image do not count."""
        scores = []
        for label in np.unique(self.labels):
            guessed = self.guesses == label
            hits, there = sums(guessed & (self.labels == label)), float((self.labels == label).sum())
            scores.append(2 * hits / (sums(guessed) + there))
        mean: _FLOATS = np.mean(scores, axis=0)
        return mean


@dataclass(frozen=True, slots=True)
class Explained:
    """R²: the share of the targets' variance that the guesses explain; 0 where it would be negative."""

    squares: _FLOATS = field(repr=False)  # squared errors, shape (e, n)
    total: float  # sum of the squared deviations of the targets from their mean

    def figure(self, right: _BOOLS, sums: Sums) -> _FLOATS:
        """As Score says."""
        explained: _FLOATS = np.clip(1 - sums(self.squares) / self.total, 0.0, 1.0)
        return explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A way to judge a network; larger is better, and every figure is a fraction in [0, 1]."""

    name: str  # as pages and terminals tell it
    read: Callable[[Tensor, Tensor], Reading]  # outputs (e, n, k) against targets (n,)
    score: Callable[[_FLOATS, _FLOATS], Score]  # of guesses (e, n) against targets (n,)
    share: bool  # whether it is a plain share of images, so that counts of images give intervals


def _read_classes(outputs: Tensor, labels: Tensor, *, top: int = 1) -> Reading:
    best = outputs.softmax(dim=2).max(dim=2)
    if top == 1:
        return Reading(best.values, best.indices, best.indices == labels)
    named = outputs.topk(min(top, outputs.shape[2]), dim=2).indices
    return Reading(best.values, best.indices, (named == labels[:, None]).any(dim=2))


def _read_numbers(
    outputs: Tensor, targets: Tensor, *, within: float, center: float, spread: float
) -> Reading:
    plain = outputs[..., 0]
    confidence = torch.stack(
        [torch.zeros_like(plain[0]), *(agreement(one, other) for one, other in itertools.pairwise(plain))]
    )
    guesses = plain.double() * spread + center
    return Reading(confidence, guesses, (guesses - targets.double()).abs() <= within)


def _share(_guesses: _FLOATS, _targets: _FLOATS) -> Score:
    return Share()


def _balanced(_guesses: _FLOATS, targets: _FLOATS) -> Score:
    _, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return Weighted(1 / (len(counts) * counts[place]))


def _macro_f1(guesses: _FLOATS, targets: _FLOATS) -> Score:
    return MacroF1(guesses, targets.astype(np.int64))


def _explained(guesses: _FLOATS, targets: _FLOATS) -> Score:
    return Explained((guesses - targets) ** 2, float(((targets - targets.mean()) ** 2).sum()) or 1.0)


ACCURACY = Metric(name="accuracy", read=_read_classes, score=_share, share=True)

CLASS_METRICS: Mapping[str, Metric] = {
    "accuracy": ACCURACY,
    "balanced accuracy": Metric(name="balanced accuracy", read=_read_classes, score=_balanced, share=False),
    "top-5": Metric(name="top-5 accuracy", read=partial(_read_classes, top=5), score=_share, share=True),
    "macro F1": Metric(name="macro F1", read=_read_classes, score=_macro_f1, share=False),
}
NUMBER_METRICS = ("within", "r2")


def class_metric(name: str) -> Metric:
    """The metric of that name for classes. Raises ValueError for a name that is none."""
    if name not in CLASS_METRICS:
        known = ", ".join((*CLASS_METRICS, *NUMBER_METRICS))
        raise ValueError(f"metric must be one of {known}, got {name!r}")
    return CLASS_METRICS[name]


def number_metric(name: str, *, within: float, center: float, spread: float) -> Metric:
    """The metric of that name for real targets.

    Args:
        name: "within", the share of the images whose error is at most `within`, or "r2".
        within: in units of the targets.
        center: what an output of 0 stands for, in units of the targets.
        spread: what a difference of 1 between outputs stands for.
    """
    if name == "within":
        read = partial(_read_numbers, within=within, center=center, spread=spread)
        return Metric(name=f"share within {within:g}", read=read, score=_share, share=True)
    read = partial(_read_numbers, within=np.inf, center=center, spread=spread)
    return Metric(name="R²", read=read, score=_explained, share=False)
