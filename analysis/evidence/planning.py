"""Adaptive budget: which two sequences to train next, to settle the undecided pairs soonest per second.

A block is one paired difference: two sequences that differ in one adjacent swap, at one knob setting and
seed. Prefixes that are trained already cost nothing, and a block also counts for the other pairs that its
sequences happen to compare. So that cheap contexts do not crowd out the rest, each seed meets the contexts
of a pair in a random order of its own, of which only the next few are open to choice.

Whoever looks after every training and stops at the first verdict is fooled more often than by one look. So
the planner judges by `Rules.at_look`: it counts the seeds that it was given as planned, and those of its own
blocks as further ones.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ordercomp.analysis.evidence.convergence import controls
from ordercomp.analysis.evidence.pairs import Evidence, gather
from ordercomp.analysis.evidence.resampling import row_scores
from ordercomp.analysis.evidence.units import PairTable, Run, pair_tables
from ordercomp.analysis.fronts.readouts import Measured, measure
from ordercomp.analysis.law.derive import LawOptions
from ordercomp.orders import Order, adjacent_swaps, permutations, subsets
from ordercomp.records import Record
from ordercomp.sequence import KnobValue, StageSequence

__all__ = ["Block", "Planner", "blocks"]

Pair = tuple[str, str]
Node = tuple[str, int]  # sequence text, seed

FIRST_SEEDS = 3  # seeds that every pair gets before any pair is preferred
OPEN_CONTEXTS = 5  # of each pair and seed, in the random order: the best of them may be taken


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Two sequences to train at one seed, and the pair of stages that they tell apart."""

    pair: Pair
    texts: tuple[str, str]
    seed: int

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All prefixes of both sequences, shortest first."""
        prefixes = [node for text in self.texts for node in StageSequence.parse(text).prefixes]
        return tuple((text, self.seed) for text in dict.fromkeys(map(str, sorted(prefixes, key=len))))


def blocks(
    stages: Order, settings: Iterable[Mapping[str, Mapping[str, KnobValue]]], seeds: Iterable[int]
) -> list[Block]:
    """List every adjacent swap of every order of every subset of `stages`, at all knob settings and seeds.

    Four stages have 66 blocks for each setting and seed. Those that settings share are listed once.
    """
    orders = [order for chosen in subsets(stages, smallest=2) for order in permutations(chosen)]
    swaps = [
        swap
        for order in orders
        for swap in adjacent_swaps(order)
        if stages.index(swap.first) < stages.index(swap.second)
    ]
    seeds = tuple(seeds)
    texts = [
        ((swap.first, swap.second), _text(swap.order, knobs), _text(swap.swapped, knobs))
        for knobs in settings
        for swap in swaps
    ]
    listed = [Block(pair, (one, other), seed) for pair, one, other in texts for seed in seeds]
    return list(dict.fromkeys(listed))


class Planner:
    """Proposes the next block, given what has been measured and what is under way.

    `learn` takes every finished record; `propose` answers with a block, or None once every pair is settled or
    the menu is used up. A proposed block counts as under way: its nodes are free for others, and it is not
    proposed again. The same calls lead to the same proposals.
    """

    def __init__(
        self,
        stages: Order,
        menu: Sequence[Block],
        *,
        seconds: Mapping[str, float] | None = None,
        options: LawOptions | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare a plan.

        Args:
            stages: letters to order.
            menu: the blocks to choose from, see `blocks`.
            seconds: expected cost of training each stage; what records tell replaces it, 1 where nothing
                does.
            options: of the analysis, default as in `derive_law`.
            seed: of the random order of contexts.
        """
        self.stages = stages
        self._options = options or LawOptions()
        self._expected = dict(seconds or {})
        self._spent: dict[str, list[float]] = defaultdict(list)
        self._runs: dict[Run, Measured] = {}
        self._known: set[Node] = set()  # trained, failed or under way
        self._chosen: set[int] = set()  # seeds at which the planner had something trained
        self._open = _shuffled(menu, seed)
        self._nodes = {block: block.nodes for block in menu}
        self._touching: dict[Node, list[Block]] = defaultdict(list)
        for block in menu:
            for text in block.texts:
                self._touching[text, block.seed].append(block)
        self._evidence: list[Evidence] | None = None
        self._tables: Mapping[Pair, PairTable] = {}

    def learn(self, record: Record) -> None:
        """Take a finished record into account, controls and failed ones included."""
        text = str(StageSequence.parse(record.sequence))
        self._known.add((text, record.seed))
        if record.order and record.seconds > 0:
            self._spent[record.order[-1]].append(record.seconds)
        measured = measure(record, scale=self._options.scale)
        if measured is not None:
            self._runs[str(record.extra.get("accounting", "per-stage")), text, record.seed] = measured
            self._evidence = None

    @property
    def evidence(self) -> list[Evidence]:
        """The verdicts on all pairs so far."""
        if self._evidence is None:
            guard = controls(self._runs, margin=self._options.convergence_margin)
            self._tables = pair_tables(self._runs, self.stages, neighbors=True)
            bound = max([run.value for run in self._runs.values()], default=1.0) or 1.0
            rng, rules = np.random.default_rng(0), self._options.rules
            self._evidence = gather(
                self._tables, guard, rules=rules, bound=bound, rng=rng, planned=self.planned
            )
        return self._evidence

    @property
    def planned(self) -> int:
        """Number of seeds with records at which the planner chose nothing."""
        return len({seed for _, _, seed in self._runs} - self._chosen)

    def cost(self, block: Block) -> float:
        """Expected seconds of training what `block` still lacks; 0 if everything is there or under way."""
        return sum(self._seconds(node[0]) for node in self._nodes[block] if node not in self._known)

    def propose(self) -> Block | None:
        """Return the block that brings undecided pairs furthest towards their verdicts per second."""
        progress = _Progress(self, [pair for pair in self.evidence if _is_unsettled(pair)])
        candidates = [block for pair in progress.pairs for block in self._candidates(pair, progress)]
        if not candidates:
            return None
        costs = [max(self.cost(block), 1e-9) for block in candidates]
        gains = [progress.gain(block.seed, self._completes(block)) for block in candidates]
        chosen = max(range(len(candidates)), key=lambda place: (gains[place] / costs[place], -costs[place]))
        self._known.update(self._nodes[candidates[chosen]])
        self._chosen.add(candidates[chosen].seed)
        return candidates[chosen]

    def _candidates(self, pair: Pair, progress: "_Progress") -> list[Block]:
        """The next few contexts of each seed that has begun, and of the first seed that has not."""
        found: list[Block] = []
        for seed, listed in self._open[pair].items():
            waiting = [block for block in listed if not self.is_known(block)]
            found += waiting[:OPEN_CONTEXTS]
            if waiting and seed not in progress.counts[pair]:
                break
        return found

    def _completes(self, block: Block) -> Counter[Pair]:
        """Count, by pair, the blocks that training this one would complete."""
        new = [node for node in self._nodes[block] if node not in self._known]
        touched = dict.fromkeys(other for node in new for other in self._touching[node])
        have = self._known.union(new)
        return Counter(
            other.pair for other in touched if all((text, other.seed) in have for text in other.texts)
        )

    def is_known(self, block: Block) -> bool:
        """Whether both sequences of the block are trained or under way."""
        return all((text, block.seed) in self._known for text in block.texts)

    def contexts(self, pair: Pair) -> dict[int, int]:
        """Number of contexts of the pair, measured or under way, at each seed that has any."""
        known = {seed: sum(map(self.is_known, listed)) for seed, listed in self._open[pair].items()}
        return {seed: count for seed, count in known.items() if count}

    def _seconds(self, text: str) -> float:
        stage = text.rsplit(" ", 1)[-1][0]
        spent = self._spent.get(stage)
        return sum(spent) / len(spent) if spent else self._expected.get(stage, 1.0)


