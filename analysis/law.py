"""The law: the orders that the records support, with everything that speaks for and against them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ordercomp.analysis.checks import (
    Exhaustive,
    Insertion,
    Repetition,
    Rival,
    check_insertions,
    check_repetitions,
    exhaustive,
    try_rivals,
)
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.pairs import (
    Control,
    Evidence,
    PairTable,
    cell_settings,
    controls,
    count_cells,
    gather,
    pair_tables,
)
from ordercomp.analysis.precedence import (
    FoldVerdicts,
    acyclic_by_chance,
    find_cycle,
    free_pairs,
    intransitive_triples,
    minimum_feedback_arcs,
    tournament_orders,
)
from ordercomp.analysis.ranking import permutation_values
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import Rules, hierarchical_bootstrap
from ordercomp.records import Record, TrainingCount
from ordercomp.sequence import Order

Pair = tuple[str, str]
FEWEST_HELD_OUT = 3  # seeds: fewer could not verify anything


@dataclass(frozen=True, slots=True, kw_only=True)
class LawOptions:
    """What the analysis is told; all of it is fixed before looking at the records."""

    # Fronts are valued on validation data, since a law is a choice; verification looks at test data.
    scale: Scale = field(default_factory=lambda: Scale(split="validation"))
    convergence_margin: float = 0.01  # accuracy that F may gain, a fraction, before a prefix is under-trained
    rules: Rules = field(default_factory=Rules)
    resamples: int = 2000  # draws of the bootstrap
    held_out: int | None = None  # seeds kept for verification; None: a third of 9 or more, else none

    def __post_init__(self) -> None:
        if self.convergence_margin < 0:
            raise ValueError(f"convergence_margin must not be negative, got {self.convergence_margin}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")


@dataclass(frozen=True, slots=True)
class Derivation:
    """An analysis under way: its records and options, which seeds derive the law and which verify it."""

    task: str
    table: RunTable
    options: LawOptions
    neighbors: Mapping[Pair, PairTable]  # differences by adjacent swaps, all seeds
    apart: Mapping[Pair, PairTable]  # the same with other stages in between
    seeds: tuple[int, ...]  # the law comes from these
    held_out: tuple[int, ...]  # and is verified on these, if any

    def tables_at(self, seeds: Sequence[int]) -> dict[Pair, PairTable]:
        """The differences by adjacent swaps at some of the seeds."""
        return {pair: table.at_seeds(seeds) for pair, table in self.neighbors.items()}

    def decide(self, seeds: Sequence[int], rng: np.random.Generator) -> FoldVerdicts:
        """What `seeds` say, by their own runs and controls alone."""
        runs = {run: measured for run, measured in self.table.measured.items() if run.seed in seeds}
        guard = controls(runs, margin=self.options.convergence_margin)
        evidence = gather(
            self.tables_at(seeds),
            guard,
            rules=self.options.rules,
            bound=self.table.bound,
            rng=rng,
            planned=self.table.planned(seeds),
        )
        return FoldVerdicts(self.table.stages, tuple(seeds), guard, tuple(evidence))

    def unseen(self, own: FoldVerdicts) -> dict[int, FoldVerdicts]:
        """Map each seed that can verify to verdicts that it had no part in.

        Held-out seeds verify `own`, the verdicts of all others. If none are held out, each seed verifies what
        the others say: the cross-fitted form. A single seed has no others.
        """
        if self.held_out:
            return dict.fromkeys(self.held_out, own)
        rest = {seed: tuple(other for other in self.seeds if other != seed) for seed in self.seeds}
        return {
            seed: self.decide(others, np.random.default_rng(0)) for seed, others in rest.items() if others
        }


def prepare(records: Sequence[Record], stages: Order | None, options: LawOptions) -> Derivation:
    """Value the records, pair them and split the seeds.

    Raises ValueError if there are no records, several tasks, fewer than two or more than ten stages, or too
    few complete seeds for `options.held_out`.
    """
    table = RunTable.of(records, stages=stages, scale=options.scale)
    task = table.task
    if not 2 <= len(table.stages) <= 10:
        raise ValueError(f"stages must be 2 to 10 letters, got {table.stages!r}")
    neighbors, apart = (pair_tables(table, neighbors=near) for near in (True, False))
    return Derivation(task, table, options, neighbors, apart, *_split_seeds(table, options.held_out))


def _split_seeds(table: RunTable, kept: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep the last of the seeds with all permutations for verification, if there are enough; else none."""
    _, complete = permutation_values(table)
    if kept is None:
        kept = len(complete) // 3 if len(complete) // 3 >= FEWEST_HELD_OUT else 0
    elif kept > min(len(complete), len(table.seeds) - 2):
        raise ValueError(
            f"held_out must be seeds with all permutations, {len(complete)} of {len(table.seeds)}, "
            f"and leave 2 others, got {kept}"
        )
    held = complete[len(complete) - kept :]
    return tuple(seed for seed in table.seeds if seed not in held), held


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """Three stages whose pairs contradict each other."""

    stages: tuple[str, str, str]
    strength: float  # the least probability among their pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChance:
    """How probable an order is."""

    order: Order | None  # None: a cycle
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What the records support, and no more.

    A file may hold less: what has a default here is beyond the contract.
    """

    KEYS: ClassVar = (
        *("task", "stages", "law", "orders", "unique", "cycle", "pairs", "verification", "trainings"),
        *("seconds", "kemeny", "feedback_arcs", "free_pairs", "acyclic_by_chance", "intransitive", "laws"),
        *("convergence", "insertion", "repetition", "rivals", "sentences", "notes"),
    )

    task: str
    stages: Order
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
        said = [
            f"{decided} of {len(self.pairs)} pairs are decided; directions drawn by lot would be free of "
            f"cycles with probability {self.acyclic_by_chance:.3f}."
        ]
        if (torn := sum(chance.probability for chance in self.laws if chance.order is None)) > 0:
            said.append(f"In {100 * torn:.0f} % of the resamples the pairs contradict each other.")
        if self.free_pairs:
            named = ", ".join("-".join(pair) for pair in self.free_pairs)
            said.append(f"No decided pair orders these: {named}.")
        if self.convergence:
            said.append(_about_convergence(self.convergence))
        if self.verification is not None:
            said.append(self.verification.sentence)
        if self.insertion:
            outcomes = [check.outcome for check in self.insertion]
            holds, fails = outcomes.count("holds"), outcomes.count("fails")
            undecided = len(outcomes) - holds - fails
            said.append(
                f"Of {len(outcomes)} insertions {holds} hold, {fails} fail, {undecided} are undecided."
            )
            said += [check.sentence for check in self.insertion if check.outcome == "fails"]
        return (*said, *(check.sentence for check in self.repetition), *self.notes)


def _about_convergence(controls: Sequence[Control]) -> str:
    short = [control.sequence for control in controls if control.status == "under-trained"]
    named = f": {'; '.join(short[:4])}" if short else ""
    more = " and others" if len(short) > 4 else ""
    return f"{len(short)} of {len(controls)} prefixes with a control are under-trained{named}{more}."


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

    Raises ValueError if there are no records, several tasks, or fewer than two or more than ten stages.
    """
    derivation, rng = prepare(records, stages, options), np.random.default_rng(seed)
    own = derivation.decide(derivation.seeds, rng)
    unseen = derivation.unseen(own)
    table, graph, orders, cycle = derivation.table, own.graph, own.orders, find_cycle(own.graph)
    rules, bound = options.rules, table.bound
    suggested = {seed: verdicts.guess for seed, verdicts in unseen.items()}
    chances = _law_probabilities(derivation, own, rng)
    return Law(
        task=derivation.task,
        stages=table.stages,
        law=orders[0] if len(orders) == 1 else None,
        orders=tuple(orders),
        cycle=None if cycle is None else tuple(cycle),
        pairs=own.evidence,
        kemeny=own.kemeny,
        feedback_arcs=tuple(minimum_feedback_arcs(graph, table.stages)),
        free_pairs=tuple(free_pairs(graph, table.stages)),
        acyclic_by_chance=acyclic_by_chance(graph),
        intransitive=tuple(
            Triple(stages=(a, b, c), strength=strength)
            for a, b, c, strength in intransitive_triples(table.stages, own.support)
        ),
        laws=tuple(OrderChance(order=order, probability=share) for order, share in chances.items()),
        convergence=own.guard.controls,
        verification=_verify(derivation, suggested, rng),
        insertion=tuple(
            check_insertions(own, unseen, derivation.neighbors, derivation.apart, rules=rules, bound=bound)
        ),
        repetition=tuple(
            check_repetitions(table.measured, own.guess, suggested=suggested, rules=rules, bound=bound)
        ),
        rivals=tuple(try_rivals(table, law=own.guess, suggested=suggested)),
        trainings=table.trainings(reused),
        seconds=table.seconds,
        notes=(*table.notes, *_caveats(derivation, own)),
    )


