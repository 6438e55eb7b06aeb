"""Measuring a network: logits of all exits in one pass, metrics of them, and every exit threshold at once."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from ordercomp.codec import Number
from ordercomp.data.splits import Split
from ordercomp.measuring.cost import Cost, measure_cost, recorded_conventions
from ordercomp.networks.exits import MultiExit, Policy, agreeing, agreement, predictive_exits
from ordercomp.networks.gates import gates
from ordercomp.networks.network import CompressedNetwork, with_skip
from ordercomp.records import Convention, OperatingPoint
from ordercomp.training.fit import DivergedError

_FLOATS = NDArray[np.float64]
_BOOLS = NDArray[np.bool_]
_BATCH = 250
SKIPS = (0.15, 0.3, 0.5, 0.7, 0.9)  # shares of the images that skip a block which are measured, beside 0

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
    return lambda right, sums: np.clip(sums(right * weights), 0.0, 1.0)


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
        names = ", ".join((*CLASS_METRICS, *NUMBER_METRICS))
        raise ValueError(f"metric must be one of {names}, got {name!r}")
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
    """What each of e exits says about each of n images, and which parts of the network each image skips."""

    confidence: _FLOATS  # shape (e, n): the largest softmax, or how much exits agree
    correct: _BOOLS  # shape (e, n)
    figure: Figure = _share_right
    policy: Policy = "confidence"
    skipped: Mapping[str, _BOOLS] = field(default_factory=dict)  # by part, shape (e, n): on the way to exit e


@dataclass(frozen=True, slots=True)
class ThresholdSweep:
    """Results at t thresholds; an image leaves at the first exit whose confidence reaches the threshold."""

    accuracy: _FLOATS  # shape (t,), fractions: the figure of the metric
    shares: _FLOATS  # shape (t, e): fraction of the images that leaves at each exit; rows sum to 1
    skipped: Mapping[str, _FLOATS] = field(
        default_factory=dict
    )  # (t,): fraction that skips a part on its way

    def bitops(self, cost: Cost, convention: Convention) -> _FLOATS:
        """Expected bit operations of an image at each threshold, shape (t,)."""
        spent: _FLOATS = self.shares @ np.array(cost.bitops_by_exit(convention))
        for part, share in self.skipped.items():
            spent = spent - share * cost.bitops_of(part, convention)
        return spent


def exit_outcome(network: CompressedNetwork, split: Split, *, metric: Metric = ACCURACY) -> ExitOutcome:
    """Run every image of `split` once, in float32, through all exits.

    Raises DivergedError if an output is no finite number.
    """
    module = network.module.eval()
    readings, targets = [], []
    with torch.inference_mode(), _watched(module) as gated:
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
    if module.policy == "patience":
        heads = max(1, len(confidence) - 1)
        confidence = agreeing(torch.from_numpy(guesses)).numpy() / heads
    figure = metric.figure(guesses, torch.cat(targets).double().cpu().numpy())
    return ExitOutcome(confidence, right, figure, module.policy, _skipped(network, gated))


@contextmanager
def _watched(module: MultiExit) -> Iterator[dict[str, list[Tensor]]]:
    """What gates say of each batch that runs meanwhile: ones for images that need the part, by its name."""
    needed: dict[str, list[Tensor]] = {}
    with ExitStack() as hooks:
        for part, gate in gates(module).items():
            noted = needed.setdefault(part, [])
            hooks.enter_context(
                gate.register_forward_hook(lambda _gate, _inputs, output, noted=noted: noted.append(output))
            )
        yield needed


def _skipped(network: CompressedNetwork, gated: Mapping[str, Sequence[Tensor]]) -> dict[str, _BOOLS]:
    """Which images, (e, n), skip which part on their way to each exit."""
    if not gated:
        return {}
    segments = {layer.name: layer.segment for layer in measure_cost(network).layers}
    exits = np.arange(len(network.exits) + 1)[:, None]
    skipped = {}
    for part, needed in gated.items():
        segment = min(place for name, place in segments.items() if name.startswith(f"{part}."))
        skipped[part] = (torch.cat([*needed]).cpu().numpy() == 0)[None] & (exits >= segment)
    return skipped


def accuracy(network: CompressedNetwork, split: Split) -> float:
    """Share of the images that the last exit gets right."""
    return float(exit_outcome(network, split).correct[-1].mean())


def sweep_thresholds(outcome: ExitOutcome, thresholds: Sequence[float] | _FLOATS) -> ThresholdSweep:
    """The metric's figure and exit shares at each threshold, in O(e·(n + t) log n) time and float64.

    An image has left before exit k at threshold t if its largest confidence before k reaches t, so per
    exit two sorted searches and cumulative sums give all thresholds at once; where heads are skipped by
    forecast, images are walked through at each. A threshold above 1 sends every image to the end.
    """
    bars, images = np.asarray(thresholds, dtype=np.float64), outcome.confidence.shape[1]
    skipped: dict[str, _FLOATS] = {}
    if outcome.policy == "predictive":
        leaving = [predictive_exits(outcome.confidence, bar) for bar in bars]
        sums = _place_sums(np.array([places for places, _ in leaving]))
        for head in range(len(outcome.confidence) - 1):
            skipped[f"heads.{head}"] = np.array([spared[head].mean() for _, spared in leaving])
    else:
        sums = _exit_sums(outcome.confidence, bars)
    figure = outcome.figure(outcome.correct, lambda values: sums(values).sum(axis=0))
    left = sums(np.ones_like(outcome.confidence))
    for part, images_at in outcome.skipped.items():
        skipped[part] = sums(images_at).sum(axis=0) / images
    return ThresholdSweep(figure, left.T / images, skipped)


def _place_sums(places: NDArray[np.int64]) -> Callable[[_FLOATS | _BOOLS], _FLOATS]:
    """As `_exit_sums`, where images leave at `places`, shape (t, n), whatever the rule."""
    images = np.arange(places.shape[1])

    def sums(values: _FLOATS | _BOOLS) -> _FLOATS:
        picked = values[places, images]
        return np.stack([(picked * (places == exit_)).sum(axis=1) for exit_ in range(len(values))])

    return sums


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
    """Operating points of a network: one without exits and gates, up to `points` and the full run with them.

    Thresholds, and the shares of the images that skip a block, are chosen on validation data, nondominated in
    the metric and expected BitOps and evenly spread over the cost; the figure on test data is reported at the
    same ones. `cost` is that of the network, if it is known.
    """
    cost = measure_cost(network) if cost is None else cost
    skips = (0.0, *SKIPS) if gates(network.module) else (None,)
    seen = {skip: exit_outcome(with_skip(network, skip), validation, metric=metric) for skip in skips}
    settings = [(skips[0], np.inf)]
    if cost.exits > 1 or len(skips) > 1:
        settings += _choose_settings(seen, cost, points)
    result = []
    for skip, own in itertools.groupby(settings, key=lambda setting: setting[0]):
        bars = [bar for _, bar in own]
        unseen = exit_outcome(with_skip(network, skip), test, metric=metric)
        on_validation, on_test = sweep_thresholds(seen[skip], bars), sweep_thresholds(unseen, bars)
        reductions = {
            name: _reductions(cost, baseline, name, on_validation) for name in recorded_conventions(cost)
        }
        for row, bar in enumerate(bars):
            result.append(
                OperatingPoint(
                    threshold=float(bar) if np.isfinite(bar) else None,
                    accuracy=float(on_validation.accuracy[row]),
                    test_accuracy=float(on_test.accuracy[row]),
                    **reductions["paper"][row],
                    extra={
                        **{name: counted[row] for name, counted in reductions.items() if name != "paper"},
                        "shares": [round(float(share), 6) for share in on_validation.shares[row]],
                        **({} if skip is None else {"skip": skip}),
                    },
                )
            )
    return result


_Setting = tuple[float | None, float]  # share of the images that skip a block, if there are gates; threshold


def _choose_settings(seen: Mapping[float | None, ExitOutcome], cost: Cost, points: int) -> list[_Setting]:
    """Up to `points` settings that no other one dominates, by skipped share, bold ones last."""
    candidates: list[_Setting] = []
    figures, costs = [], []
    for skip, outcome in seen.items():
        bars = _candidates(outcome)
        sweep = sweep_thresholds(outcome, bars)
        candidates += [(skip, bar) for bar in bars]
        figures.append(sweep.accuracy)
        costs.append(sweep.bitops(cost, "paper"))
    figure, spent = np.concatenate(figures), np.concatenate(costs)
    best, rows = -1.0, []
    for row in np.lexsort((-figure, spent)):  # cheap first
        if figure[row] > best:
            best = figure[row]
            rows.append(row)
    if len(rows) > points:
        targets = np.linspace(spent[rows[0]], spent[rows[-1]], points)
        rows = sorted({min(rows, key=lambda row: abs(spent[row] - target)) for target in targets})
    return sorted((candidates[row] for row in rows), key=lambda setting: (setting[0] or 0.0, -setting[1]))


def _candidates(outcome: ExitOutcome) -> _FLOATS:
    """Thresholds at quantiles of confidence, bold ones last; infinity without exits."""
    if len(outcome.confidence) == 1:
        return np.array([np.inf])
    early = outcome.confidence[:-1].max(axis=0)
    everyone = [] if outcome.confidence[0].any() else [0.0]  # a first exit that is never sure is still cheap
    count = 200 if outcome.policy == "predictive" else 1000  # each is walked through by itself
    quantiles = np.quantile(early, np.linspace(0, 1, count))
    return np.unique(np.concatenate([everyone, quantiles]))[::-1]


def _reductions(
    cost: Cost, baseline: Cost, convention: Convention, sweep: ThresholdSweep
) -> list[dict[str, float]]:
    """Of bit operations and of storage, at each threshold."""
    cr = baseline.bits(convention) / cost.bits(convention)
    spent = sweep.bitops(cost, convention)
    return [{"bitops_cr": baseline.bitops(convention) / float(bitops), "cr": cr} for bitops in spent]


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
    certified = None
    for threshold, p_value in zip(THRESHOLDS, threshold_p_values(outcome, right_before, loss), strict=True):
        if p_value > error:
            break
        certified = float(threshold)
        if outcome.correct.shape[0] == 1:
            break  # without exits all thresholds are the same
    return certified


def threshold_p_values(outcome: ExitOutcome, right_before: _BOOLS, loss: float) -> _FLOATS:
    """P-values of "the share of images broken exceeds `loss`" at each of `THRESHOLDS`: binomial tails."""
    images = outcome.correct.shape[1]
    if right_before.shape != (images,):
        raise ValueError(f"right_before must have shape ({images},), got {right_before.shape}")
    unharmed = replace(outcome, correct=outcome.correct | ~right_before, figure=_share_right)
    unbroken = sweep_thresholds(unharmed, THRESHOLDS).accuracy
    p_values: _FLOATS = special.bdtr(np.round((1 - unbroken) * images), images, loss)
    return p_values


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitLatencies:
    """Median milliseconds of one image, exported, in onnxruntime on one thread, all measured in turns."""

    exits_ms: tuple[Number, ...]  # if it leaves at exit 1, 2, …, last, heads before it included
    baseline_ms: Number  # of the uncompressed network in float

    def at(self, shares: Sequence[float]) -> dict[str, float]:
        """What a point tells whose `shares` of the images leave at each exit.

        `latency_ms` of an image, and `latency_cr`: how many times faster it is than uncompressed.
        """
        expected = sum(share * ms for share, ms in zip(shares, self.exits_ms, strict=True))
        return {"latency_ms": expected, "latency_cr": self.baseline_ms / expected}
