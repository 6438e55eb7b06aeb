"""Checks of a law at seeds that it does not come from, and on runs that decided none of it.

- Exhaustive: does the order that it names come out on top among all permutations?
- Insertion: does the order of two stages survive a third one before, between or after them?
- Repetition: is a stage worth applying twice, rather than once but harder, or once more after the law?
- Rivals: what does each order that someone has proposed cost against the best one measured?
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.fronts import Measured
from ordercomp.analysis.pairs import PairTable
from ordercomp.analysis.precedence import FoldVerdicts
from ordercomp.analysis.ranking import permutation_values
from ordercomp.analysis.run_table import Run, RunTable, parsed
from ordercomp.analysis.statistics import (
    RULES,
    Estimate,
    Outcome,
    Rules,
    decide_alone,
    decide_best,
    decide_directions,
    estimate_all,
    interval_alone,
    kendall_tau,
    row_scores,
)
from ordercomp.codec import FLAT
from ordercomp.sequence import Order, StageSequence, kendall_distance

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One permutation in the ranking."""

    order: Order
    value: float  # mean over seeds and knob settings, log2 units
    distance: float  # Kendall distance from the law


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Where the law stands among all permutations."""

    best: Order
    rank: int  # 1: nothing is better; the mean of the seeds' ranks if their orders differ
    of: int
    regret: float  # value of the best minus value of the law, log2 units, at least 0
    probability_best: float | None  # None with one seed, which cannot tell
    kendall_tau: float  # between distance from the law and value; negative speaks for the law
    order: Order = ""  # the order put to the test, or the one most often so
    orders: tuple[Order, ...] = ()  # all that were put to the test, at one seed or another
    outcome: Outcome = "undecided"
    method: str = ""  # which seeds chose the law, which ranked it
    seeds: int = 0
    sentence: str = ""
    ranking: tuple[Ranked, ...] = ()  # best first


def exhaustive(
    values: Mapping[Order, FloatArray],
    laws: Sequence[Order],
    *,
    method: str,
    rules: Rules = RULES,
    resamples: int,
    rng: np.random.Generator,
) -> Exhaustive:
    """Rank the law among all permutations.

    Args:
        values: for every permutation its value at each of n seeds, shape (n,), the same seeds for all, no
            gaps.
        laws: the order to test at each seed; they differ if every seed is kept out of its own law.
        method: words that say how seeds were kept apart.
        rules: margin, error level, least seeds.
        resamples: draws for the probability of being best.
        rng: source of randomness.

    Whether the law holds, says `decide_best`.
    """
    orders = list(values)
    table = np.stack([values[order] for order in orders])  # (orders, seeds)
    places = [orders.index(law) for law in laws]
    law_values = table[places, np.arange(table.shape[1])]
    means, law_mean = table.mean(axis=1), float(law_values.mean())
    best = int(means.argmax())
    regret = max(0.0, float(means[best]) - law_mean)
    distances = np.array([[kendall_distance(order, law) for law in laws] for order in orders])
    better = (table > law_values + 1e-12).sum(axis=0)  # at each seed, of which each may have a law of its own
    ranked = [
        Ranked(order, float(mean), float(distance))
        for order, mean, distance in zip(orders, means, distances.mean(axis=1), strict=True)
    ]
    one_law = len(set(laws)) == 1
    ahead = int((means > law_mean + 1e-12).sum()) if one_law else round(float(better.mean()))
    result = Exhaustive(
        order=max(set(laws), key=lambda law: (laws.count(law), law)),
        orders=tuple(sorted(set(laws), key=lambda law: (-laws.count(law), law))),
        best=orders[best],
        rank=ahead + 1,
        of=len(orders),
        regret=regret,
        probability_best=_probability_best(table, law_values, resamples, rng),
        kendall_tau=_kendall_tau(distances, means[:, None] if one_law else table),
        outcome=decide_best(table - law_values, rules=rules),
        method=method,
        seeds=table.shape[1],
        ranking=tuple(sorted(ranked, key=lambda rank: (-rank.value, rank.order))),
    )
    return replace(result, sentence=_sentence(result))


def _sentence(result: Exhaustive) -> str:
    opening = f"{result.order} {result.outcome}: rank {result.rank} of {result.of}"
    if len(result.orders) > 1:
        verb = {"holds": "hold", "fails": "fail", "undecided": "are undecided"}[result.outcome]
        opening = (
            f"The orders suggested ({', '.join(result.orders)}) differ by seed. Together they {verb}: "
            f"on average rank {result.rank} of {result.of}"
        )
    sure = result.probability_best
    chance = "" if sure is None else f"best with probability {sure:.2f}, "
    return (
        f"{opening} over {result.seeds} seeds, {result.regret:.2f} log2 units behind the best "
        f"({result.best}), {chance}Kendall tau {result.kendall_tau:+.2f} between distance and value "
        f"({result.method})."
    )


def _probability_best(
    table: FloatArray, law_values: FloatArray, resamples: int, rng: np.random.Generator
) -> float | None:
    """Share of draws, seeds reweighted with Student's tails, in which no permutation beats the law.

    None with one seed, which cannot tell.
    """
    differences = table - law_values
    seeds = table.shape[1]
    means = differences.mean(axis=1)
    if seeds < 2:
        return None
    deviations = (differences - means[:, None]) / math.sqrt(seeds * (seeds - 1))
    tails = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=(resamples, 1)))
    draws = means + tails * (rng.standard_normal((resamples, seeds)) @ deviations.T)
    return float((draws.max(axis=1) <= 1e-12).mean())


def _kendall_tau(distances: npt.NDArray[np.int64], table: FloatArray) -> float:
    """Mean over the columns of `table`, each with its own column of distances."""
    taus = [kendall_tau(*columns) for columns in zip(distances.T, table.T, strict=False)]
    finite = [tau for tau in taus if math.isfinite(tau)]
    return float(np.mean(finite)) if finite else 0.0


# Insertion


Pair = tuple[str, str]
Where = Literal["before", "between", "after"]
PLACES: tuple[Where, ...] = ("before", "between", "after")


@dataclass(frozen=True, slots=True)
class Place:
    """A decided pair with another stage in one place."""

    where: Where
    contexts: int
    seeds: tuple[int, ...]  # that had no part in deciding
    outcome: Outcome
    effect: Estimate = field(metadata=FLAT)  # gain of the decided direction, in doublings


@dataclass(frozen=True, slots=True)
class Insertion:
    """A decided pair and what another stage before, between and after does to it."""

    first: str  # comes first by the law
    second: str
    stage: str
    outcome: Outcome
    sentence: str
    places: tuple[Place, ...]


def check_insertions(
    own: FoldVerdicts,
    unseen: Mapping[int, FoldVerdicts],
    neighbors: Mapping[Pair, PairTable],
    apart: Mapping[Pair, PairTable],
    *,
    rules: Rules,
    bound: float,
) -> list[Insertion]:
    """Test each decided pair with every other stage before both, between them and after both.

    Args:
        own: the fold verdicts whose decided pairs are tested.
        unseen: for each seed to test at, fold verdicts that it had no part in. It tests the direction that
            these decide, on the prefixes that they call trained enough; undecided, it tests nothing.
        neighbors: tables of adjacent pairs.
        apart: tables of distant pairs.
        rules: error level, interval level, fewest seeds.
        bound: largest difference of value that is possible, log2 units.

    Whether a place holds, says `decide_places`. An insertion fails if any of its places does and holds if all
    do.
    """
    decided = [pair for pair in neighbors if own.direction(pair)]
    signed = {pair: (_signed(neighbors[pair], unseen), _signed(apart[pair], unseen)) for pair in decided}
    cases = [
        (pair, stage, where)
        for pair in decided
        for stage in sorted(set(own.stages) - set(pair))
        for where in PLACES
    ]
    tables = [_placed(*signed[pair], stage, where) for pair, stage, where in cases]
    places = decide_places([where for _, _, where in cases], tables, rules=rules, bound=bound)
    results: dict[tuple[Pair, str], list[Place]] = defaultdict(list)
    for (pair, stage, _), place in zip(cases, places, strict=True):
        results[pair if own.direction(pair) > 0 else pair[::-1], stage].append(place)
    return [_insertion(*names, stage, tuple(three)) for (names, stage), three in results.items()]


def decide_places(
    wheres: Sequence[Where], tables: Sequence[PairTable], *, rules: Rules, bound: float
) -> list[Place]:
    """Decide on all places together, on tables whose positive effects speak for the direction under test.

    A place holds if the direction gains, fails if it loses, each by Holm's p-value over all places, and is
    undecided otherwise, also without records or with few seeds.
    """
    gains = estimate_all([row_scores(table.effects) for table in tables], rules=rules, bound=bound)
    filled = [np.isfinite(table.effects) for table in tables]
    seeds = [
        tuple(table.seeds[row] for row in np.flatnonzero(cells.any(axis=1)))
        for table, cells in zip(tables, filled, strict=True)
    ]
    directions = decide_directions(gains, list(map(len, seeds)), rules=replace(rules, margin=0.0))
    outcomes: dict[str, Outcome] = {"before": "holds", "after": "fails"}
    return [
        Place(where, int(cells.any(axis=0).sum()), own, outcomes.get(direction.verdict, "undecided"), gain)
        for where, cells, own, gain, direction in zip(wheres, filled, seeds, gains, directions, strict=True)
    ]


def _signed(table: PairTable, unseen: Mapping[int, FoldVerdicts]) -> PairTable:
    """Turn each seed's row so that positive speaks for what others decided; NaN where that is not to be."""
    kept = table.at_seeds(unseen)
    pair = (table.first, table.second)
    sound: dict[tuple[int, ...], list[bool]] = {}
    signs = np.full(kept.effects.shape, np.nan)
    for row, seed in enumerate(kept.seeds):
        other = unseen[seed]
        if other.seeds not in sound:
            sound[other.seeds] = other.guard.sound(table)
        if other.direction(pair):
            signs[row, sound[other.seeds]] = other.direction(pair)
    return replace(kept, effects=kept.effects * signs)


