"""Experiment: which of the proposed orders is best on one task, under equal budgets of training?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.checks import Rival, exhaustive, try_rivals, weaker_first
from ordercomp.analysis.ranking import permutation_values, rank_orders
from ordercomp.analysis.report.plots import Panel, panels_plot, ranking_plot, to_svg
from ordercomp.analysis.report.tables import ranking_table, rival_table
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence, permutations
from ordercomp.stages.catalog import complete
from ordercomp.studies.claims import (
    CONSTRUCTION,
    Claim,
    best_verdict,
    by_order,
    chance_of_best,
    has_fresh_student,
    judge_claims,
    latest,
    measured_table,
)
from ordercomp.studies.experiment import (
    Experiment,
    Finding,
    Judgement,
    Part,
    one_part,
    restrict,
    sequences,
    share_epochs,
    totaled,
)
from ordercomp.studies.facts import LAW
from ordercomp.studies.preset import Preset

# Groups of stages whose orders are on trial: D as recovery (K) or as a smaller student, and pairs.
GROUPS: tuple[Order, ...] = ("PQK", "DPQ", "DP", "DQ", "PE", "PQ")


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


def parts(task: Task, preset: Preset) -> list[Part]:
    """All orders of the task's stages; those of the rivals' stages, and chains, at equal epochs in all."""
    prepared = preset.prepare(task)
    available = {*task.stages, "K"}
    groups = [group for group in GROUPS if set(group) <= available and len(group) < len(task.stages)]
    orders = [order for group in groups for order in permutations(group)]
    chains = [chain.order for chain in CHAINS if set(chain.order) <= {*task.stages, "F"}]
    reference = [restrict(LAW.replace("D", ""), task.stages)] if chains else []
    shared = share_epochs(prepared, preset, [*orders, *reference, *chains])
    whole = sequences(prepared, preset, permutations(task.stages))
    return [
        one_part(prepared, preset, whole),
        one_part(totaled(prepared), preset, [_go_down(prepared, one) for one in shared], controlled=False),
    ]


def judge(records: Sequence[Record]) -> Judgement:
    """Put every proposed order on trial among the orders of its own stages, and chains against the law."""
    found = _on_equal_terms(records)
    tried = _try_all(found)
    stages = "".join(letter for letter in LAW if any(letter in record.order for record in found))
    ranking = rank_orders(found, stages)
    fresh = has_fresh_student(found)
    findings = [_finding(rival, _table_of(found, rival.order), fresh=fresh) for rival in tried]
    names = [rival.order for rival in tried]
    groups = {text: [r for r in found if r.sequence == text] for text in _texts(found, names)}
    return Judgement(
        findings=(*findings, *judge_claims(_chain_claims(found))),
        tables=(
            rival_table(tried),
            ranking_table(ranking, law=stages),
            measured_table("The proposed orders", list(groups.values())),
        ),
        notes=(
            "All orders train for as many epochs in all; fewer stages train longer each. Orders are ranked "
            "among those of their own stages, by value on test data.",
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """A panel for each set of stages, with proposals and the best other orders; the ranking of all orders."""
    found = _on_equal_terms(records)
    stages = "".join(letter for letter in LAW if any(letter in record.order for record in found))
    orders = by_order(found)
    tried = _try_all(found)
    shown = {order for rival in tried for order in (rival.order, rival.best)}
    sets = dict.fromkeys("".join(sorted(rival.order, key="DPKQE".find)) for rival in tried)
    panels = [
        Panel(
            title=f"Orders of {', '.join(letters)}",
            series={one: orders.get(one, []) for one in permutations(letters) if one in shown},
        )
        for letters in sets
    ]
    ranking = rank_orders(found, stages)
    return {
        "fronts": to_svg(panels_plot(panels)),
        "ranking": to_svg(ranking_plot(ranking, highlights={stages: "law"})),
    }


def _go_down(task: Task, sequence: StageSequence) -> StageSequence:
    """Let a repeated Q start at 8 bits and end at its usual ones, one rung after the other."""
    places = [place for place, step in enumerate(sequence.steps) if step.stage == "Q"]
    if len(places) < 2:
        return sequence
    steps = list(sequence.steps)
    mild = StageSequence.parse("Q(weights=8,activations=8)").steps[0].settings
    for place in places[:-1]:
        steps[place] = type(steps[place]).of("Q", {**steps[place].settings, **mild})
    return complete(StageSequence(tuple(steps)))


def _on_equal_terms(records: Sequence[Record]) -> list[Record]:
    """The latest records, single stages, and whole orders that share out the epochs of all stages."""
    found = [record for record in latest(records) if record.order]
    most = len({letter for record in found for letter in record.order} & set(LAW))

    def fair(record: Record) -> bool:
        steps = StageSequence.parse(record.sequence).steps
        own = ["epochs" in step.settings for step in steps]
        return len(steps) == 1 or all(own) or (len(steps) == most and not any(own))

    return [record for record in found if fair(record)]


def _try_all(records: Sequence[Record]) -> list[Rival]:
    """The rivals among the task's stages, then those with K; each order once, with all who propose it."""
    found: dict[Order, Rival] = {}
    letters = {letter for record in records for letter in record.order}
    for stages in ("".join(letter for letter in LAW if letter in letters), "PQK"):
        if len(stages) > 1 and set(stages) <= letters:
            table = RunTable.of(records, stages=stages)
            law = stages if "K" not in stages else weaker_first(table) or stages
            for rival in try_rivals(table, law=law):
                if rival.source != "this analysis":
                    found[rival.order] = _joined(found.get(rival.order), rival)
    return list(found.values())


def _joined(one: Rival | None, other: Rival) -> Rival:
    """Proposals of the same order as one, with the claims of both."""
    if one is None or (one.claim, one.source) == (other.claim, other.source):
        return other
    return replace(one, claim=f"{one.claim}; {other.claim}", source=f"{one.source}; {other.source}")


def _table_of(records: Sequence[Record], order: Order) -> RunTable:
    letters = "".join(sorted(order))
    return RunTable.of(records, stages=letters)


def _finding(rival: Rival, table: RunTable, *, fresh: bool) -> Finding:
    values, seeds = permutation_values(table)
    result = exhaustive(
        values,
        [rival.order] * len(seeds),
        method="as proposed",
        resamples=2000,
        rng=np.random.default_rng(0),
    )
    low, high = rival.interval
    return Finding(
        claim=f"{rival.order} is the best order of its stages: {rival.claim} ({rival.source})",
        measured=f"rank {rival.rank} of {rival.of}, {rival.cost:.2f} [{low:+.2f}, {high:+.2f}] doublings "
        f"behind the best other order ({rival.best}){chance_of_best(result)}",
        verdict=best_verdict(result),
        seeds=rival.seeds,
        effect=-rival.cost,
        caveat=CONSTRUCTION if "D" in rival.order and fresh else "",
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


def _texts(records: Sequence[Record], orders: Sequence[Order]) -> list[str]:
    """Sequences of the given orders at the longest training each has, in the order of `orders`."""
    texts = []
    for order in dict.fromkeys([*orders, *(chain.order for chain in CHAINS)]):
        some = [record for record in records if record.order == order]
        most = max((record.epochs for record in some), default=0.0)
        texts += list(dict.fromkeys(record.sequence for record in some if record.epochs == most))
    return texts


EXPERIMENT = Experiment(
    name="rivals",
    section="beyond the paper",
    question="which of the proposed orders is best under equal budgets?",
    parts=parts,
    judge=judge,
    figures=figures,
)
