"""Checks of a law: what the pairs say beside what the same draws say of whole orders, and repeated stages.

- Exhaustive: where do the orders that keep the decided pairs stand among all orders that were run?
- Insertion: does the order of two stages survive a third one before, between or after them?
- Repetition: is a stage worth applying twice, rather than once but harder, or once more after a chain?
- Rivals: what does each order that someone has proposed cost against the best other one?
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.convergence import end_accuracy
from ordercomp.analysis.pairs import Evidence, Where
from ordercomp.analysis.run_table import Run, RunTable, parsed
from ordercomp.analysis.statistics import (
    RULES,
    Effect,
    Outcome,
    decide_alone,
    estimate_all,
    kendall_tau,
    row_scores,
)
from ordercomp.analysis.values import ValueTable
from ordercomp.codec import FLAT, OMITTED
from ordercomp.sequence import Order, StageSequence, kendall_distance

FloatArray = npt.NDArray[np.float64]
SURE = 0.95  # probability from which on an order holds, or fails
MOST_RANKS = 8  # that a sentence lists


@dataclass(frozen=True, slots=True)
class Ranked:
    """One permutation in the ranking."""

    order: Order
    value: float  # by the model, doublings
    distance: float  # Kendall distance from the order under test


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Where an order stands among all orders of its stages that were run."""

    best: Order
    rank: int  # 1: nothing is better
    of: int
    regret: float  # value of the best minus value of the order, doublings, at least 0
    probability_best: float | None  # None with too few seeds to tell
    kendall_tau: float  # between distance from the order and value; negative speaks for the order
    order: Order = ""  # the order put to the test: the law, or the best guess
    orders: tuple[Order, ...] = ()  # those that were run and keep every decided pair, in order of their rank
    ranks: tuple[int, ...] = field(default=(), metadata=OMITTED)  # of these
    outcome: Outcome = "undecided"
    method: str = ""
    seeds: int = 0
    sentence: str = ""
    ranking: tuple[Ranked, ...] = ()  # best first


def exhaustive(
    table: ValueTable, values: FloatArray, order: Order, sorts: Sequence[Order] = ()
) -> Exhaustive | None:
    """Rank an order, and others beside it, among all orders of its stages that were run.

    Args:
        table: the values that were measured.
        values: draws of the chains' values, shape (draws, chains), in the order of the table.
        order: put to the test. Where it was not run, the best ranked of `sorts` stands for it.
        sorts: the orders that keep every decided pair, which are ranked, too.

    The order holds if it lies behind the best by no more than the margin with probability 0.95, fails if it
    lies further behind with that probability, and is undecided otherwise, always with fewer than three seeds.
    None where fewer than two orders were run, or none that could be tested.
    """
    measured = {ran for ran, seeds in table.seeds_of.items() if seeds}  # others are told by the model alone
    rows = [k for k, ran in enumerate(table.orders) if sorted(ran) == sorted(order) and ran in measured]
    orders, drawn = [table.orders[k] for k in rows], values[:, rows]
    if len(orders) < 2 or not len(values):
        return None
    value = dict(zip(orders, map(float, drawn.mean(axis=0)), strict=True))
    ranked = sorted(orders, key=lambda ran: -value[ran])
    keeping = [ran for ran in ranked if ran in set(sorts)]
    tested = [order, *keeping] if order in value else keeping
    if not tested:
        return None
    order, best = tested[0], ranked[0]
    lag = drawn.max(axis=1) - drawn[:, orders.index(order)]
    seeds = int(np.isfinite(table.values[rows]).any(axis=0).sum())
    tau = kendall_tau([kendall_distance(ran, order) for ran in orders], list(value.values()))
    result = Exhaustive(
        order=order,
        orders=tuple(keeping),
        ranks=tuple(ranked.index(ran) + 1 for ran in keeping),
        best=best,
        rank=ranked.index(order) + 1,
        of=len(orders),
        regret=value[best] - value[order],
        probability_best=float((lag <= 1e-9).mean()) if seeds >= RULES.least_seeds else None,
        kendall_tau=tau if math.isfinite(tau) else 0.0,
        outcome=_outcome(float((lag <= RULES.margin).mean()), seeds),
        method="by the draws that the answer rests on",
        seeds=seeds,
        ranking=tuple(Ranked(ran, value[ran], float(kendall_distance(ran, order))) for ran in ranked),
    )
    return replace(result, sentence=_sentence(result))


def _outcome(probability: float, seeds: int) -> Outcome:
    if seeds < RULES.least_seeds or 1 - SURE < probability < SURE:
        return "undecided"
    return "holds" if probability >= SURE else "fails"


