"""Measuring a network: logits of all exits in one pass, metrics of them, and every exit threshold at once."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from ordercomp.data.splits import Split
from ordercomp.measuring.cost import CONVENTIONS, Cost, measure_cost
from ordercomp.networks.exits import agreement
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Convention, OperatingPoint
from ordercomp.training.fit import DivergedError

_FLOATS = NDArray[np.float64]
_BOOLS = NDArray[np.bool_]
_BATCH = 250

# Metrics by name: what "right" means, and how what is right about images becomes one figure in [0, 1]

# The sums (t,) at t thresholds of values (e, n) over all images, each at the exit at which it leaves.
Sums = Callable[[_FLOATS | _BOOLS], _FLOATS]
# One figure in [0, 1], larger being better, at each threshold, shape (t,), of what is right, shape (e, n).
Figure = Callable[[_BOOLS, Sums], _FLOATS]


@dataclass(frozen=True, slots=True)
class Reading:
    """What e exits say about n images; all of shape (e, n)."""

    confidence: Tensor
    guesses: Tensor  # numbers of classes, or numbers in the units of the targets
    right: Tensor  # bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A way to judge a network; larger is better, and every figure is a fraction in [0, 1]."""

    name: str  # as pages and terminals tell it
    read: Callable[[Tensor, Tensor], Reading]  # outputs (e, n, k) against targets (n,)
    figure: Callable[[_FLOATS, _FLOATS], Figure]  # of guesses (e, n) against targets (n,)
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
        [torch.zeros_like(plain[0]), *itertools.starmap(agreement, itertools.pairwise(plain))]
    )
    guesses = plain.double() * spread + center
    return Reading(confidence, guesses, (guesses - targets.double()).abs() <= within)


def _share_right(right: _BOOLS, sums: Sums) -> _FLOATS:
    """The share of the images that are right."""
    share: _FLOATS = sums(right) / right.shape[1]
    return share


def _share(_guesses: _FLOATS, _targets: _FLOATS) -> Figure:
    return _share_right


def _balanced(_guesses: _FLOATS, targets: _FLOATS) -> Figure:
    """The mean over classes of the share of their images that are right."""
    _, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
    weights = 1 / (len(counts) * counts[place])
    return lambda right, sums: np.minimum(1.0, sums(right * weights))


def _macro_f1(guesses: _FLOATS, targets: _FLOATS) -> Figure:
    """The mean over classes that have images of the harmonic mean of precision and recall."""

    def figure(_right: _BOOLS, sums: Sums) -> _FLOATS:
        scores = []
        for label in np.unique(targets):
            guessed, there = guesses == label, targets == label
            scores.append(2 * sums(guessed & there) / (sums(guessed) + there.sum()))
        mean: _FLOATS = np.mean(scores, axis=0)
        return mean

    return figure


def _explained(guesses: _FLOATS, targets: _FLOATS) -> Figure:
    """R²: the share of the targets' variance that the guesses explain; 0 where it would be negative."""
    squares = (guesses - targets) ** 2
    total = float(((targets - targets.mean()) ** 2).sum()) or 1.0
    return lambda _right, sums: np.clip(1 - sums(squares) / total, 0.0, 1.0)