def _law_probabilities(
    derivation: Derivation, own: FoldVerdicts, rng: np.random.Generator
) -> dict[Order | None, float]:
    """Bootstrap seeds, knob settings and contexts of all pairs at once, and sort each draw's tournament."""
    counted = count_cells(derivation.tables_at(derivation.seeds), own.guard)
    draws = hierarchical_bootstrap(
        [cells.table.effects for cells in counted.values()],
        cell_settings([cells.table for cells in counted.values()], derivation.table.stages),
        resamples=derivation.options.resamples,
        dof=max(1.0, min(pair.effect.dof for pair in own.evidence)),
        rng=rng,
    )
    return tournament_orders(derivation.table.stages, list(counted), draws)


def _verify(
    derivation: Derivation, suggested: Mapping[int, Order], rng: np.random.Generator
) -> Exhaustive | None:
    """Rank all permutations at seeds that the tested order does not come from; None if some are missing."""
    values, complete = permutation_values(derivation.table)
    places = [place for place, seed in enumerate(complete) if seed in suggested]
    if not places:
        return None
    seeds = [complete[place] for place in places]
    if derivation.held_out:
        method = f"order from seeds {_named(derivation.seeds)}, ranked on seeds {_named(seeds)}"
    else:
        method = f"cross-fitted: each of seeds {_named(seeds)} ranks the order that all other seeds suggest"
    return exhaustive(
        {order: value[places] for order, value in values.items()},
        [suggested[seed] for seed in seeds],
        method=method,
        rules=derivation.options.rules,
        resamples=derivation.options.resamples,
        rng=rng,
    )


