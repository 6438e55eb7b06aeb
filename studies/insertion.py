"""Experiment: does the order of two stages survive a third one? Between them, before them and after them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ordercomp.analysis.checks import PLACES, Place, Where, decide_places
from ordercomp.analysis.pairs import PairTable, controls, pair_tables
from ordercomp.analysis.report.plots import Panel, claims_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES, Decision, Estimate, decide_together
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    GUARD_MARGIN,
    by_order,
    has_fresh_student,
    is_by_construction,
    latest,
    stages_of,
)
from ordercomp.studies.experiment import Experiment, Finding, Judgement, Part, Verdict, one_part, sequences
from ordercomp.studies.facts import INSERTIONS, LAW, PAIRS
from ordercomp.studies.preset import Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertion:
    """A pair of stages in the paper's order, with a third one in some place."""

    first: str
    second: str
    stage: str
    where: Where
    effect: Estimate  # value gained by the paper's order, in doublings
    verdict: Verdict  # on the claim that the paper's order stays better
    turned: bool  # the other order is better, beyond chance
    seeds: int
    under_trained: bool
    decision: Decision  # by the numbers alone

    @property
    def orders(self) -> tuple[Order, Order]:
        """The two orders that are compared, the paper's first."""
        place = PLACES.index(self.where)
        pairs = (self.first + self.second, self.second + self.first)
        one, other = (pair[:place] + self.stage + pair[place:] for pair in pairs)
        return one, other


def parts(task: Task, preset: Preset) -> list[Part]:
    """All orders of every three stages; those of every two are their prefixes."""
    prepared = preset.prepare(task)
    orders = [order for three in combinations(task.stages, 3) for order in permutations("".join(three))]
    return [one_part(prepared, preset, sequences(prepared, preset, orders))]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge the three insertions of figure 3 one by one, and all pairs, stages and places together."""
    found = [record for record in latest(records) if record.order]
    checks = _insertions(found)
    shown = [
        check
        for check in checks
        if check.where == "between" and (check.first, check.stage, check.second) in INSERTIONS
    ]
    return Judgement(
        findings=(*(_finding(check) for check in shown), *([_together(checks)] if checks else [])),
        tables=(_table(checks), _paper_table()),
        notes=(CONSTRUCTION,) if has_fresh_student(found) else (),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Figure 3 for the insertions of the paper, and the effect of every insertion."""
    found = [record for record in latest(records) if record.order]
    orders = by_order(found)
    checks = _insertions(found)
    panels = []
    for first, stage, second in INSERTIONS:
        names = (first + stage + second, second + stage + first, first + second, second + first)
        title = f"{first}[{stage}]{second} against {second}[{stage}]{first}"
        panels.append(Panel(title=title, series={name: orders.get(name, []) for name in names}))
    rows = [
        (f"{check.orders[0]} over {check.orders[1]}", check.verdict, check.effect.mean, _interval(check))
        for check in checks
        if check.seeds
    ]
    return {"fronts": to_svg(panels_plot(panels)), "effects": to_svg(claims_plot(rows))}


def _insertions(records: Sequence[Record]) -> list[Insertion]:
    """Every pair of the paper with every third stage in every place, in three-stage orders only."""
    if not records:
        return []
    table = RunTable.of(records, stages=stages_of(records))
    guard = controls(table.measured, margin=GUARD_MARGIN)
    cases, tables, short = [], [], []
    for first, second, stage, where in _cases(table):
        every = _table_of(table, first, second, stage, where)
        sound = every.choose(guard.sound(every))
        cases.append((first, second, stage, where))
        short.append(2 * len(sound.cells) <= len(every.cells) and bool(every.cells))
        tables.append(every if short[-1] else sound)
    wheres = [where for *_, where in cases]
    places = decide_places(wheres, tables, rules=RULES, bound=2 * table.bound)
    gains = decide_together(
        ["better"] * len(places), [one.effect for one in places], [len(one.seeds) for one in places]
    )
    return [
        Insertion(
            first=first,
            second=second,
            stage=stage,
            where=place.where,
            effect=place.effect,
            verdict=_final(
                _verdict(place, decision),
                lean=lean,
                construed=is_by_construction(first, second, records),
            ),
            turned=not lean and place.outcome == "fails",
            seeds=len(place.seeds),
            under_trained=lean,
            decision=decision,
        )
        for (first, second, stage, _), place, decision, lean in zip(cases, places, gains, short, strict=True)
    ]