def _sentence(result: Exhaustive) -> str:
    sure = result.probability_best
    chance = "" if sure is None else f"the best with probability {sure:.2f}, "
    keeping = ""
    if 0 < len(result.orders) < result.of:
        ranks = ", ".join(map(str, result.ranks[:MOST_RANKS])) + (
            ", …" if len(result.ranks) > MOST_RANKS else ""
        )
        keeping = f" The {len(result.orders)} that keep every decided pair have rank {ranks}."
        if len(result.orders) == 1:
            keeping = f" {result.orders[0]}, of rank {ranks}, alone keeps every decided pair."
    verb = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[result.outcome]
    seeds = f"{result.seeds} seed{'s' * (result.seeds != 1)}"
    return (
        f"{result.order} {verb}: rank {result.rank} of {result.of} orders that were run, over {seeds}, "
        f"{result.regret:.2f} doublings behind the best ({result.best}), {chance}Kendall tau "
        f"{result.kendall_tau:+.2f} between distance and value.{keeping}"
    )


# Insertion


@dataclass(frozen=True, slots=True)
class Place:
    """A pair with another stage in one place."""

    where: Where
    contexts: int
    seeds: tuple[int, ...]  # at which both orders of the pair ran
    outcome: Outcome
    effect: Effect = field(metadata=FLAT)  # gain of the pair's order, in doublings


@dataclass(frozen=True, slots=True)
class Insertion:
    """A pair in its likelier order, and what another stage before, between and after does to it."""

    first: str
    second: str
    stage: str
    outcome: Outcome
    sentence: str
    places: tuple[Place, ...]


def check_insertions(pairs: Sequence[Evidence]) -> list[Insertion]:
    """Read off the groups of each pair whether its likelier order survives every other stage in every place.

    A place holds if the order surely comes out first there, too, as pairs are decided, fails if the other one
    does, and is undecided otherwise. An insertion fails if any of its places does and holds if all do.
    """
    insertions = []
    for pair in pairs:
        sign = 1 if pair.edge[0] == pair.first else -1
        stages = dict.fromkeys(group.stage for group in pair.groups or ())
        for stage in stages:
            places = tuple(
                Place(
                    where=group.where,
                    contexts=group.contexts,
                    seeds=group.seeds,
                    outcome=_OUTCOMES[sign * group.sign],
                    effect=group.effect if sign > 0 else group.effect.negated,
                )
                for group in pair.groups or ()
                if group.stage == stage
            )
            insertions.append(_insertion(*pair.edge[:2], stage, places))
    return insertions


_OUTCOMES: Mapping[int, Outcome] = {1: "holds", -1: "fails", 0: "undecided"}


def _insertion(first: str, second: str, stage: str, places: tuple[Place, ...]) -> Insertion:
    outcomes = {place.outcome for place in places}
    outcome: Outcome = "fails" if "fails" in outcomes else "undecided"
    if outcomes == {"holds"}:
        outcome = "holds"
    numbers = "; ".join(
        f"{place.where} {_numbers(place.effect) if place.contexts else 'no records'}" for place in places
    )
    sentence = f"{first} before {second} with {stage} inserted {outcome}: {numbers} doublings."
    return Insertion(first, second, stage, outcome, sentence, places)


# Repetition


BySeed = Mapping[int, float]  # a value at each seed


@dataclass(frozen=True, slots=True)
class Repetition:
    """A stage once more, against doing without: once but harder, or the chain alone."""

    stage: str
    twice: str  # order or sequence with the repeat
    once: str  # what it is compared with
    outcome: Outcome  # of the claim that the repeat gains nothing beyond the margin
    seeds: int
    sentence: str
    effect: Effect = field(metadata=FLAT)  # gain of the repeat, in doublings