ACCURACY = Metric(name="accuracy", read=_read_classes, figure=_share, share=True)
CLASS_METRICS: Mapping[str, Metric] = {
    "accuracy": ACCURACY,
    "balanced accuracy": Metric(name="balanced accuracy", read=_read_classes, figure=_balanced, share=False),
    "top-5": Metric(name="top-5 accuracy", read=partial(_read_classes, top=5), figure=_share, share=True),
    "macro F1": Metric(name="macro F1", read=_read_classes, figure=_macro_f1, share=False),
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
        return Metric(name=f"share within {within:g}", read=read, figure=_share, share=True)
    read = partial(_read_numbers, within=np.inf, center=center, spread=spread)
    return Metric(name="R²", read=read, figure=_explained, share=False)


# Exit thresholds


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """What each of e exits says about each of n images."""

    confidence: _FLOATS  # shape (e, n): the largest softmax, or how much exits agree on a number
    correct: _BOOLS  # shape (e, n)
    figure: Figure = _share_right


@dataclass(frozen=True, slots=True)
class ThresholdSweep:
    """Results at t thresholds; an image leaves at the first exit whose confidence reaches the threshold."""

    accuracy: _FLOATS  # shape (t,), fractions: the figure of the metric
    shares: _FLOATS  # shape (t, e): fraction of the images that leaves at each exit; rows sum to 1


def exit_outcome(network: CompressedNetwork, split: Split, *, metric: Metric = ACCURACY) -> ExitOutcome:
    """Run every image of `split` once, in float32, through all exits.

    Raises DivergedError if an output is no finite number.
    """
    module = network.module.eval()
    readings, targets = [], []
    with torch.inference_mode():
        for batch in split.batches(_BATCH, rng=None, device=network.device):
            outputs = torch.stack([logits.float() for logits in module(batch.images)])
            readings.append(metric.read(outputs, batch.labels))
            targets.append(batch.labels)
    confidence = torch.cat([reading.confidence for reading in readings], dim=1).double().cpu().numpy()
    guesses = torch.cat([reading.guesses for reading in readings], dim=1).double().cpu().numpy()
    right = torch.cat([reading.right for reading in readings], dim=1).cpu().numpy()
    bad = ~(np.isfinite(confidence) & np.isfinite(guesses))
    if bad.any():
        raise DivergedError(f"the logits of {bad.any(axis=0).sum()} images are no finite numbers")
    return ExitOutcome(confidence, right, metric.figure(guesses, torch.cat(targets).double().cpu().numpy()))


def accuracy(network: CompressedNetwork, split: Split) -> float:
    """Share of the images that the last exit gets right."""
    return float(exit_outcome(network, split).correct[-1].mean())


def sweep_thresholds(outcome: ExitOutcome, thresholds: Sequence[float] | _FLOATS) -> ThresholdSweep:
    """The metric's figure and exit shares at each threshold, in O(e·(n + t) log n) time and float64.

    An image has left before exit k at threshold t if its largest confidence before k reaches t, so per
    exit two sorted searches and cumulative sums give all thresholds at once. A threshold above 1 sends
    every image to the end.
    """
    sums = _exit_sums(outcome.confidence, np.asarray(thresholds, dtype=np.float64))
    figure = outcome.figure(outcome.correct, lambda values: sums(values).sum(axis=0))
    left = sums(np.ones_like(outcome.confidence))
    return ThresholdSweep(figure, left.T / outcome.confidence.shape[1])


def _exit_sums(confidence: _FLOATS, bars: _FLOATS) -> Callable[[_FLOATS | _BOOLS], _FLOATS]:
    """The function that adds up values (e, n), at each exit those of images that leave there: shape (e, t).

    Images are sorted once, by the largest confidence that they reached before and at each exit.
    """
    nobody, everybody = (np.full(confidence.shape[1], value) for value in (-np.inf, np.inf))
    reached = [nobody, *np.maximum.accumulate(confidence[:-1], axis=0), everybody]
    orders = [np.argsort(values) for values in reached]
    ranks = [np.searchsorted(values[order], bars) for values, order in zip(reached, orders, strict=True)]

    def above(row: _FLOATS, place: int) -> _FLOATS:
        """The sum over the images that reached each bar at that place."""
        totals = np.concatenate([[0.0], np.cumsum(row[orders[place]])])
        result: _FLOATS = totals[-1] - totals[ranks[place]]
        return result

    def sums(values: _FLOATS | _BOOLS) -> _FLOATS:
        rows = enumerate(values.astype(np.float64))
        return np.array([above(row, place + 1) - above(row, place) for place, row in rows])

    return sums


def measure(
    network: CompressedNetwork,
    *,
    validation: Split,
    test: Split,
    baseline: Cost,
    cost: Cost | None = None,
    metric: Metric = ACCURACY,
    points: int = 20,
) -> list[OperatingPoint]:
    """Operating points of a network: one without exits, up to `points` and the full run with them.

    Thresholds are chosen on validation data, nondominated in the metric and expected BitOps and evenly
    spread over the cost; the figure on test data is reported at the same thresholds. `cost` is that of the
    network, if it is known.
    """
    cost = measure_cost(network) if cost is None else cost
    seen, unseen = (exit_outcome(network, split, metric=metric) for split in (validation, test))
    bars = np.array([np.inf]) if cost.exits == 1 else _choose_thresholds(seen, cost, points)
    on_validation, on_test = sweep_thresholds(seen, bars), sweep_thresholds(unseen, bars)
    result = []
    for row, bar in enumerate(bars):
        shares = on_validation.shares[row]
        reductions = {name: _reductions(cost, baseline, name, shares) for name in CONVENTIONS}
        result.append(
            OperatingPoint(
                threshold=float(bar) if np.isfinite(bar) else None,
                accuracy=float(on_validation.accuracy[row]),
                test_accuracy=float(on_test.accuracy[row]),
                **reductions["paper"],
                extra={
                    "honest": reductions["honest"],
                    "apot": reductions["apot"],
                    "shares": [round(float(share), 6) for share in shares],
                },
            )
        )
    return result


def _choose_thresholds(outcome: ExitOutcome, cost: Cost, points: int) -> _FLOATS:
    """Infinity, and thresholds at quantiles of confidence whose result no other threshold dominates."""
    early = outcome.confidence[:-1].max(axis=0)
    everyone = [] if outcome.confidence[0].any() else [0.0]  # a first exit that is never sure is still cheap
    quantiles = np.quantile(early, np.linspace(0, 1, 1000))
    candidates = np.unique(np.concatenate([everyone, quantiles]))[::-1]
    sweep = sweep_thresholds(outcome, candidates)
    spent = sweep.shares @ np.array(cost.bitops_by_exit("paper"))
    best, kept = -1.0, []
    for row in np.lexsort((-sweep.accuracy, spent)):  # cheap first
        if sweep.accuracy[row] > best:
            best = sweep.accuracy[row]
            kept.append(row)
    if len(kept) > points:
        targets = np.linspace(spent[kept[0]], spent[kept[-1]], points)
        kept = sorted({min(kept, key=lambda row: abs(spent[row] - target)) for target in targets})
    return np.concatenate([[np.inf], np.sort(candidates[kept])[::-1]])


def _reductions(cost: Cost, baseline: Cost, convention: Convention, shares: _FLOATS) -> dict[str, float]:
    return {
        "bitops_cr": baseline.bitops(convention) / float(shares @ np.array(cost.bitops_by_exit(convention))),
        "cr": baseline.bits(convention) / cost.bits(convention),
    }


# Risk control: the boldest exit threshold whose loss of accuracy stays within a bound, with confidence
#
# *Learn then test* (Angelopoulos et al. 2021): a fixed sequence of thresholds, from "every image goes to the
# end" to bolder ones, is tested one after the other, each at the whole error level, until one cannot be
# certified; the last certified one is taken, and the chance that its loss exceeds the bound is at most the
# level. As in early exit with risk control (Jazbec et al. 2024).
#
# What is bounded is the share of images that the uncompressed network gets right and the compressed one
# wrong. The loss of accuracy is at most that. The bound is about images like those that it was tested on.

THRESHOLDS = (np.inf, *np.linspace(1.0, 0.0, 201))  # fixed before looking at any image


def certified_threshold(
    outcome: ExitOutcome, right_before: _BOOLS, *, loss: float, error: float = 0.05
) -> float | None:
    """Return the boldest certified threshold; infinity: no image may leave early; None: not even that holds.

    Args:
        outcome: what each exit says about each of n images that chose nothing.
        right_before: whether the uncompressed network gets each of them right, shape (n,).
        loss: the bound, a fraction in (0, 1).
        error: the chance that the loss exceeds the bound nevertheless.

    Raises ValueError for a loss or an error outside of (0, 1), and for another number of images.
    """
    for name, value in (("loss", loss), ("error", error)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {value}")
    chosen = None
    for threshold, p_value in zip(THRESHOLDS, threshold_p_values(outcome, right_before, loss), strict=True):
        if p_value > error:
            break
        chosen = float(threshold)
        if outcome.correct.shape[0] == 1:
            break  # without exits all thresholds are the same
    return chosen


def threshold_p_values(outcome: ExitOutcome, right_before: _BOOLS, loss: float) -> _FLOATS:
    """P-values of "the share of images broken exceeds `loss`" at each of `THRESHOLDS`: binomial tails."""
    images = outcome.correct.shape[1]
    if right_before.shape != (images,):
        raise ValueError(f"right_before must have shape ({images},), got {right_before.shape}")
    unharmed = ExitOutcome(outcome.confidence, outcome.correct | ~right_before)
    kept = sweep_thresholds(unharmed, THRESHOLDS).accuracy
    p_values: _FLOATS = special.bdtr(np.round((1 - kept) * images), images, loss)
    return p_values