def _placed(near: PairTable, apart: PairTable, stage: str, where: Where) -> PairTable:
    if where == "between":
        return apart.choose(stage in cell.between for cell in apart.cells)
    if where == "before":
        return near.choose(stage in cell.prefix for cell in near.cells)
    return near.choose(stage in cell.suffix for cell in near.cells)


def _insertion(first: str, second: str, stage: str, places: tuple[Place, ...]) -> Insertion:
    outcomes = {place.outcome for place in places}
    outcome: Outcome = "undecided"
    if "fails" in outcomes:
        outcome = "fails"
    elif outcomes == {"holds"}:
        outcome = "holds"
    numbers = "; ".join(
        f"{place.where} {_numbers(place.effect) if place.contexts else 'no records'}" for place in places
    )
    seeds = sorted({seed for place in places for seed in place.seeds})
    tested = f"seeds {', '.join(map(str, seeds))}" if seeds else "no seed that had no part in deciding it"
    sentence = f"{first} before {second} with {stage} inserted {outcome}: {numbers} doublings ({tested})."
    return Insertion(first, second, stage, outcome, sentence, places)


# Repetition


BySeed = Mapping[int, Measured]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A stage once more, against doing without: once but harder, or the law alone."""

    stage: str
    twice: str  # order or sequence with the repeat
    once: str  # what it is compared with
    outcome: Outcome  # of the claim that the repeat gains nothing beyond the margin
    seeds: int
    sentence: str
    effect: Estimate = field(metadata=FLAT)  # gain of the repeat, in doublings


def check_repetitions(
    runs: Mapping[Run, Measured], law: Order, *, suggested: Mapping[int, Order], rules: Rules, bound: float
) -> list[Repetition]:
    """Test what a repeated stage gains: XX against X once but harder, and the law followed by X again.

    Args:
        runs: measured runs by accounting, sequence and seed.
        law: the order that is said to gain nothing by a further stage.
        suggested: for each seed to test it at, the order that seeds apart from this one suggest.
        rules: margin, interval level, fewest seeds.
        bound: largest difference of value that is possible, log2 units.

    The harder X is that of `closest_harder`; its reduction has to come as close as the margin, or the
    comparison would be one of reductions. Compared are the validation values, paired by seed. The claim that
    the repeat gains nothing is decided as "not better", each by itself. Where there is nothing to compare
    with, it is undecided; where nothing was repeated, nothing is said.
    """
    by_seed: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
    for run, measured in sorted(runs.items()):
        by_seed[run.accounting, run.text][run.seed] = measured
    gains: dict[_Repeat, list[Mapping[int, float]]] = defaultdict(list)
    for accounting, text in by_seed:
        order = parsed(text).order
        if len(order) == 2 and order[0] == order[1]:
            repeat, gain = _harder_once(by_seed, accounting, text, rules.margin)
            gains[repeat].append(gain)
        elif len(order) == len(law) + 1 and set(order[:-1]) == set(law) and order[-1] in law:
            repeat, gain = _law_and_more(by_seed, accounting, text, law, suggested)
            gains[repeat].append(gain)
    scores = [_scores(columns) for columns in gains.values()]
    effects = estimate_all([rows for _, rows in scores], rules=rules, bound=bound)
    return [
        _repetition(repeat, effect, seeds, rules)
        for repeat, effect, (seeds, _) in zip(gains, effects, scores, strict=True)
    ]


def closest_harder(twice: float, first: float, singles: Mapping[str, float], *, last: str) -> str | None:
    """The single stage that reduces most nearly what the stage twice does; None if none is harder than once.

    All are log2 reductions: of the stage twice, of the first of the two alone (NaN if unknown) and of the
    single stages by their text. One that is nearer to the first alone than to both is not harder. A tie goes
    to `last`, the text of the second of the two, then to the earlier text.
    """
    harder = {text: reduction for text, reduction in singles.items() if not reduction < (first + twice) / 2}
    return min(harder, key=lambda text: (abs(harder[text] - twice), text != last, text), default=None)


@dataclass(frozen=True, slots=True)
class _Repeat:
    """What is compared, and why it cannot be where no seed can compare it."""

    stage: str
    twice: str
    once: str
    missing: str


def _harder_once(
    by_seed: Mapping[tuple[str, str], BySeed], accounting: str, text: str, margin: float
) -> tuple[_Repeat, Mapping[int, float]]:
    """Compare with the harder single stage of the closest reduction, if that is close enough."""
    (first, last), twice = parsed(text).steps, by_seed[accounting, text]
    wanted, floor = _reduction(twice), _reduction(by_seed.get((accounting, str(first)), {}))
    singles = {
        other: _reduction(measured)
        for (mode, other), measured in by_seed.items()
        if mode == accounting and other != str(first) and parsed(other).order == first.stage
    }
    closest = closest_harder(wanted, floor, singles, last=str(last))
    if closest is None:
        once = f"a harder {first.stage}"
        return _Repeat(first.stage, text, once, f"there are no records of {once}"), {}
    apart = abs(singles[closest] - wanted)
    if apart > margin:
        missing = f"their reductions are {apart:.2f} doublings apart"
        return _Repeat(first.stage, text, closest, missing), {}
    repeat = _Repeat(first.stage, text, closest, "they share no seed")
    return repeat, _gains(twice, by_seed[accounting, closest])


def _law_and_more(
    by_seed: Mapping[tuple[str, str], BySeed],
    accounting: str,
    text: str,
    law: Order,
    suggested: Mapping[int, Order],
) -> tuple[_Repeat, Mapping[int, float]]:
    """Compare the law and one more stage with the law, where a seed may verify it."""
    order, prefix = parsed(text).order, str(StageSequence(parsed(text).steps[:-1]))
    more = law + order[-1]
    repeat = _Repeat(order[-1], more, law, f"there are no records of {more} at seeds that may verify {law}")
    if order != more:
        return repeat, {}
    twice = {
        seed: measured for seed, measured in by_seed[accounting, text].items() if suggested.get(seed) == law
    }
    return repeat, _gains(twice, by_seed.get((accounting, prefix), {}))


def _reduction(measured: BySeed) -> float:
    """Mean log2 reduction of bit operations, at the end of the network or the best exit."""
    reached = [max(math.log2(point.bitops_cr) for point in run.record.points) for run in measured.values()]
    return float(np.mean(reached)) if reached else float("nan")


def _gains(twice: BySeed, once: BySeed) -> dict[int, float]:
    return {seed: twice[seed].value - once[seed].value for seed in sorted(twice.keys() & once.keys())}


def _scores(columns: Sequence[Mapping[int, float]]) -> tuple[list[int], FloatArray]:
    """The seeds that have any number, and the mean of each."""
    seeds = sorted({seed for column in columns for seed in column})
    table = np.array([[column.get(seed, np.nan) for column in columns] for seed in seeds])
    return seeds, row_scores(table.reshape(len(seeds), len(columns)))


def _repetition(repeat: _Repeat, effect: Estimate, seeds: Sequence[int], rules: Rules) -> Repetition:
    outcome = decide_alone("not better", effect, len(seeds), rules=rules).outcome
    reason = repeat.missing
    if seeds:
        reason = f"{_numbers(effect)} doublings at seeds {', '.join(map(str, seeds))}"
    return Repetition(
        stage=repeat.stage,
        twice=repeat.twice,
        once=repeat.once,
        effect=effect,
        seeds=len(seeds),
        outcome=outcome,
        sentence=f"That {repeat.twice} gains nothing over {repeat.once} {outcome}: {reason}.",
    )


def _numbers(effect: Estimate) -> str:
    return f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"


# Rivals


PRINCIPLE_NAMES = ("static before dynamic, coarse before fine", "arXiv 2403.17447")
PRINCIPLE = "DLPSQWE"  # architecture, neuron, sub-neuron; static before dynamic


@dataclass(frozen=True, slots=True)
class Proposal:
    """An order that someone claims to be best."""

    order: Order
    claim: str
    source: str


RIVALS: tuple[Proposal, ...] = (
    Proposal("DPQE", *PRINCIPLE_NAMES),
    Proposal("EQPD", "the reverse of it", "for contrast"),
    # By measured CPU latency, and with single weights pruned, which stage P does not.
    Proposal("PQK", "prune, quantize, recover by distillation, for latency", "arXiv 2604.04988"),
    Proposal("PQD", "the same by letters, but D is a smaller student here", "arXiv 2604.04988"),
    Proposal("PKQ", "prune, recover by distillation, quantize", "arXiv 2511.19495"),
    Proposal("PDQ", "the same by letters, but D is a smaller student here", "arXiv 2511.19495"),
    Proposal("PD", "prune before distilling", "arXiv 2109.14960"),
    Proposal("QD", "quantize before distilling", "arXiv 1911.12491"),
    Proposal("QPDE", "quantize and prune before distilling", "for contrast"),
    Proposal("PQ", "prune before quantizing", "vendors' advice"),
    Proposal("EP", "exits before pruning", "arXiv 2207.03644"),
    Proposal("SQ", "sparsify before quantizing", "arXiv 2405.20935"),
)


@dataclass(frozen=True, slots=True)
class Rival:
    """What a proposed order costs on this task, among the permutations of its own stages."""

    order: Order
    claim: str
    source: str
    best: Order  # among the other permutations of the same stages
    cost: float  # value of that best other order minus the rival's, in doublings; below 0 the rival is ahead
    interval: tuple[float, float]  # of the cost, at 95 % over seeds
    rank: int
    of: int
    seeds: int = 0  # 0: not known


def try_rivals(table: RunTable, *, law: Order, suggested: Mapping[int, Order] | None = None) -> list[Rival]:
    """Try the law, the principle, "weaker first" and every proposal that the stages at hand can express.

    Values are those on test data, averaged over knob settings, at the seeds that have every permutation of
    the rival's stages; proposals without such a seed are passed over. `suggested` maps seeds to the order
    that other seeds suggest there: if given, the law is tried by these orders and at these seeds alone, so
    that no seed judges what it helped to choose. With one seed the interval is as wide as can be. The best
    other order is picked in hindsight, so costs lean upwards.
    """
    own = Proposal(law, "the order that these records suggest", "this analysis")
    rivals: list[Rival] = []
    values_of = cache(partial(permutation_values, table))
    for proposal in [own, *_proposals(table)]:
        if not set(proposal.order) <= set(table.stages):
            continue
        values, seeds = values_of("".join(sorted(proposal.order)))
        if proposal is own and suggested is not None:
            places = [place for place, seed in enumerate(seeds) if seed in suggested]
            values = {order: value[places] for order, value in values.items()}
            tried = [suggested[seeds[place]] for place in places]
        else:
            tried = [proposal.order] * len(seeds)
        if tried:
            rivals.append(_rival(proposal, values, tried, table.bound))
    return rivals


def _proposals(table: RunTable) -> list[Proposal]:
    """Weaker first and the principle, as far as they say something on the table's stages; all rivals."""
    proposals = list(RIVALS)
    if set(table.stages) <= set(PRINCIPLE):
        predicted = "".join(letter for letter in PRINCIPLE if letter in table.stages)
        if predicted not in {proposal.order for proposal in RIVALS}:
            proposals.insert(0, Proposal(predicted, *PRINCIPLE_NAMES))
    weaker = weaker_first(table)
    if weaker is not None:
        proposals.insert(0, Proposal(weaker, "weaker perturbation first", "arXiv 2603.18426"))
    return proposals