def _verdict(place: Place, gain: Decision) -> Verdict:
    """As the law says where it decides; a direction that surely gains less than the margin is no better."""
    if place.outcome == "undecided":
        return "disagree" if gain.verdict == "disagree" else "undecided"
    return "agree" if place.outcome == "holds" else "disagree"


def _final(verdict: Verdict, *, lean: bool, construed: bool) -> Verdict:
    """The verdict that stands: construction outweighs too short training, which outweighs numbers."""
    if construed:
        return "true by construction"
    return "undecided" if lean else verdict


def _cases(table: RunTable) -> list[tuple[str, str, str, Where]]:
    pairs = [pair for pair in PAIRS if set(pair) <= set(table.stages)]
    return [
        (first, second, stage, where)
        for first, second in pairs
        for stage in table.stages
        if stage not in (first, second)
        for where in PLACES
    ]


def _table_of(table: RunTable, first: str, second: str, stage: str, where: Where) -> PairTable:
    """Paired differences "first before second" at the orders of these three stages alone."""
    named = "".join(sorted((first, second), key=LAW.index))
    tables = pair_tables(table, named + stage, neighbors=where != "between")
    pair = tables[named[0], named[1]]
    wanted = {"before": (stage, "", ""), "between": ("", stage, ""), "after": ("", "", stage)}[where]
    return pair.choose((cell.prefix, cell.between, cell.suffix) == wanted for cell in pair.cells)


def _interval(check: Insertion) -> tuple[float, float] | None:
    return (check.effect.low, check.effect.high) if math.isfinite(check.effect.error) else None


def _finding(check: Insertion) -> Finding:
    better, worse = check.orders
    text = f"effect {check.effect.mean:+.2f}"
    if (ends := _interval(check)) is not None:
        text += f" [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    return Finding(
        claim=f"{check.first}[{check.stage}]{check.second}: {check.first} before {check.second} stays better "
        f"with {check.stage} between them ({better} over {worse})",
        measured=f"{text} doublings" if check.seeds else "nothing, as no seed has both orders",
        verdict=check.verdict,
        seeds=check.seeds,
        effect=check.effect.mean if check.seeds else None,
        interval=ends,
        caveat="This leans on under-trained prefixes." if check.under_trained else check.decision.caveat,
    )


def _together(checks: Sequence[Insertion]) -> Finding:
    """That no inserted stage in any place turns any pair around."""
    open_ones = [check for check in checks if check.verdict != "true by construction"]
    found = [check.verdict for check in open_ones]
    turned = [check for check in open_ones if check.turned]
    verdict: Verdict = "disagree" if turned else "agree" if set(found) == {"agree"} else "undecided"
    named = f"; turned around: {', '.join(check.orders[1] for check in turned[:4])}" if turned else ""
    return Finding(
        claim="no inserted stage, before, between or after, breaks the order of two others",
        measured=f"of {len(open_ones)} insertions {found.count('agree')} keep the paper's order, "
        f"{found.count('disagree')} do not, {found.count('undecided')} are undecided{named}",
        verdict=verdict,
        seeds=max((check.seeds for check in open_ones), default=0),
    )


def _table(checks: Sequence[Insertion]) -> Table:
    rows = tuple(
        (
            f"{check.first} before {check.second}",
            check.stage,
            check.where,
            " over ".join(check.orders),
            f"{check.effect.mean:+.2f}" if check.seeds else "–",
            "" if (ends := _interval(check)) is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}",
            str(check.seeds),
            check.verdict + (" (under-trained)" if check.under_trained else ""),
        )
        for check in checks
    )
    names = ("pair", "inserted", "where", "orders", "effect", "interval", "seeds", "verdict")
    right = {"effect", "interval", "seeds"}
    return Table(
        title="Does the paper's order of two stages survive a third?",
        columns=tuple(Column(name, "right" if name in right else "left") for name in names),
        rows=rows,
        note="Effect: value on test data gained by the paper's order of the pair, in doublings.",
    )


def _paper_table() -> Table:
    return Table(
        title="The paper, figure 3 (ResNet34, CIFAR-10; three cases, nothing with D)",
        columns=(Column("inserted"), Column("in its words")),
        rows=tuple(
            (f"{first}[{stage}]{second}", f"{first}{second} remains the better order")
            for first, stage, second in INSERTIONS
        ),
    )


EXPERIMENT = Experiment(
    name="insertion",
    section="section 4, figure 3",
    question="does the order of two stages survive a third one?",
    parts=parts,
    judge=judge,
    figures=figures,
)
