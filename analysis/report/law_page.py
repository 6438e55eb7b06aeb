"""Assembly of the report page: the answer first, then what it rests on, in one file without links."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from markupsafe import Markup

from ordercomp.analysis.answer import Answer, AnswerAt, OrderMatters, Standing
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.fronts import DEFAULT_SCALE, TOLERANCES, Scale, group
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.ranking import chain_records, read_softly
from ordercomp.analysis.report import plots, tables
from ordercomp.analysis.report.elements import (
    Fact,
    Picture,
    distinct,
    inline,
    notices_of,
    provenance_of,
    render,
    tight,
)
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.svg import (
    Axes,
    Dots,
    axes_of,
    curves_svg,
    network_dots,
    precedence_svg,
    reach_curves,
)
from ordercomp.analysis.report.tables import duration_text, loss_text, probability_text
from ordercomp.analysis.report.text import (
    COST_UNITS,
    STAGE_NAMES,
    AnswerWords,
    answer_words,
    baseline_words,
    cost_text,
    network_words,
    other_network,
    prior_words,
    read_verdict,
    training_caveat,
    where_costs_differ,
    where_it_changes,
)
from ordercomp.codec import FLAT, UNWRITTEN, format_json
from ordercomp.files import replace_file
from ordercomp.records import Record, metric_of
from ordercomp.sequence import Order

LOSSES = (*TOLERANCES, 0.05, 0.1)  # those of the paper, and what small networks usually lose
MOST_ROWS = 24  # chains of a table before the rest is folded
MOST_NAMED = 10  # orders written at the end of their curve
_FAKE = " An under-trained stage can fake an order."

# What the page shows of an answer at each tolerated loss, worked out beforehand: words, numbers, a graph.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Where an order's interval lies, as shares of the longest one."""

    low: float
    high: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What the page's table tells of an order."""

    value: str
    behind: str
    interval: str
    chance: str
    seeds: str
    bar: Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class LossView:
    """The answer at one tolerated loss, every number as text; its graph is no part of the script's data."""

    loss: float
    name: str = field(metadata=UNWRITTEN)  # the loss as text
    chosen: bool = field(metadata=UNWRITTEN)  # whether the page opens with it
    recommended: Order | None
    best_set: tuple[Order, ...]
    told: Mapping[str, str]  # by place in the page
    orders: Mapping[Order, Cells]
    graph: Markup = field(metadata=UNWRITTEN)
    graph_caption: str = field(metadata=UNWRITTEN)


@dataclass(frozen=True, slots=True)
class StripRow:
    """One order across the losses: "best" where it is recommended, "in" where it may be the best, else ""."""

    order: Order
    cells: tuple[str, ...]


def loss_views(answer: Answer, stages: str, picks: Mapping[float, Sequence[Pick]]) -> list[LossView]:
    """One view for every loss that the answer tells, in rising order; its own loss is the chosen one.

    `picks` gives the networks to take at a loss, as far as there are any.
    """
    asked = answer.asked.loss or 0.0
    entries = {entry.loss or 0.0: entry for entry in (*answer.by_loss, answer.asked)}
    views = []
    for loss, entry in sorted(entries.items()):
        words = answer_words(
            answer if loss == asked else entry, stages, metric=answer.metric, cost=answer.cost
        )
        network = _network_texts(picks.get(loss, ()), answer)
        views.append(_view(loss, entry, words, stages, network, chosen=loss == asked))
    return views


def strip_rows(views: Sequence[LossView]) -> list[StripRow]:
    """The orders that may be the best at some loss, those that are so most often first."""

    def cell(order: Order, view: LossView) -> str:
        return "best" if order == view.recommended else "in" if order in view.best_set else ""

    orders = sorted({order for view in views for order in view.best_set})
    rows = [StripRow(order, tuple(cell(order, view) for view in views)) for order in orders]
    return sorted(rows, key=lambda row: (-row.cells.count("best"), row.cells.count(""), row.order))