def weaker_first(table: RunTable) -> Order | None:
    """Order the stages by the validation accuracy that each loses when applied alone, the least first.

    None if a stage was never measured alone.
    """
    losses: dict[str, list[float]] = defaultdict(list)
    for measured in table.measured.values():
        if len(measured.record.order) == 1:
            loss = measured.record.baseline.accuracy - measured.end_accuracy
            losses[measured.record.order].append(loss)
    if not set(table.stages) <= set(losses):
        return None
    return "".join(sorted(table.stages, key=lambda stage: (float(np.mean(losses[stage])), stage)))


def _rival(
    proposal: Proposal, values: Mapping[Order, FloatArray], tried: Sequence[Order], bound: float
) -> Rival:
    """Compare the orders `tried`, one at each seed, with the best order that is not among them."""
    means = {order: float(value.mean()) for order, value in values.items()}
    own = np.array([values[order][place] for place, order in enumerate(tried)])
    others = [order for order in means if order not in tried] or list(means)
    best = max(others, key=lambda order: means[order])
    costs = values[best] - own
    return Rival(
        order=proposal.order,
        claim=proposal.claim,
        source=proposal.source,
        best=best,
        cost=float(costs.mean()),
        interval=interval_alone(costs, bound=bound),
        rank=1 + sum(mean > float(own.mean()) + 1e-12 for mean in means.values()),
        of=len(means),
        seeds=len(costs),
    )
