"""Measuring a network: logits of all exits in one pass, then every exit threshold at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ordercomp.data.catalog import Split
from ordercomp.measuring.cost import CONVENTIONS, Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import OperatingPoint
from ordercomp.training.fit import DivergedError

__all__ = ["ExitOutcome", "ThresholdSweep", "accuracy", "exit_outcome", "measure", "sweep_thresholds"]

_BATCH = 250
_FLOATS = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """What each of e exits says about each of n images."""

    confidence: _FLOATS  # shape (e, n): the largest softmax
    correct: NDArray[np.bool_]  # shape (e, n)


@dataclass(frozen=True, slots=True)
class ThresholdSweep:
    """Results at t thresholds; an image leaves at the first exit whose confidence reaches the threshold."""

    accuracy: _FLOATS  # shape (t,), fractions
    shares: _FLOATS  # shape (t, e): fraction of the images that leaves at each exit; rows sum to 1


def exit_outcome(network: CompressedNetwork, split: Split) -> ExitOutcome:
    """Run every image of `split` once, in float32, through all exits.

    Raises DivergedError if a logit is no finite number.
    """
    module = network.module.eval()
    device = next(module.parameters()).device
    confidence, correct = [], []
    with torch.inference_mode():
        for batch in split.batches(_BATCH, rng=None, device=device):
            logits = torch.stack([exit_.float() for exit_ in module(batch.images)])
            best = logits.softmax(dim=2).max(dim=2)
            confidence.append(best.values)
            correct.append(best.indices == batch.labels)
    sure = torch.cat(confidence, dim=1).double().cpu().numpy()
    if not np.isfinite(sure).all():
        raise DivergedError(f"the logits of {np.isnan(sure).any(axis=0).sum()} images are no finite numbers")
    return ExitOutcome(sure, torch.cat(correct, dim=1).cpu().numpy())


def accuracy(network: CompressedNetwork, split: Split) -> float:
    """Share of the images that the last exit gets right."""
    return float(exit_outcome(network, split).correct[-1].mean())


def sweep_thresholds(outcome: ExitOutcome, thresholds: Sequence[float] | _FLOATS) -> ThresholdSweep:
    """Accuracy and exit shares at each threshold, in O(e·(n + t) log n) time and float64.

    An image has left before exit k at threshold t if its largest confidence before k reaches t, so per
    exit two sorted searches and cumulative sums give all thresholds at once. A threshold above 1 sends
    every image to the end.
    """
    bars = np.asarray(thresholds, dtype=np.float64)
    exits, images = outcome.confidence.shape
    right = np.zeros(len(bars))
    shares = np.zeros((len(bars), exits))
    reached = np.full(images, -np.inf)  # largest confidence at earlier exits
    for place in range(exits):
        last = place == exits - 1
        now = np.full(images, np.inf) if last else np.maximum(reached, outcome.confidence[place])
        leaving = _count_above(now, bars) - _count_above(reached, bars)
        hits = outcome.correct[place].astype(np.float64)
        right += _count_above(now, bars, hits) - _count_above(reached, bars, hits)
        shares[:, place] = leaving / images
        reached = now
    return ThresholdSweep(right / images, shares)


def _count_above(values: _FLOATS, bars: _FLOATS, weights: _FLOATS | None = None) -> _FLOATS:
    """For each bar the number, or the total weight, of the values that reach it."""
    order = np.argsort(values)
    ranks = np.searchsorted(values[order], bars, side="left")
    if weights is None:
        return (len(values) - ranks).astype(np.float64)
    totals = np.concatenate([[0.0], np.cumsum(weights[order])])
    below: _FLOATS = totals[-1] - totals[ranks]
    return below


def measure(
    network: CompressedNetwork,
    *,
    validation: Split,
    test: Split,
    baseline: Cost,
    cost: Cost | None = None,
    points: int = 20,
) -> list[OperatingPoint]:
    """Operating points of a network: one without exits, up to `points` and the full run with them.

    Thresholds are chosen on validation data, nondominated in accuracy and expected BitOps and evenly
    spread over the cost; the test accuracy is reported at the same thresholds. `cost` is that of the network,
    if it is known.
    """
    cost = measure_cost(network) if cost is None else cost
    seen, unseen = exit_outcome(network, validation), exit_outcome(network, test)
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
    candidates = np.unique(np.quantile(early, np.linspace(0, 1, 1000)))[::-1]
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


def _reductions(cost: Cost, baseline: Cost, convention: str, shares: _FLOATS) -> dict[str, float]:
    expected = float(shares @ np.array(cost.bitops_by_exit(convention)))  # type: ignore[arg-type]
    return {
        "bitops_cr": baseline.bitops(convention) / expected,  # type: ignore[arg-type]
        "cr": baseline.bits(convention) / cost.bits(convention),  # type: ignore[arg-type]
    }
