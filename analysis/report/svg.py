"""The picture of a page: what the networks of each order reach at each tolerated loss, as SVG."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np
from markupsafe import Markup

from ordercomp.analysis.fronts import Candidate, FloatArray, Scale, candidates, group_by_order
from ordercomp.analysis.report.elements import fill
from ordercomp.records import Record
from ordercomp.sequence import Order

LOSS_GRID: FloatArray = np.unique(np.round(np.geomspace(0.001, 0.12, 49), 5))  # tolerated losses, fractions
LEAST_LOSS = 1e-6  # where what loses nothing stands on a logarithmic axis
_SIZE = (760.0, 430.0)
_BOX = (78.0, 26.0, 684.0, 378.0)  # left, top, right, bottom
_STEP, _ROW, _RADIUS = 96, 64, 21  # of the stages in a drawing of the precedence
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Where a tolerated loss (logarithmic) and a log2 reduction stand in the picture."""

    KEYS: ClassVar = ("size", "box", "x", "y")

    x: tuple[float, float]  # log10 of the loss at both ends
    y: tuple[float, float]  # log2 reduction at both ends

    def left(self, loss: float) -> float:
        """Horizontal place of a loss; what is off the axis stands at its end."""
        share = (math.log10(max(loss, 1e-9)) - self.x[0]) / (self.x[1] - self.x[0])
        return round(_BOX[0] + min(1.0, max(0.0, share)) * (_BOX[2] - _BOX[0]), 1)

    def top(self, log2_reduction: float) -> float:
        """Vertical place of a log2 reduction."""
        share = (log2_reduction - self.y[0]) / (self.y[1] - self.y[0])
        return round(_BOX[3] - share * (_BOX[3] - _BOX[1]), 1)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture."""
        return _SIZE

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the axes in it."""
        return _BOX


def axes_of(curves: Mapping[Order, FloatArray]) -> Axes:
    """Axes that show all curves, given on `LOSS_GRID`; four doublings at least."""
    seen = np.concatenate([*curves.values(), np.zeros(1)])
    high = max(4.0, float(np.ceil(seen.max() + 0.4)))
    return Axes(x=(math.log10(LOSS_GRID[0]), math.log10(LOSS_GRID[-1])), y=(0.0, high))


def curves_svg(
    curves: Mapping[Order, FloatArray],
    *,
    axes: Axes,
    loss: float | None,
    named: Sequence[Order],
    best_set: Collection[Order],
    recommended: Order | None,
    metric: str = "accuracy",
) -> Markup:
    """Draw one curve per order, given on `LOSS_GRID` in log2 reduction, and the band of losses around `loss`.

    `named` orders are written at the end of their curve; `metric` is what is lost. The classes "inside" and
    "taken" tell those that may be best and the recommended one; colors come from the style sheet of the page.
    """
    looks = {
        order: " ".join(
            word for word, is_so in (("inside", order in best_set), ("taken", order == recommended)) if is_so
        )
        for order in curves
    }
    ends = {order: axes.top(float(curves[order][-1])) for order in named if order in curves}

    def points(curve: FloatArray) -> str:
        return " ".join(f"{axes.left(at)},{axes.top(top)}" for at, top in zip(LOSS_GRID, curve, strict=True))

    return fill(
        "curves.html.j2",
        axes=axes,
        metric=metric,
        loss=loss,
        ticks=_TICKS,
        looks=looks,
        lines=[
            (order, points(curves[order]))
            for order in sorted(curves, key=lambda order: (order == recommended, order in best_set))
        ],
        ends=[(order, ends[order], height) for order, height in _apart(ends, 15.0).items()],
    )


def _apart(tops: Mapping[Order, float], gap: float) -> dict[Order, float]:
    """Move names down to be `gap` apart, and all of them up again if they leave the picture."""
    moved: dict[Order, float] = {}
    last = -math.inf
    for order, top in sorted(tops.items(), key=lambda item: item[1]):
        last = moved[order] = max(top, last + gap)
    excess = max(0.0, last - _BOX[3])
    return {order: top - excess for order, top in moved.items()}


