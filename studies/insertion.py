"""Experiment: does the order of two stages survive a third one? Between them, before them and after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ordercomp.analysis.checks import PLACES, Place, Where, decide_places
from ordercomp.analysis.pairs import PairTable, controls, pair_tables
from ordercomp.analysis.report.plots import Panel, claims_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES, Decision, Estimate, decide_together
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order, permutations
from ordercomp.studies.claims import (
    CONSTRUCTION,
    GUARD_MARGIN,
    has_fresh_student,
    is_by_construction,
    stages_of,
)
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Experiment,
    Finding,
    Part,
    by_order,
    effect_text,
    interval_of,
    make_table,
    one_part,
    sequences,
    words_table,
)
from ordercomp.studies.facts import LAW, PAPER
from ordercomp.studies.preset import Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pair of stages in the paper's order, and a third one in some place."""

    first: str
    second: str
    stage: str
    where: Where

    @property
    def orders(self) -> tuple[Order, Order]:
        """The two orders that are compared, the paper's first."""
        place = PLACES.index(self.where)
        kept, turned = (
            pair[:place] + self.stage + pair[place:]
            for pair in (self.first + self.second, self.second + self.first)
        )
        return kept, turned

    @property
    def is_printed(self) -> bool:
        """Whether figure 3 shows it."""
        return self.where == "between" and self.orders[0] in PAPER.insertions


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedCase:
    """Whether the paper's order stays better in a case."""

    case: Case
    effect: Estimate  # value gained by the paper's order, in doublings
    verdict: ClaimVerdict
    turned: bool  # the other order is better, beyond chance
    seeds: int
    under_trained: bool
    decision: Decision  # by the numbers alone


def _plan(task: Task, preset: Preset) -> list[Part]:
    """All orders of every three stages; those of every two are their prefixes."""
    orders = [order for three in combinations(task.stages, 3) for order in permutations("".join(three))]
    return [one_part(task, preset, sequences(task, preset, orders))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """The three insertions of figure 3 one by one, and all pairs, stages and places together."""
    decided = decide_cases(records)
    findings = [_finding(one) for one in decided if one.case.is_printed]
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
        (" over ".join(one.case.orders), one.verdict, one.effect.mean, interval_of(one.effect))
        for one in decide_cases(records)
        if one.seeds
    ]
    return {"fronts": to_svg(panels_plot(panels)), "effects": to_svg(claims_plot(rows))}


def decide_cases(records: Sequence[Record]) -> list[DecidedCase]:
    """Every pair of the paper with every third stage in every place, in three-stage orders only."""
    if not records:
        return []
    runs = RunTable.of(records, stages=stages_of(records))
    guard = controls(runs.measured, margin=GUARD_MARGIN)
    cases = _cases(runs.stages)
    tables, short = [], []
    for case in cases:
        every = _table_of(runs, case)
        sound = every.choose(guard.sound(every))
        short.append(2 * len(sound.cells) <= len(every.cells) and bool(every.cells))
        tables.append(every if short[-1] else sound)
    places = decide_places([case.where for case in cases], tables, rules=RULES, bound=2 * runs.bound)
    gains = decide_together(
        ["better"] * len(places), [place.effect for place in places], [len(place.seeds) for place in places]
    )
    return [
        DecidedCase(
            case=case,
            effect=place.effect,
            verdict="true by construction"
            if is_by_construction(case.first + case.second, records)
            else "undecided"
            if under_trained
            else _verdict(place, gain),
            turned=not under_trained and place.outcome == "fails",
            seeds=len(place.seeds),
            under_trained=under_trained,
            decision=gain,
        )
        for case, place, gain, under_trained in zip(cases, places, gains, short, strict=True)
    ]


def _cases(stages: Order) -> list[Case]:
    return [
        Case(first=first, second=second, stage=stage, where=where)
        for first, second in map(tuple, PAPER.pairs)
        if {first, second} <= set(stages)
        for stage in stages
        if stage not in (first, second)
        for where in PLACES
    ]


def _table_of(runs: RunTable, case: Case) -> PairTable:
    """Paired differences "first before second" at the orders of these three stages alone."""
    first, second = sorted((case.first, case.second), key=LAW.index)
    tables = pair_tables(runs, first + second + case.stage, neighbors=case.where != "between")
    stage = case.stage
    wanted = {"before": (stage, "", ""), "between": ("", stage, ""), "after": ("", "", stage)}[case.where]
    table = tables[first, second]
    return table.choose((cell.prefix, cell.between, cell.suffix) == wanted for cell in table.cells)


def _verdict(place: Place, gain: Decision) -> ClaimVerdict:
    """As the law says where it decides; a direction that surely gains less than the margin is no better."""
    if place.outcome == "undecided":
        return "disagree" if gain.verdict == "disagree" else "undecided"
    return "agree" if place.outcome == "holds" else "disagree"


def _finding(decided: DecidedCase) -> Finding:
    case, (better, worse) = decided.case, decided.case.orders
    return Finding(
        claim=f"{case.first}[{case.stage}]{case.second}: {case.first} before {case.second} stays better "
        f"with {case.stage} between them ({better} over {worse})",
        measured=f"effect {effect_text(decided.effect)} doublings"
        if decided.seeds
        else "nothing, as no seed has both orders",
        verdict=decided.verdict,
        seeds=decided.seeds,
        effect=decided.effect.mean if decided.seeds else None,
        interval=interval_of(decided.effect),
        caveat="This leans on under-trained prefixes." if decided.under_trained else decided.decision.caveat,
    )


def _together(decided: Sequence[DecidedCase]) -> Finding:
    """That no inserted stage in any place turns any pair around."""
    measured = [one for one in decided if one.verdict != "true by construction"]
    verdicts = [one.verdict for one in measured]
    turned = [one.case.orders[1] for one in measured if one.turned]
    return Finding(
        claim="no inserted stage, before, between or after, breaks the order of two others",
        measured=f"of {len(measured)} insertions {verdicts.count('agree')} keep the paper's order, "
        f"{verdicts.count('disagree')} do not, {verdicts.count('undecided')} are undecided"
        + (f"; turned around: {', '.join(turned[:4])}" if turned else ""),
        verdict="disagree" if turned else "agree" if set(verdicts) == {"agree"} else "undecided",
        seeds=max((one.seeds for one in measured), default=0),
    )


def _table(decided: Sequence[DecidedCase]) -> Table:
    rows = [
        (
            f"{one.case.first} before {one.case.second}",
            one.case.stage,
            one.case.where,
            " over ".join(one.case.orders),
            f"{one.effect.mean:+.2f}" if one.seeds else "–",
            "" if (ends := interval_of(one.effect)) is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}",
            str(one.seeds),
            one.verdict + (" (under-trained)" if one.under_trained else ""),
        )
        for one in decided
    ]
    return make_table(
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