class _Progress:
    """How far the unsettled pairs are from a verdict, and how much further more contexts would bring them."""

    def __init__(self, planner: Planner, unsettled: Sequence[Evidence]) -> None:
        self.pairs = {(pair.first, pair.second): pair for pair in unsettled}
        self.counts = {pair: planner.contexts(pair) for pair in self.pairs}
        self._rules = planner._options.rules
        self._planned = max(planner.planned, self._rules.least_seeds)
        self._spreads = {pair: _spreads(planner._tables[pair]) for pair in self.pairs}
        self._cache: dict[tuple[Pair, int, int], float] = {}

    def gain(self, seed: int, completed: Mapping[Pair, int]) -> float:
        """Sum over the pairs of the share of the way to a verdict that these contexts at `seed` cover."""
        return sum(self._share(pair, seed, more) for pair, more in completed.items() if pair in self.pairs)

    def _share(self, pair: Pair, seed: int, more: int) -> float:
        key = (pair, seed, more)
        if key not in self._cache:
            counts = self.counts[pair]
            if len(counts) < FIRST_SEEDS:
                share = 10.0 / (1 + len(counts)) if seed not in counts else 0.0
            else:
                now = self._nearness(pair, counts)
                then = self._nearness(pair, {**counts, seed: counts.get(seed, 0) + more})
                share = max(0.0, math.log(then / now)) / max(0.05, -math.log(min(now, 1.0)))
            self._cache[key] = share
        return self._cache[key]

    def _nearness(self, pair: Pair, counts: Mapping[int, int]) -> float:
        """How near a verdict is expected to be with so many contexts at each seed; 1: just there."""
        rules, effect = self._rules.at_look(len(counts) - self._planned), abs(self.pairs[pair].effect.mean)
        between, within = self._spreads[pair]
        error = math.sqrt(sum(between + within / count for count in counts.values())) / len(counts)
        freedom = len(counts) - 1 + rules.prior_cap / 2
        strict = 1 - rules.alpha / 2 / len(self.pairs)
        apart = effect / float(stats.t.ppf(strict, freedom)) if effect > rules.margin else 0.0
        alike = (rules.margin - effect) / float(stats.t.ppf(0.5 + rules.level / 2, freedom))
        return max(apart, alike, 1e-6) / max(error, 1e-9)


