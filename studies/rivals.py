"""Experiment: which of the proposed orders is best on one task, under equal budgets of training?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ordercomp.analysis.checks import Rival, proposals_for, try_rivals
from ordercomp.analysis.posterior import posterior_of
from ordercomp.analysis.ranking import rank_orders
from ordercomp.analysis.report.plots import Panel, panels_plot, ranking_plot, to_svg
from ordercomp.analysis.report.tables import ranking_table, rival_table
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence, Step, permutations
from ordercomp.stages.catalog import complete
from ordercomp.studies.claims import (
    CONSTRUCTION,
    Claim,
    best_verdict,
    chance_of_best,
    decide_claims,
    has_fresh_student,
    law_of,
    longest,
    measured_table,
    rank_of,
)
from ordercomp.studies.experiment import (
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    by_sequence,
    restrict,
)
from ordercomp.studies.facts import LAW

# Groups of stages whose orders are on trial: D as recovery (K) or as a smaller student, and pairs.
GROUPS: tuple[Order, ...] = ("PQK", "DPQ", "DP", "DQ", "PE", "PQ")
EIGHT_BITS = {"weights": 8, "activations": 8}


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that an automatic search came up with, as far as our stages express it."""

    order: Order
    where: str


CHAINS: tuple[Chain, ...] = (
    Chain("PQQFE", "ResNet34 on CIFAR-100"),
    Chain("EQQFPF", "MobileNetV2 on CIFAR-100"),
    Chain("QQFEP", "ResNet34 on CIFAR-10, its many small P and E steps joined"),
)


def _plan(design: Design) -> list[Workload]:
    """All orders of the task's stages; those of the rivals' stages, and chains, at equal epochs in all."""
    stages = design.task.stages
    groups = [group for group in GROUPS if set(group) <= {*stages, "K"} and len(group) < len(stages)]
    orders = [order for group in groups for order in permutations(group)]
    chains = [chain.order for chain in CHAINS if set(chain.order) <= {*stages, "F"}]
    reference = [design.law.replace("D", "")] if chains else []
    shared = design.share_epochs([*orders, *reference, *chains])
    return [
        design.part(design.sequences(permutations(stages))),
        design.part(map(_go_down, shared), controlled=False, total=True),
    ]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Every proposed order among the orders of its own stages, and chains against the law."""
    fair = _on_equal_terms(records)
    rivals, law, orders = _rivals(fair), law_of(fair), by_order(fair)
    named = dict.fromkeys([*(rival.order for rival in rivals), *(chain.order for chain in CHAINS)])
    proposed = [by_sequence(longest(orders.get(order, []))) for order in named]
    return Conclusion(
        findings=(*(_finding(rival, fair) for rival in rivals), *decide_claims(_chain_claims(fair))),
        tables=(
            rival_table(rivals),
            ranking_table(rank_orders(fair, law), law=law),
            measured_table("The proposed orders", [run for runs in proposed for run in runs.values()]),
        ),
        notes=(
            "All orders train for as many epochs in all; fewer stages train longer each. Orders are ranked "
            "among those of their own stages, by value at a loss of 2 %.",
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """A panel for each set of stages, with proposals and the best other orders; the ranking of all orders."""
    fair = _on_equal_terms(records)
    rivals, law, orders = _rivals(fair), law_of(fair), by_order(fair)
    shown = {order for rival in rivals for order in (rival.order, rival.best)}
    sets = dict.fromkeys("".join(sorted(rival.order, key="DPKQE".find)) for rival in rivals)
    panels = [
        Panel(
            title=f"Orders of {', '.join(letters)}",
            series={order: orders.get(order, []) for order in permutations(letters) if order in shown},
        )
        for letters in sets
    ]
    return {
        "fronts": to_svg(panels_plot(panels)),
        "ranking": to_svg(ranking_plot(rank_orders(fair, law), highlights={law: "law"})),
    }


def _go_down(sequence: StageSequence) -> StageSequence:
    """Let a repeated Q start at 8 bits and end at its usual ones."""
    places = [place for place, step in enumerate(sequence.steps) if step.stage == "Q"]
    steps = list(sequence.steps)
    for place in places[:-1]:
        steps[place] = Step.of("Q", {**steps[place].settings, **EIGHT_BITS})
    return complete(StageSequence(tuple(steps)))


def _on_equal_terms(records: Sequence[Record]) -> list[Record]:
    """Single stages, and whole orders that share out the epochs of all stages."""
    most = len({letter for record in records for letter in record.order} & set(LAW))

    def is_fair(record: Record) -> bool:
        steps = StageSequence.parse(record.sequence).steps
        own = ["epochs" in step.settings for step in steps]
        return len(steps) == 1 or all(own) or (len(steps) == most and not any(own))

    return list(filter(is_fair, records))


def _rivals(records: Sequence[Record]) -> list[Rival]:
    """The rivals among the task's stages, then those with K; each order once, with all who propose it.

    Each set of stages is valued by itself, as it trains at knobs and epochs of its own.
    """
    letters = {letter for record in records for letter in record.order}
    proposals = [
        proposal
        for stages in (restrict(LAW, letters), "PQK")
        if len(stages) > 1 and set(stages) <= letters
        for proposal in proposals_for(RunTable.of(records, stages=stages))
        if set(proposal.order) <= set(stages)
    ]
    proposed: dict[Order, Rival] = {}
    for stages in dict.fromkeys("".join(sorted(proposal.order)) for proposal in proposals):
        own = [proposal for proposal in proposals if sorted(proposal.order) == sorted(stages)]
        posterior = posterior_of(records, stages=stages)
        for rival in try_rivals(posterior.table, posterior.values, own):
            proposed[rival.order] = _joined(proposed.get(rival.order), rival)
    return [
        proposed[order]
        for order in dict.fromkeys(proposal.order for proposal in proposals)
        if order in proposed
    ]


def _joined(first: Rival | None, second: Rival) -> Rival:
    """Proposals of the same order as one, with the claims of both."""
    if first is None or (first.claim, first.source) == (second.claim, second.source):
        return second
    claim, source = f"{first.claim}; {second.claim}", f"{first.source}; {second.source}"
    return replace(second, claim=claim, source=source)


def _finding(rival: Rival, records: Sequence[Record]) -> Finding:
    rank = rank_of(records, rival.order, "".join(sorted(rival.order)))
    assert rank is not None  # a rival is one among other orders of its stages
    low, high = rival.interval
    return Finding(
        claim=f"{rival.order} is the best order of its stages: {rival.claim} ({rival.source})",
        measured=f"rank {rival.rank} of {rival.of}, {rival.cost:.2f} [{low:+.2f}, {high:+.2f}] doublings "
        f"behind the best other order ({rival.best}){chance_of_best(rank)}",
        verdict=best_verdict(rank),
        seeds=rival.seeds,
        effect=-rival.cost,
        caveat=CONSTRUCTION if "D" in rival.order and has_fresh_student(records) else "",
    )


def _chain_claims(records: Sequence[Record]) -> list[Claim]:
    """The chains of the automatic search against the law on the same stages."""
    orders = by_order(records)
    law = LAW.replace("D", "")
    return [
        Claim(
            text=f"the chain {chain.order} (found by search for {chain.where}) does better than {law}",
            first=orders[chain.order],
            second=orders.get(law, []),
        )
        for chain in CHAINS
        if chain.order in orders
    ]


EXPERIMENT = Experiment(
    name="rivals",
    section="beyond the paper",
    question="which of the proposed orders is best under equal budgets?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