def check_repetitions(table: RunTable, values: Mapping[Run, float]) -> list[Repetition]:
    """Test what a repeated stage gains: XX against X once but harder, and a chain followed by X again.

    Args:
        table: the runs.
        values: of each run that did not fail, in doublings at the tolerated loss.

    The harder X is that of `closest_harder`; its reduction has to come as close as the margin, or the
    comparison would be one of reductions. Values are paired by seed, and each claim that a repeat gains
    nothing is decided by itself as "not better". Where there is nothing to compare with, it is undecided;
    where nothing was repeated, nothing is said.
    """
    by_seed: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    reductions: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in sorted(values):
        by_seed[run.accounting, run.text][run.seed] = values[run]
        if len(run.order) <= 2:  # longer chains are compared with themselves, not by their reduction
            most = max(point.bitops_cr for point in table.records[run].points)
            reductions[run.accounting, run.text].append(math.log2(most))
    reached = {key: float(np.mean(logs)) for key, logs in reductions.items()}
    gains: dict[_Repeat, list[BySeed]] = defaultdict(list)
    for accounting, text in by_seed:
        order = parsed(text).order
        if len(order) == 2 and order[0] == order[1]:
            repeat, gain = _harder_once(by_seed, reached, accounting, text)
        elif order[-1:] in order[:-1] and len(set(order)) == len(order) - 1:
            before = by_seed.get((accounting, str(StageSequence(parsed(text).steps[:-1]))), {})
            repeat, gain = (
                _Repeat(order[-1], order, order[:-1], "they share no seed"),
                _gains(by_seed[accounting, text], before),
            )
        else:
            continue
        gains[repeat].append(gain)
    bound = max((abs(value) for value in values.values()), default=0.0)
    scores = [_scores(columns) for columns in gains.values()]
    effects = estimate_all([rows for _, rows in scores], rules=RULES, bound=bound)
    return [
        _repetition(repeat, effect, seeds)
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
    by_seed: Mapping[tuple[str, str], BySeed],
    reached: Mapping[tuple[str, str], float],
    accounting: str,
    text: str,
) -> tuple[_Repeat, BySeed]:
    """Compare with the harder single stage of the closest reduction, if that is close enough."""
    (first, last), twice = parsed(text).steps, reached[accounting, text]
    singles = {
        other: reduction
        for (mode, other), reduction in reached.items()
        if mode == accounting and other != str(first) and parsed(other).order == first.stage
    }
    closest = closest_harder(twice, reached.get((accounting, str(first)), math.nan), singles, last=str(last))
    if closest is None:
        once = f"a harder {first.stage}"
        return _Repeat(first.stage, text, once, f"there are no records of {once}"), {}
    apart = abs(singles[closest] - twice)
    if apart > RULES.margin:
        missing = f"their reductions are {apart:.2f} doublings apart"
        return _Repeat(first.stage, text, closest, missing), {}
    repeat = _Repeat(first.stage, text, closest, "they share no seed")
    return repeat, _gains(by_seed[accounting, text], by_seed[accounting, closest])


def _gains(twice: BySeed, once: BySeed) -> BySeed:
    return {seed: twice[seed] - once[seed] for seed in sorted(twice.keys() & once.keys())}


def _scores(columns: Sequence[BySeed]) -> tuple[list[int], FloatArray]:
    """The seeds that have any number, and the mean of each."""
    seeds = sorted({seed for column in columns for seed in column})
    table = np.array([[column.get(seed, np.nan) for column in columns] for seed in seeds])
    return seeds, row_scores(table.reshape(len(seeds), len(columns)))


def _repetition(repeat: _Repeat, effect: Effect, seeds: Sequence[int]) -> Repetition:
    outcome = decide_alone("not better", effect, len(seeds)).outcome
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


def _numbers(effect: Effect) -> str:
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
    """What a proposed order costs on this task, among the orders of its own stages that were run."""

    order: Order
    claim: str
    source: str
    best: Order  # among the others
    cost: float  # value of that best other order minus the rival's, in doublings; below 0 the rival is ahead
    interval: tuple[float, float]  # of the cost, at 95 %
    rank: int
    of: int
    seeds: int = 0  # at which the rival ran; 0: not known


def try_rivals(table: ValueTable, values: FloatArray, proposals: Iterable[Proposal]) -> list[Rival]:
    """Set each proposal that was run, with others of its stages, beside the best of these.

    `values` are draws of the chains of `table`, shape (draws, chains). Intervals are as wide as can be with
    fewer than three seeds.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, order in enumerate(table.orders):
        rows["".join(sorted(order))].append(row)
    return [
        _rival(proposal, table, values, rows["".join(sorted(proposal.order))])
        for proposal in proposals
        if proposal.order in table.orders and len(rows["".join(sorted(proposal.order))]) > 1 and len(values)
    ]


def proposals_for(table: RunTable) -> list[Proposal]:
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
    for record in table.records.values():
        if len(record.order) == 1 and record.points:
            losses[record.order].append(record.baseline.accuracy - end_accuracy(record))
    if not set(table.stages) <= set(losses):
        return None
    return "".join(sorted(table.stages, key=lambda stage: (float(np.mean(losses[stage])), stage)))


def _rival(proposal: Proposal, table: ValueTable, values: FloatArray, rows: Sequence[int]) -> Rival:
    """Compare a proposal with the best other of the orders in `rows`."""
    means = values[:, rows].mean(axis=0)
    own = [table.orders[row] for row in rows].index(proposal.order)
    other = max((k for k in range(len(rows)) if k != own), key=lambda k: float(means[k]))
    cost = values[:, rows[other]] - values[:, rows[own]]
    seeds = int(np.isfinite(table.values[rows[own]]).sum())
    low, high = np.quantile(cost, (0.025, 0.975))
    if seeds < RULES.least_seeds:
        high = float(np.nanmax(np.abs(table.values)))
        low = -high
    return Rival(
        order=proposal.order,
        claim=proposal.claim,
        source=proposal.source,
        best=table.orders[rows[other]],
        cost=float(cost.mean()),
        interval=(float(low), float(high)),
        rank=1 + int((means > means[own] + 1e-12).sum()),
        of=len(rows),
        seeds=seeds,
    )
