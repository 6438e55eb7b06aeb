"""The law: the orders that the records support, with everything that speaks for and against them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ordercomp.analysis.checks import check_insertions, check_repetitions
from ordercomp.analysis.convergence import Guard, controls
from ordercomp.analysis.corpus import Corpus, collect
from ordercomp.analysis.evidence import Evidence, Rules, count_cells, gather
from ordercomp.analysis.findings import Law
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.precedence import (
    Precedence,
    acyclic_by_chance,
    find_cycle,
    free_pairs,
    intransitive_triples,
    kemeny_order,
    linear_extensions,
    minimum_feedback_arcs,
    precedence_graph,
    tournament_orders,
)
from ordercomp.analysis.resampling import hierarchical_bootstrap
from ordercomp.analysis.rivals import try_rivals
from ordercomp.analysis.units import PairTable, pair_tables
from ordercomp.analysis.verification import Exhaustive, exhaustive
from ordercomp.orders import Order
from ordercomp.records import Record

__all__ = ["Law", "LawOptions", "derive_law"]

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LawOptions:
    """What the analysis is told; all of it is fixed before looking at the records."""

    # Fronts are valued on validation data, since a law is a choice; verification looks at test data.
    scale: Scale = field(default_factory=lambda: Scale(split="validation"))
    convergence_margin: float = 0.01  # accuracy that F may gain, a fraction, before a prefix is under-trained
    rules: Rules = field(default_factory=Rules)
    resamples: int = 2000  # draws of the bootstrap
    held_out: int | None = None  # seeds kept for verification; None: a third of 6 or more, else none

    def __post_init__(self) -> None:
        if self.convergence_margin < 0:
            raise ValueError(f"convergence_margin must not be negative, got {self.convergence_margin}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged, and by which rules."""

    corpus: Corpus
    options: LawOptions
    guard: Guard
    tables: Mapping[Pair, PairTable]  # of neighbors, all seeds
    seeds: tuple[int, ...]  # the law comes from these
    held_out: tuple[int, ...]  # and is verified on these, if any

    def tables_at(self, seeds: Sequence[int]) -> dict[Pair, PairTable]:
        return {pair: table.at_seeds(seeds) for pair, table in self.tables.items()}

    def judge(self, seeds: Sequence[int], rng: np.random.Generator) -> list[Evidence]:
        rules, bound = self.options.rules, self.corpus.bound
        return gather(self.tables_at(seeds), self.guard, rules=rules, bound=bound, rng=rng)


DEFAULT_OPTIONS = LawOptions()


def derive_law(
    records: Sequence[Record],
    *,
    stages: Order | None = None,
    seed: int = 0,
    reused: int = 0,
    options: LawOptions = DEFAULT_OPTIONS,
) -> Law:
    """Derive the law that `records` support.

    Args:
        records: of one task; controls that end in F and repeats may be among them.
        stages: letters to order, default those that occur.
        seed: of the resampling; the same seed gives the same law.
        reused: trainings that were found in a store, for the account of trainings.
        options: margins, error level, resamples.

    Raises ValueError if there are no records, several tasks, or fewer than two or more than nine stages.
    """
    case = _prepare(records, stages, options)
    corpus, rng = case.corpus, np.random.default_rng(seed)
    evidence = case.judge(case.seeds, rng)
    graph, support = _graph(corpus.stages, evidence), _support(evidence)
    orders, cycle = linear_extensions(graph, corpus.stages), find_cycle(graph)
    kemeny = kemeny_order(corpus.stages, support)
    guess = orders[0] if len(orders) == 1 else kemeny
    rules, bound = options.rules, corpus.bound
    apart = pair_tables(corpus.runs, corpus.stages, neighbors=False)
    return Law(
        task=corpus.task,
        stages=corpus.stages,
        law=orders[0] if len(orders) == 1 else None,
        orders=tuple(orders),
        cycle=None if cycle is None else tuple(cycle),
        pairs=tuple(evidence),
        kemeny=kemeny,
        feedback_arcs=tuple(minimum_feedback_arcs(graph, corpus.stages)),
        free_pairs=tuple(free_pairs(graph, corpus.stages)),
        acyclic_by_chance=acyclic_by_chance(graph),
        intransitive=tuple(intransitive_triples(corpus.stages, support)),
        laws=_law_probabilities(case, evidence, rng),
        convergence=case.guard.controls,
        verification=_verify(case, rng),
        insertion=tuple(check_insertions(evidence, case.tables, apart, rules=rules, bound=bound)),
        repetition=tuple(check_repetitions(corpus.runs, guess, rules=rules, bound=bound)),
        rivals=tuple(try_rivals(corpus, law=guess)),
        trained=corpus.trained,
        reused=reused,
        unshared=corpus.unshared,
        seconds=corpus.seconds,
        notes=(*corpus.notes, *_caveats(case, evidence)),
    )


