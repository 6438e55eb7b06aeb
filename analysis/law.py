"""The law: the orders that the records support, with everything that speaks for and against them."""

from collections.abc import Mapping, Sequence

import numpy as np

from ordercomp.analysis.checks import Exhaustive, exhaustive
from ordercomp.analysis.corpus import TrainingCount
from ordercomp.analysis.evidence.units import settings_of
from ordercomp.analysis.law.case import Case, LawOptions, prepare
from ordercomp.analysis.law.findings import Law, OrderChance, Triple
from ordercomp.analysis.law.insertion import check_insertions
from ordercomp.analysis.law.opinion import Opinion
from ordercomp.analysis.law.repetition import check_repetitions
from ordercomp.analysis.law.rivals import try_rivals
from ordercomp.analysis.pairs import count_cells
from ordercomp.analysis.precedence import (
    acyclic_by_chance,
    find_cycle,
    free_pairs,
    intransitive_triples,
    minimum_feedback_arcs,
    tournament_orders,
)
from ordercomp.analysis.statistics import hierarchical_bootstrap
from ordercomp.records import Record
from ordercomp.sequence import Order

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
    case, rng = prepare(records, stages, options), np.random.default_rng(seed)
    own = case.judge(case.seeds, rng)
    unseen = case.unseen(own)
    corpus, graph, orders, cycle = case.corpus, own.graph, own.orders, find_cycle(own.graph)
    rules, bound = options.rules, corpus.bound
    suggested = {place: opinion.guess for place, opinion in unseen.items()}
    return Law(
        task=corpus.task,
        stages=corpus.stages,
        law=orders[0] if len(orders) == 1 else None,
        orders=tuple(orders),
        cycle=None if cycle is None else tuple(cycle),
        pairs=own.evidence,
        kemeny=own.kemeny,
        feedback_arcs=tuple(minimum_feedback_arcs(graph, corpus.stages)),
        free_pairs=tuple(free_pairs(graph, corpus.stages)),
        acyclic_by_chance=acyclic_by_chance(graph),
        intransitive=tuple(
            Triple(stages=(a, b, c), strength=strength)
            for a, b, c, strength in intransitive_triples(corpus.stages, own.support)
        ),
        laws=tuple(
            OrderChance(order=order, probability=share)
            for order, share in _law_probabilities(case, own, rng).items()
        ),
        convergence=own.guard.controls,
        verification=_verify(case, suggested, rng),
        insertion=tuple(check_insertions(own, unseen, case.neighbors, case.apart, rules=rules, bound=bound)),
        repetition=tuple(
            check_repetitions(corpus.runs, own.guess, suggested=suggested, rules=rules, bound=bound)
        ),
        rivals=tuple(try_rivals(corpus, law=own.guess, suggested=suggested)),
        trainings=TrainingCount(done=corpus.trained, reused=reused, unshared=corpus.unshared),
        seconds=corpus.seconds,
        notes=(*corpus.notes, *_caveats(case, own)),
    )


def _law_probabilities(case: Case, own: Opinion, rng: np.random.Generator) -> dict[Order | None, float]:
    """Bootstrap seeds, knob settings and contexts of all pairs at once, and sort each draw's tournament."""
    counted = count_cells(case.tables_at(case.seeds), own.guard)
    draws = hierarchical_bootstrap(
        [one.table.effects for one in counted.values()],
        settings_of([one.table for one in counted.values()], case.corpus.stages),
        resamples=case.options.resamples,
        freedom=max(1.0, min(pair.effect.freedom for pair in own.evidence)),
        rng=rng,
    )
    return tournament_orders(case.corpus.stages, list(counted), draws)


def _verify(case: Case, suggested: Mapping[int, Order], rng: np.random.Generator) -> Exhaustive | None:
    """Rank all permutations at seeds that the tested order does not come from; None if some are missing."""
    values, complete = case.corpus.permutation_values(case.corpus.stages)
    places = [place for place, seed in enumerate(complete) if seed in suggested]
    if not places:
        return None
    seeds = [complete[place] for place in places]
    if case.held_out:
        method = f"order from seeds {_named(case.seeds)}, ranked on seeds {_named(seeds)}"
    else:
        method = f"cross-fitted: each of seeds {_named(seeds)} ranks the order that all other seeds suggest"
    return exhaustive(
        {order: value[places] for order, value in values.items()},
        [suggested[seed] for seed in seeds],
        method=method,
        rules=case.options.rules,
        resamples=case.options.resamples,
        rng=rng,
    )


def _caveats(case: Case, own: Opinion) -> list[str]:
    """What limits these verdicts."""
    notes = _about_seeds(case, own)
    if not own.guard.controls:
        notes.append("There are no controls with F, so it is unknown whether the stages were trained enough.")
    gains = [control.gain for control in own.guard.controls if control.status != "under-trained"]
    gain = max(gains, default=0.0)
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


def _about_seeds(case: Case, own: Opinion) -> list[str]:
    """Too few seeds, and seeds that were added after a look."""
    notes, least = [], case.options.rules.least_seeds
    short = [pair for pair in own.evidence if pair.seeds < least]
    if len(short) == len(own.evidence):
        most = max(pair.seeds for pair in own.evidence)
        notes.append(f"Nothing can be decided from fewer than {least} seeds; there are {most}.")
    elif short:
        named = ", ".join(f"{pair.first}-{pair.second} ({pair.seeds})" for pair in short)
        notes.append(f"Fewer than {least} seeds have evidence on {named}, which decides nothing.")
    planned = case.corpus.planned(case.seeds)
    if planned is not None:
        added = sorted(case.corpus.chosen.intersection(case.seeds))
        notes.append(
            f"{'Seed' if len(added) == 1 else 'Seeds'} {_named(added)} came in after looking at the results "
            f"of {planned} planned ones. Each look has a share of the error of its own, so verdicts are "
            "stricter and intervals wider."
        )
    return notes


def _named(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
