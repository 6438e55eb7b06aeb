"""Simulated records with a planted truth, to find out whether the analysis tells it.

Noise is as dependent as in real runs: networks inherit the noise of their prefix, a seed shifts everything it
trains, and it also likes or dislikes each pair's order in all contexts at once.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ordercomp.analysis.run_table import CONTROL
from ordercomp.records import Baseline, OperatingPoint, Record
from ordercomp.sequence import KnobValue, Order, StageSequence, permutations, prefixes

Pair = tuple[str, str]
Knobs = Mapping[str, Mapping[str, KnobValue]]

ACCURACY = 0.98  # of every network that was trained long enough, the uncompressed ones too
LOST_BY_LACK = 0.02  # accuracy that a lack of training costs, for each doubling of value
DOUBLINGS_A_STAGE = 1.75  # value of each stage, before order plays a role
DEGREES_OF_FREEDOM = 2  # of Student's t where tails are heavy: infinite variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A truth about orders, in doublings of value, and the noise around it (standard deviations)."""

    stages: Order = "DPQE"
    effects: Mapping[Pair, float] = field(default_factory=dict)  # what "first before second" gains
    knobs: Sequence[Knobs] = ({},)  # settings that every order is trained with
    intensity: Mapping[Pair, Sequence[float]] = field(default_factory=dict)  # factors, per setting
    quirk: float = 0.0  # how far single orders are off the sum of their pairs, at every seed alike
    node_noise: float = 0.2  # of one training
    inherited: float = 0.5  # share of a prefix's noise that stays
    seed_noise: float = 0.3  # common to all that a seed trains
    interaction: float = 0.1  # deviation of a pair's effect at one seed, in all contexts alike
    interactions: Mapping[Pair, float] = field(default_factory=dict)  # other deviations of single pairs
    heavy_tails: bool = False  # a training's noise follows Student's t with 2 degrees of freedom
    under_trained: Mapping[str, float] = field(default_factory=dict)  # value lacking after a stage;
    # each later stage, F too, halves the lack
    diverged: frozenset[tuple[Order, int]] = frozenset()  # (order, seed): failed, with all that follows it
    controls: bool = False  # add F after every prefix

    @classmethod
    def law(cls, order: Order, effect: float, **noise: float) -> "Planted":
        """Plant a law: every stage gains `effect` by coming before each of those behind it in `order`."""
        return cls(stages=order, effects=dict.fromkeys(itertools.combinations(order, 2), effect), **noise)  # type: ignore[arg-type]

    def expected(self, order: Order, setting: int = 0) -> float:
        """Value of `order` without noise, in doublings, at the knob setting of that number."""
        compressing = order.replace(CONTROL, "")
        value = DOUBLINGS_A_STAGE * len(compressing)
        if self.quirk:
            value += self.quirk * _quirk(compressing)
        for (first, second), effect in self.effects.items():
            factor = self.intensity.get((first, second), [1.0] * len(self.knobs))[setting]
            value += _direction(compressing, first, second) * effect * factor / 2
        return value - self.lacking(order)

    def lacking(self, order: Order) -> float:
        """What an order's networks still lack in training, in doublings."""
        return sum(
            lack * 0.5 ** (len(order) - 1 - order.index(stage))
            for stage, lack in self.under_trained.items()
            if stage in order
        )


def simulate(truth: Planted, *, seeds: int, rng: np.random.Generator) -> list[Record]:
    """Make the records of every prefix of every permutation, at seeds 0 to `seeds` - 1 and all knob settings.

    Each has one operating point, of the reduction that is its value, at which it loses nothing: so its value
    is that at every tolerated loss. Only a lack of training shows in the accuracy, too.
    """
    nodes = list(dict.fromkeys(node for order in permutations(truth.stages) for node in prefixes(order)))
    controls = [node + CONTROL for node in nodes] if truth.controls else []
    records = []
    for seed in range(seeds):
        shift = rng.normal(0, truth.seed_noise)
        pairs = list(itertools.combinations(truth.stages, 2))
        interactions = {
            pair: rng.normal(0, truth.interactions.get(pair, truth.interaction)) for pair in pairs
        }
        for setting, knobs in enumerate(truth.knobs):
            noise: dict[Order, float] = {"": 0.0}
            for node in [*nodes, *controls]:
                noise[node] = _noise(truth, node, noise, rng)
                value = truth.expected(node, setting) + shift + noise[node]
                value += sum(
                    _direction(node, *pair) * interaction / 2 for pair, interaction in interactions.items()
                )
                failed = any((prefix, seed) in truth.diverged for prefix in prefixes(node))
                records.append(_record(node, seed, value, knobs, truth=truth, failed=failed))
    return records


def _noise(truth: Planted, node: Order, noise: Mapping[Order, float], rng: np.random.Generator) -> float:
    own = rng.standard_t(DEGREES_OF_FREEDOM) if truth.heavy_tails else rng.standard_normal()
    share = 1.0 if node.endswith(CONTROL) else truth.inherited
    return share * noise[node[:-1]] + truth.node_noise * float(own)


def _record(node: Order, seed: int, value: float, knobs: Knobs, *, truth: Planted, failed: bool) -> Record:
    accuracy = ACCURACY - LOST_BY_LACK * truth.lacking(node)
    best = ACCURACY - LOST_BY_LACK * sum(truth.under_trained.values())  # no network loses against this
    reduction = 2.0 ** max(value, 0.0)
    point = OperatingPoint(
        threshold=None, accuracy=accuracy, test_accuracy=accuracy, bitops_cr=reduction, cr=reduction
    )
    return Record(
        order=node,
        sequence=str(StageSequence.from_order(node, knobs)),
        task="simulated",
        seed=seed,
        epochs=10.0 * len(node),
        seconds=1.0,
        baseline=Baseline(accuracy=best, test_accuracy=best),
        points=() if failed else (point,),
        error="loss became NaN" if failed else None,
    )


def _direction(order: Order, first: str, second: str) -> int:
    """1 if `first` comes before `second`, -1 if after, 0 if one of them is missing."""
    if first not in order or second not in order:
        return 0
    return 1 if order.index(first) < order.index(second) else -1


def _quirk(order: Order) -> float:
    """A fixed standard normal number for each order."""
    return float(np.random.default_rng(list(order.encode())).standard_normal())