def setting_rows(answer: Answer, stages: str) -> list[tuple[str, str, str]]:
    """For each setting of the knobs alone: its knobs, the recommendation, and which orders may be best."""
    rows = []
    for entry in answer.by_setting:
        words = answer_words(entry, stages, metric=answer.metric, cost=answer.cost)
        rows.append((str(entry.setting), words.headline, " ".join((words.cost, words.out)).strip()))
    return rows


def _view(
    loss: float, entry: AnswerAt, words: AnswerWords, stages: str, network: Mapping[str, str], *, chosen: bool
) -> LossView:
    inside, out, orders = entry.best_set, entry.excluded, entry.standings
    longest = max((standing.interval[1] for standing in orders.values()), default=0.0) or 1.0
    regret = entry.regret
    texts = {
        "headline": words.headline,
        "cost": words.cost,
        "out": words.out,
        "holds": words.holds,
        "worth": words.worth,
        "together": words.together,
        "road": words.road,
        "doubt": words.doubt,
        "expected": "–" if regret is None else _cost_more(regret.expected),
        "upper": "–" if regret is None else _cost_more(regret.upper95),
        "random": "–" if regret is None else _cost_more(regret.random_order),
        "left": f"{len(inside)} of {len(inside) + len(out)}" if inside else "–",
        "matters": _matters(entry.order_matters),
    }
    return LossView(
        loss=loss,
        name=loss_text(loss),
        chosen=chosen,
        recommended=entry.recommended,
        best_set=inside,
        told={**{place: tight(text) for place, text in texts.items()}, **network},
        orders={order: _cells(standing, longest) for order, standing in orders.items()},
        graph=precedence_svg(stages, list(entry.precedence)) if entry.precedence else Markup(),
        graph_caption=_graph_caption(entry),
    )


def _network_texts(picks: Sequence[Pick], answer: Answer) -> dict[str, str]:
    """What the page says of the networks to take."""
    if not picks:
        return {"network": "", "command": ""}
    words = network_words(picks[0], metric=answer.metric, cost=answer.cost)
    sentence = f"{picks[0].order}: {words} {other_network(picks, cost=answer.cost)}"
    return {"network": tight(sentence.strip()), "command": picks[0].command}


def _graph_caption(entry: AnswerAt) -> str:
    if entry.precedence:
        return "What holds in every chain that may be the best."
    if entry.best_set:
        return "No pair of stages is settled: the chains that may be the best share none."
    return "No pair of stages is settled: nothing can be told at this loss."


def _cells(standing: Standing, longest: float) -> Cells:
    low, high = standing.interval
    return Cells(
        value=f"{standing.value:.2f}",
        behind=f"{standing.behind:.2f}",
        interval=f"{low:.2f} to {high:.2f}",
        chance=probability_text(standing.probability_best),
        seeds=str(standing.seeds),
        bar=Bar(
            low=round(max(0.0, low) / longest, 3),
            high=round(max(0.0, high) / longest, 3),
            at=round(min(max(0.0, standing.behind), longest) / longest, 3),
        ),
    )


def _cost_more(doublings: float) -> str:
    return cost_text(doublings).removeprefix("about ")


def _matters(test: OrderMatters | None) -> str:
    if test is None:
        return ""
    chance = "less than one in a million" if test.p < 1e-6 else f"{test.p:.2g}"
    spread = f"best and worst order differ by about {test.spread:.1f} doublings"
    verdict = "Order matters" if test.p < 0.05 else "That order matters is not shown"
    return f"{verdict}: {spread}; chance alone would do as much with probability {chance}."


def write_report(
    path: Path | str, file: LawFile, records: Iterable[Record], *, scale: Scale = DEFAULT_SCALE
) -> None:
    """Write one self-contained HTML page about `file`, the content of a law.json, and its records.

    The page opens with the answer, if `file` holds one, else with the verdict on the pairs. It holds its
    figures and its script inline, loads nothing from anywhere, and says the same without the script.
    What a file holds beyond the contract adds sections; without that, or without records, the page is
    shorter. The same input gives the same bytes. The file is replaced at once. Raises OSError if it cannot
    be written, ValueError if records lack the cost convention of `scale`.
    """
    replace_file(Path(path), render("page.html.j2", _content(file, list(records), scale)))