def _prepare(records: Sequence[Record], stages: Order | None, options: LawOptions) -> _Case:
    corpus = collect(records, stages=stages, scale=options.scale)
    if not 2 <= len(corpus.stages) <= 9:
        raise ValueError(f"stages must be 2 to 9 letters, got {corpus.stages!r}")
    guard = controls(corpus.runs, margin=options.convergence_margin)
    tables = pair_tables(corpus.runs, corpus.stages, neighbors=True)
    return _Case(corpus, options, guard, tables, *_split_seeds(corpus, options.held_out))


def _split_seeds(corpus: Corpus, kept: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep the last of the seeds with all permutations for verification, if there are enough; else none."""
    _, complete = corpus.permutation_values(corpus.stages)
    if kept is None:
        kept = len(complete) // 3 if len(complete) >= 6 else 0
    elif kept > min(len(complete), len(corpus.seeds) - 2):
        raise ValueError(
            f"held_out must be seeds with all permutations, {len(complete)} of {len(corpus.seeds)}, "
            f"and leave 2 others, got {kept}"
        )
    held = complete[len(complete) - kept :]
    return tuple(seed for seed in corpus.seeds if seed not in held), held


def _graph(stages: Order, evidence: Sequence[Evidence]) -> Precedence:
    edges = {}
    for pair in evidence:
        if pair.verdict == "before":
            edges[pair.first, pair.second] = pair.effect.probability
        elif pair.verdict == "after":
            edges[pair.second, pair.first] = 1 - pair.effect.probability
    return precedence_graph(stages, edges)


def _support(evidence: Sequence[Evidence]) -> dict[Pair, float]:
    """Probability of each pair's order; where the error is unknown, the effect's sign tips the balance."""
    return {
        (pair.first, pair.second): pair.effect.probability
        if math.isfinite(pair.effect.error)
        else 0.5 + 0.01 * math.tanh(pair.effect.mean)
        for pair in evidence
    }


def _law_probabilities(
    case: _Case, evidence: Sequence[Evidence], rng: np.random.Generator
) -> dict[Order | None, float]:
    """Bootstrap seeds, knob settings and contexts of all pairs at once, and sort each draw's tournament."""
    counted = count_cells(case.tables_at(case.seeds), case.guard)
    draws = hierarchical_bootstrap(
        [one.table.effects for one in counted.values()],
        [[cell.knobs for cell in one.table.cells] for one in counted.values()],
        resamples=case.options.resamples,
        freedom=max(1.0, min(pair.effect.freedom for pair in evidence)),
        rng=rng,
    )
    return tournament_orders(case.corpus.stages, list(counted), draws)


def _verify(case: _Case, rng: np.random.Generator) -> Exhaustive | None:
    """Rank all permutations at seeds that the tested order does not come from; None if some are missing."""
    values, seeds = case.corpus.permutation_values(case.corpus.stages)
    if case.held_out:
        places = [place for place, seed in enumerate(seeds) if seed in case.held_out]
        sources = [case.seeds] * len(places)
        method = f"order from seeds {_named(case.seeds)}, ranked on seeds {_named(case.held_out)}"
    else:
        places = list(range(len(seeds)))
        sources = [tuple(other for other in case.corpus.seeds if other != seed) for seed in seeds]
        method = "cross-fitted: each seed ranks the order that the other seeds suggest"
    if not places or not all(sources):
        return None
    guesses = {source: _best_guess(case, source) for source in dict.fromkeys(sources)}
    return exhaustive(
        {order: value[places] for order, value in values.items()},
        [guesses[source] for source in sources],
        method=method,
        margin=case.options.rules.margin,
        resamples=case.options.resamples,
        rng=rng,
    )


def _best_guess(case: _Case, seeds: Sequence[int]) -> Order:
    """The order that these seeds make likeliest, decided or not."""
    evidence = case.judge(seeds, np.random.default_rng(0))
    extensions = linear_extensions(_graph(case.corpus.stages, evidence), case.corpus.stages)
    return extensions[0] if len(extensions) == 1 else kemeny_order(case.corpus.stages, _support(evidence))


def _caveats(case: _Case, evidence: Sequence[Evidence]) -> list[str]:
    """What limits these verdicts."""
    notes, least = [], case.options.rules.least_seeds
    if len(case.seeds) < least:
        notes.append(f"Nothing can be decided from fewer than {least} seeds; there are {len(case.seeds)}.")
    if not case.guard.controls:
        notes.append("There are no controls with F, so it is unknown whether the stages were trained enough.")
    gain = max((control.gain for control in case.guard.controls), default=0.0)
    small = [
        f"{pair.first}-{pair.second}"
        for pair in evidence
        if pair.verdict in ("before", "after") and abs(pair.accuracy) < gain
    ]
    if small:
        notes.append(
            f"A further fine-tune gains up to {100 * gain:.1f} points, more than the order of "
            f"{', '.join(small)}."
        )
    return notes


def _named(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
