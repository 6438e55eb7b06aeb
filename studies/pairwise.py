"""Experiment: of two stages, which comes first? All pairs in both orders, against the single stages."""

from collections.abc import Sequence
from itertools import combinations

from ordercomp.analysis.law import derive_law
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.report.plots import Panel, pair_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table, convergence_table, pair_table
from ordercomp.analysis.statistics import RULES
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.studies.claims import (
    CONSTRUCTION,
    Claim,
    by_order,
    convergence,
    is_by_construction,
    judge_claims,
    latest,
    stages_of,
)
from ordercomp.studies.experiment import (
    Experiment,
    Finding,
    Judgement,
    Part,
    Verdict,
    one_part,
    restrict,
    rungs,
    sequences,
)
from ordercomp.studies.facts import LAW, PAIRS
from ordercomp.studies.preset import Preset


def parts(task: Task, preset: Preset) -> list[Part]:
    """Both orders of every pair of the task's stages, and each stage alone."""
    prepared = preset.prepare(task)
    orders = [a + b for pair in combinations(task.stages, 2) for a, b in (pair, pair[::-1])]
    alone = [rung for stage in task.stages for rung in rungs(prepared, preset, stage)]
    return [one_part(prepared, preset, [*sequences(prepared, preset, orders), *alone])]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge the paper's direction of each pair, and whether a pair does better than its stages alone."""
    found = _measured(records)
    stages = stages_of(found)
    law = derive_law(found, stages=stages)
    guard = convergence(found)
    return Judgement(
        findings=(
            *(finding for pair in law.pairs if (finding := pair_finding(pair, found)) is not None),
            *judge_claims(_complement(found, stages), guard),
        ),
        tables=(
            pair_table(law.pairs),
            _paper_table(stages),
            *((convergence_table(law.convergence),) if law.convergence else ()),
        ),
        notes=law.notes,
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Figure 2: a panel per pair with both orders and the single stages; and the effects of all pairs."""
    found = _measured(records)
    stages = stages_of(found)
    orders = by_order(found)
    panels = []
    for first, second in combinations(restrict(LAW, stages), 2):
        names = (first + second, second + first, first, second)
        panels.append(Panel(title=f"{first} and {second}", series={n: orders.get(n, []) for n in names}))
    law = derive_law(found, stages=stages)
    return {
        "fronts": to_svg(panels_plot(panels)),
        "effects": to_svg(pair_plot(law.pairs, margin=RULES.margin)),
    }


def pair_finding(pair: Evidence, records: Sequence[Record]) -> Finding | None:
    """The paper's claim on a pair beside the evidence; None for a pair that the paper does not have."""
    names = (pair.first, pair.second)
    ordered = names if names in PAIRS else names[::-1]
    if ordered not in PAIRS:
        return None
    sign = 1.0 if ordered == names else -1.0
    ends = sorted((sign * pair.effect.low, sign * pair.effect.high))
    verdict, caveat = _verdict(pair, sign), ""
    if pair.under_trained:
        caveat = "The contexts lean on under-trained prefixes."
    elif pair.verdict == "conditional":
        caveat = "The sign depends on context or intensity."
    elif pair.verdict == "tied":
        caveat = "The two orders are tied within the margin."
    if is_by_construction(*ordered, records):
        verdict, caveat = "true by construction", CONSTRUCTION
    return Finding(
        claim=f"{PAIRS[ordered]} ({''.join(ordered)} over {''.join(ordered[::-1])})",
        measured=f"effect {sign * pair.effect.mean:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}] doublings, "
        f"{pair.contexts} context{'s' if pair.contexts != 1 else ''}",
        verdict=verdict,
        seeds=pair.seeds,
        effect=sign * pair.effect.mean,
        interval=(ends[0], ends[1]),
        caveat=caveat,
    )


def _verdict(pair: Evidence, sign: float) -> Verdict:
    if pair.verdict == "tied":
        return "disagree"
    if pair.verdict not in ("before", "after"):
        return "undecided"
    return "agree" if (pair.verdict == "before") == (sign > 0) else "disagree"


def _complement(records: Sequence[Record], stages: str) -> list[Claim]:
    """That two stages in the paper's order do better than each of the two alone."""
    orders = by_order(records)
    claims = []
    for first, second in combinations(restrict(LAW, stages), 2):
        pair = orders.get(first + second, [])
        for alone in (first, second):
            some = _same_settings(pair, orders.get(alone, []))
            text = f"{first}{second} does better than {alone} alone"
            claims.append(Claim(text=text, first=_one_each(pair), second=some))
    return claims


def _one_each(pair: Sequence[Record]) -> list[Record]:
    """One knob setting of the pair, that of most seeds, so that one network stands against one."""
    seeds: dict[str, set[int]] = {}
    for record in pair:
        seeds.setdefault(record.sequence, set()).add(record.seed)
    text = min(seeds, key=lambda text: (-len(seeds[text]), text), default=None)
    return [record for record in pair if record.sequence == text]


def _same_settings(pair: Sequence[Record], alone: Sequence[Record]) -> list[Record]:
    """At every seed the single stage with the knobs that it has in the pair's chosen setting."""
    chosen = []
    for record in _one_each(pair):
        steps = {str(step) for step in StageSequence.parse(record.sequence).steps}
        chosen += [one for one in alone if one.seed == record.seed and one.sequence in steps]
    return chosen


def _measured(records: Sequence[Record]) -> list[Record]:
    return [record for record in latest(records) if record.order]


def _paper_table(stages: str) -> Table:
    rows = tuple((f"{a}{b}", claim) for (a, b), claim in PAIRS.items() if {a, b} <= set(stages))
    return Table(
        title="The paper, figure 2 (ResNet34, CIFAR-10; judged by eye, no repeats)",
        columns=(Column("better order"), Column("in its words")),
        rows=rows,
    )


EXPERIMENT = Experiment(
    name="pairwise",
    section="section 3, figure 2",
    question="of two stages, which comes first?",
    parts=parts,
    judge=judge,
    figures=figures,
)