def _content(file: LawFile, records: Sequence[Record], scale: Scale) -> dict[str, object]:
    law, answer, verdict = file.law, file.answer, read_verdict(file.law)
    chains = chain_records(records, law.stages)
    networks = (
        tables.best_network_table(chains, tolerances=LOSSES, scale=scale)
        if file.networks is None
        else tables.network_table(file.networks)
    )
    views = (
        []
        if answer is None
        else loss_views(answer, law.stages, group(file.networks or (), attrgetter("loss")))
    )
    opening = next((view for view in views if view.chosen), None)
    metric = metric_of(records)
    unit = COST_UNITS[answer.cost if answer else "bitops"]
    asked = verdict.order if opening is None or opening.recommended is None else opening.recommended
    return {
        "law": law,
        "metric": metric,
        "verdict": verdict,
        "baseline": baseline_words(answer) if answer else "",
        "batches": answer.batches if answer else "",
        "prior": prior_words(answer) if answer else "",
        "caveat": training_caveat(law.convergence),
        "views": views,
        "chosen": opening,
        "strip": strip_rows(views),
        "most": MOST_ROWS,
        "changes": where_it_changes(answer.by_loss) if answer else "",
        "cost_changes": where_costs_differ(answer) if answer else "",
        "unit": unit,
        "settings": setting_rows(answer, law.stages) if answer else [],
        "curves": _curves(chains, views, scale),
        "verification": "" if law.verification is None else law.verification.sentence,
        "notes": (*law.notes, *notices_of(records)),
        "facts": _facts(law, records, opening, unit),
        "stages": [(stage, STAGE_NAMES.get(stage, "plug-in stage")) for stage in law.stages],
        "pictures": _pictures(law),
        "pair_table": tables.pair_table(law.pairs).about(metric),
        "reduction_table": tables.reduction_table(chains, tolerances=LOSSES, scale=scale).about(metric),
        "network_table": networks.about(metric),
        "rival_table": tables.rival_table(law.rivals),
        "sensitivity": _sensitivity(records, asked, scale),
        "convergence_table": tables.convergence_table(law.convergence).about(metric),
        "convergence": _convergence(law.convergence),
        "failure_table": tables.failure_table(records),
        "checks": [
            *(check.sentence for check in law.insertion),
            *(check.sentence for check in law.repetition),
        ],
        "provenance": _provenance(law, records, scale),
    }


