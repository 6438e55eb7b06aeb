"""Experiment: does the order of two stages survive a third one? Between them, before them and after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ordercomp.analysis.pairs import PLACES, Where
from ordercomp.analysis.report.plots import Panel, claims_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table, interval_text
from ordercomp.records import Record
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    Claim,
    convergence,
    decide_claims,
    has_fresh_student,
    stages_of,
)
from ordercomp.studies.experiment import (
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    words_table,
)
from ordercomp.studies.facts import PAPER


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A pair of stages in the paper's order, and a third one in some place."""

    first: str
    second: str
    stage: str
    where: Where

    @property
    def orders(self) -> tuple[Order, Order]:
        """The two orders that are compared, the paper's first."""
        place = PLACES.index(self.where)
        straight, turned = (
            pair[:place] + self.stage + pair[place:]
            for pair in (self.first + self.second, self.second + self.first)
        )
        return straight, turned

    @property
    def claim(self) -> str:
        """What is claimed, in words."""
        better, worse = self.orders
        words = {"before": "before them", "between": "between them", "after": "after them"}[self.where]
        return (
            f"{self.first}[{self.stage}]{self.second}: {self.first} before {self.second} stays better "
            f"with {self.stage} {words} ({better} over {worse})"
        )

    @property
    def is_printed(self) -> bool:
        """Whether figure 3 shows it."""
        return self.where == "between" and self.orders[0] in PAPER.insertions


def _plan(design: Design) -> list[Workload]:
    """All orders of every three stages; those of every two are their prefixes."""
    threes = map("".join, combinations(design.task.ordered, 3))
    return [design.part(design.sequences(order for three in threes for order in permutations(three)))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """The three insertions of figure 3 one by one, and all pairs, stages and places together."""
    decided = decide_placements(records)
    findings = [finding for placement, finding in decided if placement.is_printed]
    return Conclusion(
        findings=(*findings, *([_together(decided)] if decided else [])),
        tables=(
            _table(decided),
            words_table(
                "The paper, figure 3 (ResNet34, CIFAR-10; three cases, nothing with D)",
                ("inserted", "in its words"),
                (
                    (f"{a}[{x}]{b}", f"{a}{b} remains the better order")
                    for a, x, b in map(tuple, PAPER.insertions)
                ),
            ),
        ),
        notes=(CONSTRUCTION,) if has_fresh_student(records) else (),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """Figure 3 for the insertions of the paper, and the effect of every insertion."""
    orders = by_order(records)
    panels = []
    for first, stage, second in map(tuple, PAPER.insertions):
        names = (first + stage + second, second + stage + first, first + second, second + first)
        title = f"{first}[{stage}]{second} against {second}[{stage}]{first}"
        panels.append(Panel(title=title, series={name: orders.get(name, []) for name in names}))
    rows = [
        (" over ".join(placement.orders), finding.verdict, finding.effect, finding.interval)
        for placement, finding in decide_placements(records)
        if finding.effect is not None
    ]
    return {"fronts": to_svg(panels_plot(panels)), "effects": to_svg(claims_plot(rows))}


def decide_placements(records: Sequence[Record]) -> list[tuple[Placement, Finding]]:
    """Every pair of the paper with every third stage in every place, in three-stage orders only.

    All are decided together as claims that the paper's order of the pair stays better.
    """
    if not records:
        return []
    orders, placements = by_order(records), _placements(stages_of(records))
    claims = [
        Claim(text=placement.claim, first=orders.get(better, []), second=orders.get(worse, []))
        for placement in placements
        for better, worse in [placement.orders]
    ]
    return list(zip(placements, decide_claims(claims, convergence(records)), strict=True))


def _placements(stages: Order) -> list[Placement]:
    return [
        Placement(first=first, second=second, stage=stage, where=where)
        for first, second in map(tuple, PAPER.pairs)
        if {first, second} <= set(stages)
        for stage in stages
        if stage not in (first, second)
        for where in PLACES
    ]


def _together(decided: Sequence[tuple[Placement, Finding]]) -> Finding:
    """That no inserted stage in any place turns any pair around."""
    measured = [pair for pair in decided if pair[1].verdict != "true by construction"]
    verdicts = [finding.verdict for _, finding in measured]
    turned = [
        placement.orders[1]
        for placement, finding in measured
        if finding.verdict == "disagree" and finding.interval is not None and finding.interval[1] < 0
    ]
    return Finding(
        claim="no inserted stage, before, between or after, breaks the order of two others",
        measured=f"of {len(measured)} insertions {verdicts.count('agree')} keep the paper's order, "
        f"{verdicts.count('disagree')} do not, {verdicts.count('undecided')} are undecided"
        + (f"; turned around: {', '.join(turned[:4])}" if turned else ""),
        verdict="disagree" if turned else "agree" if set(verdicts) == {"agree"} else "undecided",
        seeds=max((finding.seeds for _, finding in measured), default=0),
    )


def _table(decided: Sequence[tuple[Placement, Finding]]) -> Table:
    rows = [
        (
            f"{placement.first} before {placement.second}",
            placement.stage,
            placement.where,
            " over ".join(placement.orders),
            "–" if finding.effect is None else f"{finding.effect:+.2f}",
            "" if finding.interval is None else interval_text(finding.interval),
            str(finding.seeds),
            finding.verdict,
        )
        for placement, finding in decided
    ]
    return Table.of(
        "Does the paper's order of two stages survive a third?",
        ("pair", "inserted", "where", "orders", "effect", "interval", "seeds", "verdict"),
        rows,
        left=("pair", "inserted", "where", "orders", "verdict"),
        note="Effect: value on test data gained by the paper's order of the pair, in doublings.",
    )


EXPERIMENT = Experiment(
    name="insertion",
    section="section 4, figure 3",
    question="does the order of two stages survive a third one?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