def _caveats(derivation: Derivation, own: FoldVerdicts) -> list[str]:
    """What limits these verdicts."""
    notes = _about_seeds(derivation, own)
    if not own.guard.controls:
        notes.append("There are no controls with F, so it is unknown whether the stages were trained enough.")
    trained = (control.gain for control in own.guard.controls if control.status != "under-trained")
    gain = max(trained, default=0.0)
    small = [
        f"{pair.first}-{pair.second}"
        for pair in own.evidence
        if pair.decided and pair.accuracy is not None and abs(pair.accuracy) < gain
    ]
    if small:
        notes.append(
            f"A further fine-tune gains up to {100 * gain:.1f} points, more than the order of "
            f"{', '.join(small)}."
        )
    return notes


def _about_seeds(derivation: Derivation, own: FoldVerdicts) -> list[str]:
    """Too few seeds, and seeds that were added after a look."""
    notes, least = [], derivation.options.rules.least_seeds
    short = [pair for pair in own.evidence if pair.seeds < least]
    if len(short) == len(own.evidence):
        most = max(pair.seeds for pair in own.evidence)
        notes.append(f"Nothing can be decided from fewer than {least} seeds; there are {most}.")
    elif short:
        named = ", ".join(f"{pair.first}-{pair.second} ({pair.seeds})" for pair in short)
        notes.append(f"Fewer than {least} seeds have evidence on {named}, which decides nothing.")
    planned = derivation.table.planned(derivation.seeds)
    if planned is not None:
        added = sorted(derivation.table.added_seeds.intersection(derivation.seeds))
        notes.append(
            f"{'Seed' if len(added) == 1 else 'Seeds'} {_named(added)} came in after looking at the results "
            f"of {planned} planned ones. Each look has a share of the error of its own, so verdicts are "
            "stricter and intervals wider."
        )
    return notes


def _named(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
