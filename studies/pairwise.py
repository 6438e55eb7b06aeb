"""Experiments: what does each stage reach alone, and of two stages, which comes first?

The fronts of single stages over a ladder of knob settings; all pairs in both orders, against single stages.
"""

from collections.abc import Sequence
from itertools import combinations

from ordercomp.analysis.law import derive_law
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.report.plots import Panel, pair_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import convergence_table, pair_table, reduction_table
from ordercomp.analysis.statistics import RULES
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    LOSSES,
    Claim,
    convergence,
    decide_claims,
    even_out,
    is_by_construction,
    law_of,
    measured_table,
    stages_of,
)
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    by_sequence,
    words_table,
)
from ordercomp.studies.facts import LAW, PAPER


def _plan_single(design: Design) -> list[Workload]:
    """Every stage of the task alone at the settings of its ladder."""
    return [design.part(design.ladder(design.task.ordered))]


def _decide_single(records: Sequence[Record]) -> Conclusion:
    """What section 3.1 says about single stages, front against front of equally many networks."""
    alone = _alone(records)
    claims = []
    for pair, quote in PAPER.singles.items():
        first, second = tuple(pair)
        if first in alone and second in alone:
            sides = even_out(alone[first], alone[second])
            claims.append(Claim(text=quote.words, first=sides[0], second=sides[1], kind=quote.relation))
    every = [record for front in alone.values() for record in front]
    return Conclusion(
        findings=tuple(decide_claims(claims, convergence(records))),
        tables=(
            reduction_table(every, tolerances=LOSSES),
            measured_table("Each network", by_sequence(every).values()),
            words_table(
                "The paper, section 3.1 (ResNet34, CIFAR-10; read off scatter plots, no numbers are printed)",
                ("stages", "in its words"),
                ((", ".join(pair), quote.words) for pair, quote in PAPER.singles.items()),
            ),
        ),
    )


def _draw_single(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the front of every stage."""
    return {"fronts": to_svg(panels_plot([Panel(title="Each stage alone", series=_alone(records))]))}


def _alone(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each stage alone, in the order of the law; F is no compression."""
    orders = by_order(records)
    letters = [*LAW, *sorted(order for order in orders if len(order) == 1 and order not in LAW + "F")]
    return {letter: orders[letter] for letter in letters if letter in orders}


SINGLE = Experiment(
    name="single",
    section="section 3.1, the single curves of figure 2",
    question="what does each stage reach alone?",
    plan=_plan_single,
    rule=_decide_single,
    draw=_draw_single,
)


def _plan_pairwise(design: Design) -> list[Workload]:
    """Both orders of every pair of the task's stages, and each stage alone."""
    orders = [order for pair in combinations(design.task.ordered, 2) for order in permutations("".join(pair))]
    return [design.part([*design.sequences(orders), *design.ladder(design.task.ordered)])]


def _decide_pairwise(records: Sequence[Record]) -> Conclusion:
    """The paper's direction of each pair, and whether a pair does better than its stages alone."""
    stages = stages_of(records)
    law = derive_law(records, stages=stages)
    directions = [_direction(pair, records) for pair in law.pairs]
    return Conclusion(
        findings=(
            *(finding for finding in directions if finding is not None),
            *decide_claims(_complement(records), convergence(records)),
        ),
        tables=(
            pair_table(law.pairs),
            words_table(
                "The paper, figure 2 (ResNet34, CIFAR-10; judged by eye, no repeats)",
                ("better order", "in its words"),
                ((pair, words) for pair, words in PAPER.pairs.items() if set(pair) <= set(stages)),
            ),
            *((convergence_table(law.convergence),) if law.convergence else ()),
        ),
        notes=law.notes,
    )


def _draw_pairwise(records: Sequence[Record]) -> dict[str, str]:
    """Figure 2: a panel per pair with both orders and the single stages; and the effects of all pairs."""
    orders = by_order(records)
    panels = [
        Panel(
            title=f"{first} and {second}",
            series={name: orders.get(name, []) for name in (first + second, second + first, first, second)},
        )
        for first, second in combinations(law_of(records), 2)
    ]
    law = derive_law(records, stages=stages_of(records))
    return {
        "fronts": to_svg(panels_plot(panels)),
        "effects": to_svg(pair_plot(law.pairs, margin=RULES.margin)),
    }


def _direction(pair: Evidence, records: Sequence[Record]) -> Finding | None:
    """The paper's claim on a pair beside the evidence; None for a pair that the paper does not have."""
    order: Order = pair.first + pair.second
    sign = 1.0 if order in PAPER.pairs else -1.0
    better, worse = (order, order[::-1]) if sign > 0 else (order[::-1], order)
    if better not in PAPER.pairs:
        return None
    low, high = sorted((sign * pair.effect.low, sign * pair.effect.high))
    verdict, caveat = _verdict(pair, sign), ""
    if pair.under_trained:
        caveat = "What lies behind would gain from further epochs alone."
    elif pair.verdict == "conditional":
        caveat = "The sign depends on another stage."
    elif pair.verdict == "tied":
        caveat = "The two orders are tied within the margin."
    if is_by_construction(better, records):
        verdict, caveat = "true by construction", CONSTRUCTION
    return Finding(
        claim=f"{PAPER.pairs[better]} ({better} over {worse})",
        measured=f"effect {sign * pair.effect.mean:+.2f} [{low:+.2f}, {high:+.2f}] doublings, "
        f"{pair.contexts} context{'s' if pair.contexts != 1 else ''}",
        verdict=verdict,
        seeds=pair.seeds,
        effect=sign * pair.effect.mean,
        interval=(low, high),
        caveat=caveat,
    )


def _verdict(pair: Evidence, sign: float) -> ClaimVerdict:
    if pair.verdict == "tied":
        return "disagree"
    if pair.verdict not in ("before", "after"):
        return "undecided"
    return "agree" if (pair.verdict == "before") == (sign > 0) else "disagree"


def _complement(records: Sequence[Record]) -> list[Claim]:
    """That two stages in the paper's order do better than each of the two alone, network against network."""
    orders = by_order(records)
    claims = []
    for first, second in combinations(law_of(records), 2):
        pair = _one_setting(orders.get(first + second, []))
        for stage in (first, second):
            alone = orders.get(stage, [])
            text = f"{first}{second} does better than {stage} alone"
            claims.append(Claim(text=text, first=pair, second=_same_setting(pair, alone)))
    return claims


def _one_setting(pair: Sequence[Record]) -> list[Record]:
    """One knob setting of the pair, that of most seeds."""
    settings = by_sequence(pair)
    text = min(
        settings, key=lambda text: (-len({record.seed for record in settings[text]}), text), default=""
    )
    return settings.get(text, [])


def _same_setting(pair: Sequence[Record], alone: Sequence[Record]) -> list[Record]:
    """At every seed of the pair the single stage with the knobs that it has there."""
    singles = []
    for record in pair:
        steps = {str(step) for step in StageSequence.parse(record.sequence).steps}
        singles += [single for single in alone if single.seed == record.seed and single.sequence in steps]
    return singles


PAIRWISE = Experiment(
    name="pairwise",
    section="section 3, figure 2",
    question="of two stages, which comes first?",
    plan=_plan_pairwise,
    rule=_decide_pairwise,
    draw=_draw_pairwise,
)
