"""What a page shows of an answer at each tolerated loss, worked out beforehand: words, numbers, a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ordercomp.analysis.showing.answer_words import answer_words, cost_text
from ordercomp.analysis.showing.report.graph import precedence_svg
from ordercomp.analysis.showing.tables import loss_text, probability_text
from ordercomp.orders import Order

__all__ = ["LossView", "StripRow", "loss_views", "rung_rows", "strip_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossView:
    """The answer at one tolerated loss, every number as text."""

    loss: float
    name: str  # the loss as text
    chosen: bool  # whether the page opens with it
    recommended: Order | None
    best_set: tuple[Order, ...]
    told: Mapping[str, str]  # by place in the page
    orders: Mapping[Order, Mapping[str, Any]]  # cells and bar of each order
    graph: Markup
    graph_caption: str

    def to_json(self) -> dict[str, Any]:
        """The same for the script of the page, without the graph, which is in the page."""
        return {
            "loss": self.loss,
            "recommended": self.recommended,
            "best_set": self.best_set,
            "told": self.told,
            "orders": self.orders,
        }


@dataclass(frozen=True, slots=True)
class StripRow:
    """One order across the losses: "best" where it is recommended, "in" where it may be the best, else ""."""

    order: Order
    cells: tuple[str, ...]


def loss_views(answer: Mapping[str, Any], stages: str, commands: Mapping[float, str]) -> list[LossView]:
    """One view for every loss that the answer tells, in rising order; its own loss is the chosen one.

    `commands` gives the command line of the network to take at a loss, as far as there is one.
    """
    named = {key: answer[key] for key in ("metric",) if key in answer}
    entries: dict[float, Mapping[str, Any]] = {
        one["loss"]: {**one, **named} for one in answer.get("by_loss", ())
    }
    entries[answer["loss"]] = answer
    return [
        _view(entries[loss], stages, commands.get(loss, ""), chosen=loss == answer["loss"])
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


def rung_rows(answer: Mapping[str, Any], stages: str) -> list[tuple[str, str, str]]:
    """For each rung of the knob ladder: its knobs, the recommendation, and which orders may be best."""
    rows = []
    for entry in answer.get("by_rung", ()):
        words = answer_words(entry, stages)
        rows.append((str(entry["rung"]), words.headline, " ".join((words.cost, words.out)).strip()))
    return rows


def _view(entry: Mapping[str, Any], stages: str, command: str, *, chosen: bool) -> LossView:
    words = answer_words(entry, stages)
    best_set = tuple(entry["best_set"])
    orders = entry.get("orders", {})
    longest = max((float(one["interval"][1]) for one in orders.values()), default=0.0) or 1.0
    regret = entry["regret"] or {}
    told = {
        "headline": words.headline,
        "cost": words.cost,
        "out": words.out,
        "holds": words.holds,
        "command": command,
        "expected": _more(regret.get("expected")),
        "upper": _more(regret.get("upper95")),
        "random": _more(regret.get("random_order")),
        "left": f"{len(best_set)} of {len(best_set) + len(entry['excluded'])}" if best_set else "–",
        "matters": _matters(entry.get("order_matters")),
    }
    return LossView(
        loss=entry["loss"],
        name=loss_text(entry["loss"]),
        chosen=chosen,
        recommended=entry["recommended"],
        best_set=best_set,
        told=told,
        orders={order: _cells(one, longest) for order, one in orders.items()},
        graph=precedence_svg(stages, [(first, second) for first, second in entry["precedence"] or ()]),
        graph_caption=_graph_caption(entry),
    )


def _graph_caption(entry: Mapping[str, Any]) -> str:
    if entry["precedence"]:
        return "What holds in every order that may be the best."
    if entry["best_set"]:
        return "No pair of stages is settled: the orders that may be the best share none."
    return "No pair of stages is settled: nothing can be told at this loss."


def _cells(one: Mapping[str, Any], longest: float) -> dict[str, Any]:
    low, high = one["interval"]
    return {
        "value": f"{one['value']:.2f}",
        "behind": f"{one['behind']:.2f}",
        "interval": f"{low:.2f} to {high:.2f}",
        "chance": probability_text(one["probability_best"]),
        "seeds": str(one["seeds"]),
        "bar": {
            "low": round(max(0.0, low) / longest, 3),
            "high": round(max(0.0, high) / longest, 3),
            "at": round(min(max(0.0, one["behind"]), longest) / longest, 3),
        },
    }


def _more(doublings: float | None) -> str:
    return "–" if doublings is None else cost_text(doublings).removeprefix("about ")


def _matters(test: Mapping[str, Any] | None) -> str:
    if not test:
        return ""
    p = test["p"]
    chance = "less than one in a million" if p < 1e-6 else f"{p:.2g}"
    spread = f"best and worst order differ by about {test['spread']:.1f} doublings"
    verdict = "Order matters" if p < 0.05 else "That order matters is not shown"
    return f"{verdict}: {spread}; chance alone would do as much with probability {chance}."
