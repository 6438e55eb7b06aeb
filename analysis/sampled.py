"""Evidence from networks that a sampler chose: fronts at equal numbers of trainings, with a bootstrap.

A sampler tries what it likes more often and with better knobs, so its networks cannot be paired. What can be
compared is how good a front the networks with a before b reach against those with b before a, if both sides
have equally many. Networks of one seed share the baseline network and the split of the data, so a resample
draws seeds first and networks within them. The bias stays: the result is labelled "adaptive", and a paired
design outranks it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ordercomp.analysis.fronts import FloatArray, Scale, front_value, group_by_seed
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.precedence import find_cycle, kemeny_order, linear_extensions, precedence_graph
from ordercomp.analysis.ranking import permutation_records
from ordercomp.analysis.statistics import RULES, Estimate
from ordercomp.records import Record, TrainingCount
from ordercomp.sequence import Order, check_order

SCALE = Scale(split="validation")
FEWEST = 5  # networks on a side before a pair may be decided


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveEvidence:
    """All pairs, and the order that they support best. Never mixed with paired evidence.

    The probability of a pair is the share of resamples in which `first` earlier reaches the better front, its
    effect the mean difference of front values, its contexts the networks on either side.
    """

    KEYS: ClassVar = (
        *("task", "stages", "evidence", "law", "orders", "unique", "cycle", "pairs", "verification"),
        *("trainings", "seconds", "kemeny", "values", "notes"),
    )

    task: str
    stages: Order
    evidence: Literal["adaptive"] = "adaptive"
    orders: tuple[Order, ...]  # that satisfy every decided pair; empty on a cycle
    cycle: tuple[str, ...] | None
    pairs: tuple[Evidence, ...]
    verification: None = None  # nothing is checked
    trainings: TrainingCount
    seconds: float
    kemeny: Order  # the order with the least contradiction
    values: Mapping[Order, float]  # mean front value of each whole order at equal numbers of networks
    notes: tuple[str, ...] = ("a sampler chose these networks; its preferences bias the comparison",)

    @property
    def law(self) -> Order | None:
        """The one order that satisfies every decided pair, None if there are several or none."""
        return self.orders[0] if len(self.orders) == 1 else None

    @property
    def unique(self) -> bool:
        """Whether exactly one order satisfies every decided pair."""
        return self.law is not None

    @property
    def laws(self) -> tuple[()]:
        """Nothing: how probable whole orders are, is not worked out."""
        return ()


def adaptive_evidence(
    records: Sequence[Record],
    *,
    rng: np.random.Generator,
    resamples: int = 500,
    alpha: float = 0.05,
    scale: Scale = SCALE,
    stages: Order | None = None,
) -> AdaptiveEvidence:
    """Compare, for each pair of stages, the fronts that networks with either order of the two reach.

    Each resample draws seeds with replacement, the same for both sides, then equally many networks for each
    side from these seeds. Its deviation from the mean is widened for the small number of seeds, by that of
    Student's t. A pair is decided if fewer than `alpha` over twice the number of pairs of the resamples
    speak against it, and both sides have at least five networks and three seeds. Stages that come twice in a
    network leave it out of their pairs. Takes O(pairs * resamples * n log n). `stages` are the letters to
    order, by default all that occur. Raises ValueError without records, with several tasks, for letters that
    do not occur, or for a bad `resamples` or `alpha`.
    """
    measured = [record for record in records if record.points]
    occurring, task = _stages(measured)
    stages = occurring if stages is None else check_order(stages)
    if len(set(stages)) != len(stages) or not set(stages) <= set(occurring):
        raise ValueError(
            f"stages must be distinct letters among those that occur, {occurring}, got {stages!r}"
        )
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    couples = list(itertools.combinations(stages, 2))
    limit = alpha / (2 * max(1, len(couples)))
    pairs = [_compare(measured, couple, limit, resamples, scale, rng) for couple in couples]
    edges = {(p.first, p.second): p.effect.probability for p in pairs if p.verdict == "before"}
    edges |= {(p.second, p.first): 1 - p.effect.probability for p in pairs if p.verdict == "after"}
    graph = precedence_graph(stages, edges)
    cycle = find_cycle(graph)
    return AdaptiveEvidence(
        task=task,
        stages=stages,
        pairs=tuple(pairs),
        orders=tuple(linear_extensions(graph, stages)),
        cycle=None if cycle is None else tuple(cycle),
        kemeny=kemeny_order(stages, {(p.first, p.second): p.effect.probability for p in pairs}),
        values=_order_values(measured, stages, resamples, scale, rng),
        trainings=TrainingCount(done=len(measured), reused=0, unshared=len(measured)),
        seconds=sum(record.seconds for record in measured),
    )


def _stages(records: Sequence[Record]) -> tuple[Order, str]:
    if not records:
        raise ValueError("records must hold at least one measured network, got none")
    tasks = sorted({record.task for record in records})
    if len(tasks) > 1:
        raise ValueError(f"records must be of one task, got {', '.join(tasks)}")
    letters = {letter for record in records for letter in record.order if letter != "F"}
    known = [letter for letter in "DPQE" if letter in letters]
    return "".join([*known, *sorted(letters - set(known))]), tasks[0]


def _compare(
    records: Sequence[Record],
    couple: tuple[str, str],
    limit: float,
    resamples: int,
    scale: Scale,
    rng: np.random.Generator,
) -> Evidence:
    first, second = couple
    both = [r for r in records if r.order.count(first) == 1 and r.order.count(second) == 1]
    earlier = [r for r in both if r.order.index(first) < r.order.index(second)]
    later = [r for r in both if r.order.index(first) > r.order.index(second)]
    size = min(len(earlier), len(later))
    seeds = min(len({record.seed for record in side}) for side in (earlier, later))
    differences = _differences(earlier, later, resamples, scale, rng) if size else np.empty(0)
    if seeds > 1 and len(differences):
        differences = _widened(differences, seeds, rng)
    drawn = len(differences) > 0
    probability = float((differences > 0).mean() + (differences == 0).mean() / 2) if drawn else 0.5
    low, high = np.quantile(differences, [0.025, 0.975]) if drawn else (0.0, 0.0)
    verdict: Literal["before", "after", "undecided"] = "undecided"
    if size >= FEWEST and seeds >= RULES.least_seeds and min(probability, 1 - probability) <= limit:
        verdict = "before" if probability > 0.5 else "after"
    return Evidence(
        first=first,
        second=second,
        verdict=verdict,
        effect=Estimate(
            mean=float(differences.mean()) if drawn else 0.0,
            interval=(float(low), float(high)),
            probability=probability,
        ),
        contexts=size,
        seeds=seeds,
    )


def _differences(
    earlier: Sequence[Record], later: Sequence[Record], resamples: int, scale: Scale, rng: np.random.Generator
) -> FloatArray:
    """Differences of front values of equally many networks; draws that leave a side empty do not count."""
    sides = (group_by_seed(earlier), group_by_seed(later))
    seeds = sorted({seed for side in sides for seed in side})
    size = min(len(earlier), len(later))
    differences = []
    for _ in range(resamples):
        drawn = [seeds[place] for place in rng.integers(len(seeds), size=len(seeds))]
        pools = [[side[seed] for seed in drawn if seed in side] for side in sides]
        if all(pools):
            first, second = (_drawn_value(pool, size, scale, rng) for pool in pools)
            differences.append(first - second)
    return np.array(differences)


def _widened(differences: FloatArray, seeds: int, rng: np.random.Generator) -> FloatArray:
    """Give the draws the spread and the tails that a bootstrap of so few seeds lacks."""
    tails = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=len(differences)))
    mean = differences.mean()
    widened: FloatArray = mean + (differences - mean) * math.sqrt(seeds / (seeds - 1)) * tails
    return widened


def _order_values(
    records: Sequence[Record], stages: Order, resamples: int, scale: Scale, rng: np.random.Generator
) -> dict[Order, float]:
    """Mean value of the front of equally many networks of each whole order, best order first."""
    whole: dict[Order, list[Record]] = {}
    for record in permutation_records(records, stages):
        whole.setdefault(record.order, []).append(record)
    size = min(map(len, whole.values()), default=0)
    draws = max(1, resamples // 10)
    values = {
        order: float(np.mean([_drawn_value([networks], size, scale, rng) for _ in range(draws)]))
        for order, networks in whole.items()
    }
    return dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))


def _drawn_value(
    pools: Sequence[Sequence[Record]], size: int, scale: Scale, rng: np.random.Generator
) -> float:
    """Value of the front of `size` networks, each drawn from one of the pools, drawn before."""
    chosen = [pools[place] for place in rng.integers(len(pools), size=size)]
    return front_value([pool[int(rng.integers(len(pool)))] for pool in chosen], scale=scale)
