"""The picture of a page: what the networks of each order reach at each tolerated loss, as SVG."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from markupsafe import Markup, escape

from ordercomp.analysis.fronts.pareto import FloatArray
from ordercomp.sequence import Order

LOSS_GRID: FloatArray = np.unique(np.round(np.geomspace(0.001, 0.12, 49), 5))  # tolerated losses, fractions
_SIZE = (760.0, 430.0)
_BOX = (78.0, 26.0, 684.0, 378.0)  # left, top, right, bottom
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
    parts = [
        f'<svg class="curves" viewBox="0 0 {_SIZE[0]:g} {_SIZE[1]:g}" role="img" '
        'aria-label="log2 reduction of bit operations against tolerated loss, one curve per order">',
        _grid(axes, metric),
    ]
    if loss is not None:
        low, at, high = axes.left(loss / 2), axes.left(loss), axes.left(1.5 * loss)
        parts += [
            f'<rect class="band" x="{low}" y="{_BOX[1]}" width="{high - low:.1f}" '
            f'height="{_BOX[3] - _BOX[1]}"/>',
            f'<line class="at" x1="{at}" x2="{at}" y1="{_BOX[1]}" y2="{_BOX[3]}"/>',
        ]
    for order in sorted(curves, key=lambda one: (one == recommended, one in best_set)):
        curve = curves[order]
        places = " ".join(
            f"{axes.left(at)},{axes.top(height)}" for at, height in zip(LOSS_GRID, curve, strict=True)
        )
        parts.append(
            f'<g class="{looks[order]}" data-order="{escape(order)}"><title>{escape(order)}</title>'
            f'<polyline class="reach" points="{places}"/><polyline class="curve" points="{places}"/></g>'
        )
    ends = {order: axes.top(float(curves[order][-1])) for order in named if order in curves}
    heights = _apart(ends, 15.0)
    parts += [
        f'<line class="leader {looks[order]}" data-order="{escape(order)}" '
        f'x1="{_BOX[2]}" x2="{_BOX[2] + 14}" y1="{ends[order]}" y2="{height:.1f}"/>'
        f'<text class="name {looks[order]}" data-order="{escape(order)}" '
        f'x="{_BOX[2] + 17}" y="{height + 4:.1f}">'
        f"{escape(order)}</text>"
        for order, height in heights.items()
    ]
    return Markup("".join(parts) + "</svg>")  # every text in it was escaped


def _grid(axes: Axes, metric: str) -> str:
    lines = []
    steps = range(0, int(axes.y[1]) + 1, 2 if axes.y[1] > 7 else 1)
    for step in steps:
        top = axes.top(step)
        lines.append(f'<line class="grid" x1="{_BOX[0]}" x2="{_BOX[2]}" y1="{top}" y2="{top}"/>')
        lines.append(
            f'<text class="tick" text-anchor="end" x="{_BOX[0] - 8}" y="{top + 4}">{2**step}×</text>'
        )
    for loss in _TICKS:
        left = axes.left(loss)
        lines.append(f'<line class="grid" x1="{left}" x2="{left}" y1="{_BOX[1]}" y2="{_BOX[3]}"/>')
        lines.append(
            f'<text class="tick" text-anchor="middle" x="{left}" y="{_BOX[3] + 20}">{100 * loss:g} %</text>'
        )
    middle = (_BOX[0] + _BOX[2]) / 2
    lines.append(f'<text class="axis" x="2" y="{_BOX[1] - 12}">times fewer bit operations</text>')
    lines.append(
        f'<text class="axis" text-anchor="middle" x="{middle}" y="{_SIZE[1] - 6}">'
        f"tolerated loss of {escape(metric)}</text>"
    )
    return "".join(lines)


def _apart(tops: Mapping[Order, float], gap: float) -> dict[Order, float]:
    """Move names down to be `gap` apart, and all of them up again if they leave the picture."""
    moved: dict[Order, float] = {}
    last = -math.inf
    for order, top in sorted(tops.items(), key=lambda item: item[1]):
        last = moved[order] = max(top, last + gap)
    excess = max(0.0, last - _BOX[3])
    return {order: top - excess for order, top in moved.items()}
