"""Measuring a network: logits of all exits in one pass, then every exit threshold at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ordercomp.data.splits import Split
from ordercomp.measuring.cost import CONVENTIONS, Cost, measure_cost
from ordercomp.measuring.metrics import ACCURACY, Metric, Score, Share
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import OperatingPoint
from ordercomp.training.fit import DivergedError

_BATCH = 250
_FLOATS = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """What each of e exits says about each of n images."""

    confidence: _FLOATS  # shape (e, n): the largest softmax, or how much exits agree on a number
    correct: NDArray[np.bool_]  # shape (e, n)
    score: Score = field(default_factory=Share)  # what makes one figure of it


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
    device = next(module.parameters()).device
    readings, targets = [], []
    with torch.inference_mode():
        for batch in split.batches(_BATCH, rng=None, device=device):
            outputs = torch.stack([exit_.float() for exit_ in module(batch.images)])
            readings.append(metric.read(outputs, batch.labels))
            targets.append(batch.labels)
    sure, guesses = (
        torch.cat([getattr(one, name) for one in readings], dim=1).double().cpu().numpy()
        for name in ("confidence", "guesses")
    )
    bad = ~(np.isfinite(sure) & np.isfinite(guesses))
    if bad.any():
        raise DivergedError(f"the logits of {bad.any(axis=0).sum()} images are no finite numbers")
    score = metric.score(guesses, torch.cat(targets).double().cpu().numpy())
    return ExitOutcome(sure, torch.cat([one.right for one in readings], dim=1).cpu().numpy(), score)


def accuracy(network: CompressedNetwork, split: Split) -> float:
    """Share of the images that the last exit gets right."""
    return float(exit_outcome(network, split).correct[-1].mean())


def sweep_thresholds(outcome: ExitOutcome, thresholds: Sequence[float] | _FLOATS) -> ThresholdSweep:
    """The metric's figure and exit shares at each threshold, in O(e·(n + t) log n) time and float64.

    An image has left before exit k at threshold t if its largest confidence before k reaches t, so per
    exit two sorted searches and cumulative sums give all thresholds at once. A threshold above 1 sends
    every image to the end.
    """
    leaving = _Leaving(outcome.confidence, np.asarray(thresholds, dtype=np.float64))
    figure = outcome.score.figure(outcome.correct, leaving.sums)
    return ThresholdSweep(figure, leaving.counts().T / outcome.confidence.shape[1])


class _Leaving:
    """Which of n images leave at each of e exits at t thresholds, sorted once for any number of sums."""

    def __init__(self, confidence: _FLOATS, bars: _FLOATS) -> None:
        self._bars = bars
        self._exits: list[tuple[_Above, _Above]] = []  # those that reach an exit's bar, and an earlier one's
        reached = _Above(np.full(confidence.shape[1], -np.inf), bars)  # largest confidence at earlier exits
        for place, sure in enumerate(confidence):
            last = place == len(confidence) - 1
            now = _Above(np.full(len(sure), np.inf) if last else np.maximum(reached.values, sure), bars)
            self._exits.append((now, reached))
            reached = now

    def counts(self) -> _FLOATS:
        """How many images leave at each exit, shape (e, t)."""
        return np.array([now.counts - reached.counts for now, reached in self._exits])

    def sums(self, values: _FLOATS | NDArray[np.bool_]) -> _FLOATS:
        """The sum over all images of values (e, n), each at the exit at which it leaves, shape (t,)."""
        total = np.zeros(len(self._bars))
        for (now, reached), row in zip(self._exits, values.astype(np.float64), strict=True):
            total += now.weigh(row) - reached.weigh(row)
        return total


class _Above:
    """Which of n values reach each bar."""

    def __init__(self, values: _FLOATS, bars: _FLOATS) -> None:
        self.values = values
        self._order = np.argsort(values)
        self._ranks = np.searchsorted(values[self._order], bars, side="left")
        self.counts: _FLOATS = (len(values) - self._ranks).astype(np.float64)

    def weigh(self, weights: _FLOATS) -> _FLOATS:
        """The total weight of those that reach each bar."""
        totals = np.concatenate([[0.0], np.cumsum(weights[self._order])])
        above: _FLOATS = totals[-1] - totals[self._ranks]
        return above


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


def _reductions(cost: Cost, baseline: Cost, convention: str, shares: _FLOATS) -> dict[str, float]:
    expected = float(shares @ np.array(cost.bitops_by_exit(convention)))  # type: ignore[arg-type]
    return {
        "bitops_cr": baseline.bitops(convention) / expected,  # type: ignore[arg-type]
        "cr": baseline.bits(convention) / cost.bits(convention),  # type: ignore[arg-type]
    }