def _facts(law: Law, records: Sequence[Record], opening: LossView | None, unit: str) -> list[Fact]:
    """What stands in large type below the answer; those with a place change with the loss that is chosen."""
    facts = []
    if opening is not None and opening.recommended is not None:
        facts = [
            Fact(opening.told["left"], "chains may be the best", "left"),
            Fact(opening.told["expected"], f"{unit}, expected, against the best chain", "expected"),
            Fact(opening.told["upper"], "at most, with 95 % confidence", "upper"),
            Fact(opening.told["random"], "with an order taken at random", "random"),
        ]
    facts.append(Fact(str(len({record.seed for record in records})), "seeds"))
    facts.append(Fact(str(law.trainings.done), f"trainings, {duration_text(law.seconds)}"))
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The picture of what each order reaches, with what the script knows of it."""

    picture: Markup
    data: Markup
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossData:
    """A loss for the script, and where it stands in the picture."""

    view: LossView = field(metadata=FLAT)
    band: tuple[float, float]  # of the losses that the answer averages over
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """What the script of a page knows."""

    chosen: int  # place of the loss that the page opens with
    losses: tuple[LossData, ...]
    axes: Axes
    dots: Dots = field(metadata=FLAT)


def _curves(records: Sequence[Record], views: Sequence[LossView], scale: Scale) -> Curves | None:
    """The picture of what each order reaches, and the data for the script; None without any network."""
    if not any(record.points for record in records):
        return None
    curves = reach_curves(records, scale=scale)
    axes = axes_of(curves)
    opening = next((view for view in views if view.chosen), None)
    reached = sorted(curves, key=lambda order: -float(curves[order].mean()))
    named = dict.fromkeys(row.order for row in strip_rows(views))
    ends = list(dict.fromkeys([*named, reached[0], reached[-1]]))[:MOST_NAMED]
    data = PageData(
        chosen=next((place for place, view in enumerate(views) if view.chosen), 0),
        losses=tuple(
            LossData(
                view=view,
                band=(axes.left(view.loss / 2), axes.left(1.5 * view.loss)),
                at=axes.left(view.loss),
            )
            for view in views
        ),
        axes=axes,
        dots=network_dots(records, scale=scale),
    )
    picture = curves_svg(
        curves,
        axes=axes,
        loss=opening.loss if opening else None,
        named=ends,
        best_set=opening.best_set if opening else (),
        recommended=opening.recommended if opening else None,
        metric=metric_of(records),
    )
    return Curves(picture=picture, data=_script_json(data), orders=len(curves))


def _script_json(data: PageData) -> Markup:
    """JSON that may stand inside of a script element: nothing in it ends the element or opens a comment."""
    text = format_json(data, compact=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _pictures(law: Law) -> dict[str, Picture]:
    return {
        "precedence": inline(
            plots.to_svg(plots.precedence_plot(law)),
            "Stages from first to last. A solid arrow is a decided pair with its probability; dashed is "
            "undecided, dotted tied, brown depends on other stages; red runs against the row.",
        ),
        "pairs": inline(
            plots.to_svg(plots.pair_plot(law.pairs)),
            "What the best chain gains if the first stage of a pair comes earlier, with its interval. Small "
            "grey dots: the best of the chains that have a third stage before, between or after the two.",
        ),
    }


def _convergence(controls: Sequence[Control]) -> str:
    if not controls:
        return "Not tested: there are no control runs with a further fine-tune (F)." + _FAKE
    counts = {
        word: sum(control.status == word for control in controls) for word in ("under-trained", "unclear")
    }
    return (
        f"Of {len(controls)} sequences with a control {counts['under-trained']} are under-trained and "
        f"{counts['unclear']} unclear.{_FAKE if any(counts.values()) else ''}"
    )


def _sensitivity(records: Sequence[Record], order: Order, scale: Scale) -> str:
    """Where the order stands by a value over many losses, in a sentence; empty if that cannot be told."""
    reading = read_softly(records, order, scale=scale)
    if reading is None:
        return ""
    behind = "" if reading.best == order else f", {reading.behind:.2f} doublings behind {reading.best}"
    return (
        f"By a value that is soft over {100 * scale.tolerance:g} points of {metric_of(records)} instead of "
        f"one tolerated loss, {order} has rank {reading.rank} of {reading.of} orders{behind}."
    )


def _provenance(law: Law, records: Sequence[Record], scale: Scale) -> list[tuple[str, str]]:
    """Say where the numbers come from, each key with all the values that occur."""
    trainings = law.trainings
    lines = [
        ("task", law.task),
        (
            "trainings",
            f"{trainings.done} done, {trainings.reused} reused, {trainings.unshared} if no two "
            "sequences shared their first stages",
        ),
        ("seeds", ", ".join(map(str, sorted({record.seed for record in records})))),
        ("knobs", "; ".join(distinct(step for record in records for step in record.sequence.split(" ")))),
        (
            "costs",
            f"MACs times bits of weights times bits of activations, {tables.CONVENTIONS[scale.convention]}",
        ),
        (
            "value",
            "of a chain at a seed: the doublings of the reduction that the front of its networks reaches "
            "within a loss, averaged over losses from half to one and a half times the tolerated one, on "
            "validation and on test images",
        ),
    ]
    lines += provenance_of(records)
    return [(name, text) for name, text in lines if text]