def _is_unsettled(pair: Evidence) -> bool:
    return pair.verdict == "undecided" and not pair.under_trained


def _text(order: Order, knobs: Mapping[str, Mapping[str, KnobValue]]) -> str:
    return str(StageSequence.from_order(order, knobs))


def _shuffled(menu: Sequence[Block], seed: int) -> dict[Pair, dict[int, list[Block]]]:
    """Sort the menu by pair and seed, each list in a random order that depends on nothing else."""
    by_pair: dict[Pair, dict[int, list[Block]]] = defaultdict(dict)
    for block in sorted(menu, key=lambda block: (block.seed, block)):
        by_pair[block.pair].setdefault(block.seed, []).append(block)
    for (first, second), by_seed in by_pair.items():
        for run, waiting in by_seed.items():
            rng = np.random.default_rng([seed, ord(first), ord(second), run])
            by_seed[run] = [waiting[place] for place in rng.permutation(len(waiting))]
    return by_pair


def _spreads(table: PairTable) -> tuple[float, float]:
    """Estimate the variance of a pair's score between seeds, and that of single contexts within a seed."""
    rows = [row[np.isfinite(row)] for row in table.effects]
    rows = [row for row in rows if row.size]
    extra = sum(row.size - 1 for row in rows)
    total = float(row_scores(table.effects).var(ddof=1)) if len(rows) > 1 else 1.0
    within = sum(float(((row - row.mean()) ** 2).sum()) for row in rows) / extra if extra else total / 2
    share = float(np.mean([1 / row.size for row in rows])) if rows else 1.0
    return max(total - within * share, 0.1 * total), max(within, 1e-12)