# The precedence of a best set as a drawing: stages from left to right, arrows for what is settled.


def precedence_svg(stages: str, precedence: Sequence[tuple[str, str]]) -> Markup:
    """Draw the pairs that hold in every order that may be best; what follows from others is left out.

    Stages that nothing orders stand below each other. Raises networkx.NetworkXError on a cycle, which the
    precedence of a set of orders cannot have.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(stages)
    graph.add_edges_from(precedence)
    layers = [sorted(layer, key=stages.index) for layer in nx.topological_generations(graph)]
    tallest = max(len(layer) for layer in layers)
    places = {
        stage: (_RADIUS + 8 + _STEP * column, _RADIUS + 8 + _ROW * (row + (tallest - len(layer)) / 2))
        for column, layer in enumerate(layers)
        for row, stage in enumerate(layer)
    }
    width = 2 * (_RADIUS + 8) + _STEP * (len(layers) - 1)
    height = 2 * (_RADIUS + 8) + _ROW * (tallest - 1)
    description = (
        ", ".join(f"{first} before {second}" for first, second in precedence) or "no pair is settled"
    )
    arrows = sorted(nx.transitive_reduction(graph).edges, key=lambda edge: tuple(map(stages.index, edge)))
    return fill(
        "precedence.html.j2",
        width=width,
        height=height,
        radius=_RADIUS,
        description=description,
        arrows=[_arrow(places[first], places[second]) for first, second in arrows],
        places=places.items(),
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> tuple[Sequence[float], ...]:
    """From the edge of one circle almost to that of the other: tail, end of the line, corners of the head."""
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    across = np.array([-along[1], along[0]])
    tail, tip = a + _RADIUS * along, b - (_RADIUS + 2) * along
    back = tip - 10 * along
    return tail, back, (tip, back + 5 * across, back - 5 * across)


# What the networks of each order reach: a curve per order over tolerated losses, and a dot per network.


def reach_curves(records: Iterable[Record], *, scale: Scale) -> dict[Order, FloatArray]:
    """The log2 reduction that each order reaches within each loss of `LOSS_GRID`, at least 0.

    Read on validation and on test images, and averaged over both and over the seeds of the order.
    """
    return {
        order: np.mean([_reached(candidates(networks, scale=scale)) for networks in by_seed.values()], axis=0)
        for order, by_seed in sorted(group_by_order(records).items())
    }


@dataclass(frozen=True, slots=True)
class Dots:
    """Operating points as columns, and the names that their numbers stand for."""

    points: Mapping[str, Sequence[float]]
    orders: tuple[Order, ...]
    sequences: tuple[str, ...]


def network_dots(records: Sequence[Record], *, scale: Scale) -> Dots:
    """Every operating point for the script of a page."""
    orders: dict[str, int] = {}
    sequences: dict[str, int] = {}
    columns: dict[str, list[float]] = {name: [] for name in ("x", "y", "order", "sequence", "seed", "lost")}
    for point in candidates(records, scale=scale):
        row = (
            round(float(np.log10(max(point.loss, LEAST_LOSS))), 3),
            round(point.log2_reduction, 2),
            orders.setdefault(point.record.order, len(orders)),
            sequences.setdefault(point.record.sequence, len(sequences)),
            point.record.seed,
            round(point.reported_loss, 4),
        )
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return Dots(columns, tuple(orders), tuple(sequences))


def _reached(points: Sequence[Candidate]) -> FloatArray:
    heights = np.array([point.log2_reduction for point in points])
    halves = [np.array([point.loss for point in points]), np.array([point.reported_loss for point in points])]
    curves = [
        np.max(np.where(losses[None] <= LOSS_GRID[:, None], heights[None], 0.0), axis=1, initial=0.0)
        for losses in halves
    ]
    mean: FloatArray = np.mean(curves, axis=0)
    return mean
