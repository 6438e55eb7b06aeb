"""What a page shows of an answer at each tolerated loss, worked out beforehand: words, numbers, a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from ordercomp.analysis.answer import Answer, AnswerAt, OrderMatters, Standing
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.report.elements import tight
from ordercomp.analysis.report.tables import loss_text, probability_text
from ordercomp.analysis.report.text import AnswerWords, answer_words, cost_text, network_words, other_network
from ordercomp.analysis.showing.report.graph import precedence_svg
from ordercomp.codec import UNWRITTEN
from ordercomp.sequence import Order


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
    words = {one.loss or 0.0: answer_words(one, stages, metric=answer.metric) for one in answer.by_loss}
    words[asked] = answer_words(answer, stages)
    entries = {one.loss or 0.0: one for one in (*answer.by_loss, answer.asked)}
    return [
        _view(
            loss, entries[loss], words[loss], stages, _told(picks.get(loss, ()), answer), chosen=loss == asked
        )
        for loss in sorted(entries)
    ]


def strip_rows(views: Sequence[LossView]) -> list[StripRow]:
    """The orders that may be the best at some loss, those that are so most often first."""
    rows = [
        StripRow(
            order,
            tuple(
                "best" if order == view.recommended else "in" if order in view.best_set else ""
                for view in views
            ),
        )
        for order in sorted({order for view in views for order in view.best_set})
    ]
    return sorted(rows, key=lambda row: (-row.cells.count("best"), row.cells.count(""), row.order))


def rung_rows(answer: Answer, stages: str) -> list[tuple[str, str, str]]:
    """For each rung of the knob ladder: its knobs, the recommendation, and which orders may be best."""
    rows = []
    for entry in answer.by_rung:
        words = answer_words(entry, stages)
        rows.append((str(entry.rung), words.headline, " ".join((words.cost, words.out)).strip()))
    return rows


def _view(
    loss: float, entry: AnswerAt, words: AnswerWords, stages: str, network: Mapping[str, str], *, chosen: bool
) -> LossView:
    inside, out, orders = entry.best_set, entry.excluded, entry.standings
    longest = max((one.interval[1] for one in orders.values()), default=0.0) or 1.0
    regret = entry.regret
    told = {
        "headline": words.headline,
        "cost": words.cost,
        "out": words.out,
        "holds": words.holds,
        "expected": "–" if regret is None else _more(regret.expected),
        "upper": "–" if regret is None else _more(regret.upper95),
        "random": "–" if regret is None else _more(regret.random_order),
        "left": f"{len(inside)} of {len(inside) + len(out)}" if inside else "–",
        "matters": _matters(entry.order_matters),
    }
    return LossView(
        loss=loss,
        name=loss_text(loss),
        chosen=chosen,
        recommended=entry.recommended,
        best_set=inside,
        told={**{place: tight(text) for place, text in told.items()}, **network},
        orders={order: _cells(one, longest) for order, one in orders.items()},
        graph=precedence_svg(stages, list(entry.precedence)) if entry.precedence else Markup(),
        graph_caption=_graph_caption(entry),
    )


def _told(picks: Sequence[Pick], answer: Answer) -> dict[str, str]:
    """What the page says of the networks to take."""
    if not picks:
        return {"network": "", "command": ""}
    words = f"{picks[0].order}: {network_words(picks[0], metric=answer.metric)} {other_network(picks)}"
    return {"network": tight(words.strip()), "command": picks[0].command}


def _graph_caption(entry: AnswerAt) -> str:
    if entry.precedence:
        return "What holds in every order that may be the best."
    if entry.best_set:
        return "No pair of stages is settled: the orders that may be the best share none."
    return "No pair of stages is settled: nothing can be told at this loss."


def _cells(one: Standing, longest: float) -> Cells:
    low, high = one.interval
    return Cells(
        value=f"{one.value:.2f}",
        behind=f"{one.behind:.2f}",
        interval=f"{low:.2f} to {high:.2f}",
        chance=probability_text(one.probability_best),
        seeds=str(one.seeds),
        bar=Bar(
            low=round(max(0.0, low) / longest, 3),
            high=round(max(0.0, high) / longest, 3),
            at=round(min(max(0.0, one.behind), longest) / longest, 3),
        ),
    )


def _more(doublings: float) -> str:
    return cost_text(doublings).removeprefix("about ")


def _matters(test: OrderMatters | None) -> str:
    if test is None:
        return ""
    chance = "less than one in a million" if test.p < 1e-6 else f"{test.p:.2g}"
    spread = f"best and worst order differ by about {test.spread:.1f} doublings"
    verdict = "Order matters" if test.p < 0.05 else "That order matters is not shown"
    return f"{verdict}: {spread}; chance alone would do as much with probability {chance}."
