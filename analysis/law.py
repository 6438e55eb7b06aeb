"""The law: the orders that the decided pairs leave, with everything that speaks for and against them.

It is read off the draws that the answer rests on, at the same tolerated loss and by the same cost.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ordercomp.analysis.answer import chances_of_best
from ordercomp.analysis.checks import (
    Exhaustive,
    Insertion,
    Proposal,
    Repetition,
    Rival,
    check_insertions,
    check_repetitions,
    exhaustive,
    proposals_for,
    try_rivals,
)
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.pairs import Evidence, pair_evidence
from ordercomp.analysis.posterior import Posterior, posterior_of
from ordercomp.analysis.precedence import (
    acyclic_by_chance,
    find_cycle,
    free_pairs,
    intransitive_triples,
    kemeny_order,
    linear_extensions,
    minimum_feedback_arcs,
    precedence_graph,
)
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import run_values
from ordercomp.records import CostName, Record, TrainingCount
from ordercomp.sequence import Order

Pair = tuple[str, str]
OWN = ("the order that these records suggest", "this analysis")
SAMPLED = "A sampler chose these networks; its preferences bias the comparison."


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """Three stages whose pairs contradict each other."""

    stages: tuple[str, str, str]
    strength: float  # the least probability among their pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChance:
    """How probable it is that an order is the best of all stages."""

    order: Order | None  # None, in files of former versions: a cycle
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What the records support, and no more.

    A file may hold less: what has a default here is beyond the contract.
    """

    KEYS: ClassVar = (
        *("task", "stages", "evidence", "law", "orders", "unique", "cycle", "pairs", "verification"),
        *("trainings", "seconds", "kemeny", "feedback_arcs", "free_pairs", "acyclic_by_chance"),
        *("intransitive", "laws", "convergence", "insertion", "repetition", "rivals", "sentences", "notes"),
    )

    task: str
    stages: Order
    evidence: Literal["paired", "adaptive"] = "paired"  # adaptive: a sampler chose the networks
    law: Order | None  # set only if exactly one order satisfies the precedence
    orders: tuple[Order, ...]  # all that satisfy it; none on a cycle
    cycle: tuple[str, ...] | None
    pairs: tuple[Evidence, ...]
    verification: Exhaustive | None = None
    trainings: TrainingCount
    seconds: float
    kemeny: Order = ""  # the best guess, whether or not it is decided
    feedback_arcs: tuple[Pair, ...] = ()  # cheapest edges to drop on a cycle
    free_pairs: tuple[Pair, ...] = ()
    acyclic_by_chance: float = 1.0
    intransitive: tuple[Triple, ...] = ()
    laws: tuple[OrderChance, ...] = ()  # most probable first
    convergence: tuple[Control, ...] = ()
    insertion: tuple[Insertion, ...] = ()
    repetition: tuple[Repetition, ...] = ()
    rivals: tuple[Rival, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def unique(self) -> bool:
        """Whether exactly one order satisfies the precedence."""
        return self.law is not None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was checked and what came out, one sentence each, for people."""
        decided = sum(pair.decided for pair in self.pairs)
        lines = [
            f"{decided} of {len(self.pairs)} pairs are decided; directions drawn by lot would be free of "
            f"cycles with probability {self.acyclic_by_chance:.3f}."
        ]
        if self.free_pairs:
            named = ", ".join("-".join(pair) for pair in self.free_pairs)
            lines.append(f"No decided pair orders these: {named}.")
        if self.convergence:
            lines.append(_about_convergence(self.convergence))
        if self.verification is not None:
            lines.append(self.verification.sentence)
        if self.insertion:
            outcomes = [check.outcome for check in self.insertion]
            holds, fails = outcomes.count("holds"), outcomes.count("fails")
            undecided = len(outcomes) - holds - fails
            lines.append(
                f"Of {len(outcomes)} insertions {holds} hold, {fails} fail, {undecided} are undecided."
            )
            lines += [check.sentence for check in self.insertion if check.outcome == "fails"]
        return (*lines, *(check.sentence for check in self.repetition), *self.notes)


def _about_convergence(controls: Sequence[Control]) -> str:
    short = [control.sequence for control in controls if control.status == "under-trained"]
    named = f": {'; '.join(short[:4])}" if short else ""
    more = " and others" if len(short) > 4 else ""
    return f"{len(short)} of {len(controls)} sequences with a control are under-trained{named}{more}."


def derive_law(
    records: Iterable[Record],
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
    sampled: bool = False,
) -> Law:
    """Derive the law that `records` support at a tolerated loss, see `law_from`.

    Args:
        records: of one task; controls that end in F and repeats may be among them.
        stages: letters to order, default those that occur.
        loss: tolerated, a fraction of accuracy.
        cost: whose reduction a value is.
        sampled: whether a sampler chose the networks, each with knobs of its own.

    Raises ValueError if there are no records, several tasks, fewer than two or more than ten stages, or a
    loss outside of (0, 1].
    """
    return law_from(posterior_of(records, stages=stages, loss=loss, cost=cost, sampled=sampled), cost=cost)


def law_from(posterior: Posterior, *, cost: CostName = "bitops") -> Law:
    """Derive the law from a posterior: its decided pairs, the orders that keep them, and the checks.

    Raises ValueError for records of several tasks, and for fewer than two or more than ten stages.
    """
    runs, table, values = posterior.runs, posterior.table, posterior.values
    stages, task = runs.stages, runs.task
    if not 2 <= len(stages) <= 10:
        raise ValueError(f"stages must be 2 to 10 letters, got {stages!r}")
    pairs = pair_evidence(table, values, short=posterior.short, grouped=True)
    decided = [pair.edge for pair in pairs if pair.decided]
    graph = precedence_graph(stages, {(first, second): sure for first, second, sure in decided})
    orders, cycle = linear_extensions(graph, stages), find_cycle(graph)
    support = {(pair.first, pair.second): _support(pair) for pair in pairs}
    kemeny = kemeny_order(stages, support)
    guess = orders[0] if len(orders) == 1 else kemeny
    return Law(
        task=task,
        stages=stages,
        evidence="adaptive" if posterior.sampled else "paired",
        law=orders[0] if len(orders) == 1 else None,
        orders=tuple(orders),
        cycle=None if cycle is None else tuple(cycle),
        pairs=pairs,
        kemeny=kemeny,
        feedback_arcs=tuple(minimum_feedback_arcs(graph, stages)),
        free_pairs=tuple(free_pairs(graph, stages)),
        acyclic_by_chance=acyclic_by_chance(graph),
        intransitive=tuple(
            Triple(stages=(a, b, c), strength=strength)
            for a, b, c, strength in intransitive_triples(stages, support)
        ),
        laws=_chances(posterior),
        convergence=posterior.controls,
        verification=exhaustive(table, values, guess, orders),
        insertion=tuple(check_insertions(pairs)),
        repetition=tuple(check_repetitions(runs, run_values(runs, loss=table.loss or 0.0, cost=cost))),
        rivals=tuple(try_rivals(table, values, [Proposal(guess, *OWN), *proposals_for(runs)])),
        trainings=runs.trainings(0),
        seconds=runs.seconds,
        notes=(*runs.notes, *_caveats(posterior, pairs)),
    )


def _support(pair: Evidence) -> float:
    """The probability that the first stage comes first; with few seeds, which tell none, a mere guess."""
    if pair.seeds >= RULES.least_seeds:
        return pair.effect.probability
    return 0.5 + 0.01 * math.tanh(pair.effect.mean)


def _chances(posterior: Posterior) -> tuple[OrderChance, ...]:
    """How probable each order of all stages is to be the best of them, those that never are left out."""
    table = posterior.table
    rows = list(table.whole)
    seeds = int(np.isfinite(table.values[rows]).any(axis=0).sum())
    if seeds < RULES.least_seeds or not len(posterior.values):
        return ()
    chances = chances_of_best(posterior.values[:, rows])
    ranked = np.argsort(-chances, kind="stable")
    return tuple(
        OrderChance(order=table.orders[rows[k]], probability=float(chances[k]))
        for k in ranked
        if chances[k] > 0
    )


def _caveats(posterior: Posterior, pairs: Sequence[Evidence]) -> list[str]:
    """What limits these verdicts."""
    notes, least = [SAMPLED] if posterior.sampled else [], RULES.least_seeds
    few = [pair for pair in pairs if pair.seeds < least]
    if few and len(few) == len(pairs):
        most = max(pair.seeds for pair in pairs)
        notes.append(f"Nothing can be decided from fewer than {least} seeds; there are {most}.")
    elif few:
        named = ", ".join(f"{pair.first}-{pair.second} ({pair.seeds})" for pair in few)
        notes.append(f"Fewer than {least} seeds have evidence on {named}, which decides nothing.")
    if not posterior.controls:
        notes.append("There are no controls with F, so it is unknown whether the stages were trained enough.")
    return notes
