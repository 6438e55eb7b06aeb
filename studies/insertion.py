"""Experiment: does the order of two stages survive a third one? Between them, before them and after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ordercomp.analysis.checks import PLACES, Place, Where, decide_places
from ordercomp.analysis.pairs import PairTable, controls, pair_tables
from ordercomp.analysis.report.plots import Panel, claims_plot, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES, Decision, decide_together
from ordercomp.records import Record
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
    Design,
    Experiment,
    Finding,
    Part,
    by_order,
    effect_text,
    interval_of,
    make_table,
    words_table,
)
from ordercomp.studies.facts import LAW, PAPER


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
class DecidedPlacement:
    """Whether the paper's order stays better at a placement."""

    at: Placement
    place: Place  # what the paper's order gains there, as the law's own check decides it
    gain: Decision  # by the numbers alone
    under_trained: bool
    by_construction: bool

    @property
    def verdict(self) -> ClaimVerdict:
        """As the law says where it decides; a direction that surely gains less than the margin is no better.

        Construction outweighs too short training, which outweighs numbers.
        """
        if self.by_construction:
            return "true by construction"
        if self.under_trained:
            return "undecided"
        if self.place.outcome == "undecided":
            return "disagree" if self.gain.verdict == "disagree" else "undecided"
        return "agree" if self.place.outcome == "holds" else "disagree"

    @property
    def turned(self) -> bool:
        """Whether the other order is better, beyond chance."""
        return not self.under_trained and self.place.outcome == "fails"

    @property
    def seeds(self) -> int:
        """How many seeds have both orders."""
        return len(self.place.seeds)


def _plan(design: Design) -> list[Part]:
    """All orders of every three stages; those of every two are their prefixes."""
    threes = map("".join, combinations(design.task.stages, 3))
    return [design.part(design.sequences(order for three in threes for order in permutations(three)))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """The three insertions of figure 3 one by one, and all pairs, stages and places together."""
    decided = decide_placements(records)
    findings = [_finding(one) for one in decided if one.at.is_printed]
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
        (
            " over ".join(one.at.orders),
            one.verdict,
            one.place.effect.mean,
            interval_of(one.place.effect),
        )
        for one in decide_placements(records)
        if one.seeds
    ]
    return {"fronts": to_svg(panels_plot(panels)), "effects": to_svg(claims_plot(rows))}


def decide_placements(records: Sequence[Record]) -> list[DecidedPlacement]:
    """Every pair of the paper with every third stage in every place, in three-stage orders only."""
    if not records:
        return []
    runs = RunTable.of(records, stages=stages_of(records))
    guard = controls(runs.measured, margin=GUARD_MARGIN)
    spots = _placements(runs.stages)
    tables, short = [], []
    for spot in spots:
        every = _table_of(runs, spot)
        sound = every.choose(guard.sound(every))
        short.append(2 * len(sound.cells) <= len(every.cells) and bool(every.cells))
        tables.append(every if short[-1] else sound)
    places = decide_places([spot.where for spot in spots], tables, rules=RULES, bound=2 * runs.bound)
    gains = decide_together(
        ["better"] * len(places), [place.effect for place in places], [len(place.seeds) for place in places]
    )
    return [
        DecidedPlacement(
            at=spot,
            place=place,
            gain=gain,
            under_trained=under_trained,
            by_construction=is_by_construction(spot.first + spot.second, records),
        )
        for spot, place, gain, under_trained in zip(spots, places, gains, short, strict=True)
    ]


def _placements(stages: Order) -> list[Placement]:
    return [
        Placement(first=first, second=second, stage=stage, where=where)
        for first, second in map(tuple, PAPER.pairs)
        if {first, second} <= set(stages)
        for stage in stages
        if stage not in (first, second)
        for where in PLACES
    ]


def _table_of(runs: RunTable, spot: Placement) -> PairTable:
    """Paired differences "first before second" at the orders of these three stages alone."""
    first, second = sorted((spot.first, spot.second), key=LAW.index)
    tables = pair_tables(runs, first + second + spot.stage, neighbors=spot.where != "between")
    stage = spot.stage
    wanted = {"before": (stage, "", ""), "between": ("", stage, ""), "after": ("", "", stage)}[spot.where]
    table = tables[first, second]
    return table.choose((cell.prefix, cell.between, cell.suffix) == wanted for cell in table.cells)


def _finding(decided: DecidedPlacement) -> Finding:
    spot, (better, worse) = decided.at, decided.at.orders
    return Finding(
        claim=f"{spot.first}[{spot.stage}]{spot.second}: {spot.first} before {spot.second} stays better "
        f"with {spot.stage} between them ({better} over {worse})",
        measured=f"effect {effect_text(decided.place.effect)} doublings"
        if decided.seeds
        else "nothing, as no seed has both orders",
        verdict=decided.verdict,
        seeds=decided.seeds,
        effect=decided.place.effect.mean if decided.seeds else None,
        interval=interval_of(decided.place.effect),
        caveat="This leans on under-trained prefixes." if decided.under_trained else decided.gain.caveat,
    )


def _together(decided: Sequence[DecidedPlacement]) -> Finding:
    """That no inserted stage in any place turns any pair around."""
    measured = [one for one in decided if one.verdict != "true by construction"]
    verdicts = [one.verdict for one in measured]
    turned = [one.at.orders[1] for one in measured if one.turned]
    return Finding(
        claim="no inserted stage, before, between or after, breaks the order of two others",
        measured=f"of {len(measured)} insertions {verdicts.count('agree')} keep the paper's order, "
        f"{verdicts.count('disagree')} do not, {verdicts.count('undecided')} are undecided"
        + (f"; turned around: {', '.join(turned[:4])}" if turned else ""),
        verdict="disagree" if turned else "agree" if set(verdicts) == {"agree"} else "undecided",
        seeds=max((one.seeds for one in measured), default=0),
    )


def _table(decided: Sequence[DecidedPlacement]) -> Table:
    rows = [
        (
            f"{one.at.first} before {one.at.second}",
            one.at.stage,
            one.at.where,
            " over ".join(one.at.orders),
            f"{one.place.effect.mean:+.2f}" if one.seeds else "–",
            "" if (ends := interval_of(one.place.effect)) is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}",
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
