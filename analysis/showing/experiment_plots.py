"""Pictures of the experiments: panels of fronts, paths from network to network, and claims with intervals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ordercomp.analysis.fronts import DEFAULT_SCALE, Candidate, Scale, candidates, front
from ordercomp.analysis.fronts.attainment import attainment_surface
from ordercomp.analysis.fronts.pareto import FloatArray
from ordercomp.analysis.report.plots import BLUE, BROWN, GREEN, GREY, INK, ORANGE, RED, SLATE, STYLE
from ordercomp.records import Record, metric_of
from ordercomp.sequence import Order

COLORS = (BLUE, RED, GREEN, ORANGE, BROWN, SLATE, INK)
MARKERS = ("o", "s", "^", "v", "D", "P", "X")
VERDICT_COLORS: Mapping[str, str] = {"agree": BLUE, "disagree": RED, "true by construction": BROWN}
MOST_LOST = 0.3  # accuracy below the baseline, a fraction, where a panel ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot of accuracy against reduction, with a front per named series."""

    title: str
    series: Mapping[str, Sequence[Record]]  # drawn in this order, in the same looks in every panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Networks that follow from one another; each is the median over its seeds."""

    name: str
    steps: Sequence[tuple[str, Sequence[Record]]]  # label and records, from the first network on


def panels_plot(panels: Sequence[Panel], *, scale: Scale = DEFAULT_SCALE) -> Figure:
    """Draw one panel per entry, three in a row: a marker for every operating point on its network's front.

    A line joins the median front over the seeds of a series. Points that lose more than 30 points of
    accuracy are cut off, unless a panel has nothing else. Panels without records stay empty.
    """
    columns = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    width, height = (4.3 * columns, 3.5 * rows) if columns > 1 else (7.0, 4.6)
    metric = metric_of(one for panel in panels for some in panel.series.values() for one in some)
    figure = _figure(width, height, pad=0.1)
    with mpl.rc_context(STYLE):
        every = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(every.flat):
        if place >= len(panels):
            axes.set_axis_off()
            continue
        _draw_panel(axes, panels[place], scale)
        if place % columns == 0:
            axes.set_ylabel(f"{metric} on {scale.split} data")
        if place + columns >= len(panels):
            axes.set_xlabel("reduction of bit operations")
    return figure


def paths_plot(paths: Sequence[Path], *, scale: Scale = DEFAULT_SCALE) -> Figure:
    """Draw how accuracy and reduction move from network to network along each path.

    A network stands at the geometric mean reduction and mean accuracy of its seeds, at its
    cheapest operating point within two points of its best accuracy: its only one if it has no exits.
    """
    figure = _figure(8.6, 4.8)
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
    for place, path in enumerate(paths):
        color, marker = _look(place)
        reached = [(label, _middle(some, scale)) for label, some in path.steps if _has_points(some)]
        if not reached:
            continue
        spots = np.array([spot for _, spot in reached])
        axes.plot(*spots.T, color=color, linewidth=1.4, alpha=0.8)
        axes.plot(*spots.T, marker, color=color, markersize=7, linestyle="", label=path.name)
        for label, spot in reached:
            axes.annotate(label, spot, xytext=(5, 5), textcoords="offset points", fontsize=9, color=color)
    _frame(axes)
    metric = metric_of(one for path in paths for _, some in path.steps for one in some)
    axes.set(xlabel="reduction of bit operations", ylabel=f"{metric} on {scale.split} data")
    if paths:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def claims_plot(claims: Sequence[tuple[str, str, float, tuple[float, float] | None]]) -> Figure:
    """Draw claims as (name, verdict, effect in doublings, interval or None), the first on top."""
    figure = _figure(8.6, 1.1 + 0.34 * max(1, len(claims)))
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, (_, verdict, effect, interval) in enumerate(claims):
        color = VERDICT_COLORS.get(verdict, SLATE)
        if interval is not None:
            axes.plot(interval, [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
        axes.plot(effect, row, "o", color=color, markersize=7, zorder=4)
        axes.annotate(verdict, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=color)
    axes.set_yticks(range(len(claims)), [name for name, *_ in claims])
    axes.set_ylim(len(claims) - 0.4, -0.6)
    axes.set_xlabel("value in doublings; to the right speaks for the claim")
    axes.grid(axis="y", visible=False)
    return figure


def loss_plot(curves: Mapping[Order, Sequence[tuple[float, float]]]) -> Figure:
    """Draw the value of each order, in doublings, against the tolerated loss, a fraction.

    Orders that are the best at some loss, with at least a tenth of a doubling, are drawn in color and named.
    """
    figure = _figure(8.6, 4.4)
    axes = figure.add_subplot()
    losses = sorted({loss for curve in curves.values() for loss, _ in curve})
    values = {order: dict(curve) for order, curve in curves.items()}
    best = [max(values, key=lambda order: values[order].get(loss, -np.inf)) for loss in losses]
    leaders = list(
        dict.fromkeys(
            order for order, loss in zip(best, losses, strict=True) if values[order].get(loss, 0.0) > 0.1
        )
    )
    for order in [*(one for one in curves if one not in leaders), *leaders]:
        leads = order in leaders
        color, marker = _look(leaders.index(order)) if leads else (GREY, "")
        points = sorted(curves[order])
        axes.plot(
            [100 * loss for loss, _ in points],
            [value for _, value in points],
            marker=marker,
            color=color,
            linewidth=2.4 if leads else 0.9,
            label=order if leads else None,
        )
    axes.set_xscale("log")
    axes.set_xticks([100 * loss for loss in losses], [f"{100 * loss:g}" for loss in losses])
    axes.minorticks_off()
    axes.set(xlabel="tolerated loss of accuracy, %", ylabel="value in doublings")
    if leaders:
        axes.legend(frameon=False, fontsize=9)
    return figure


def _figure(width: float, height: float, *, pad: float | None = None) -> Figure:
    """An empty figure in inches, with `pad` above and below each plot; None: as usual."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=pad))


def _draw_panel(axes: Axes, panel: Panel, scale: Scale) -> None:
    axes.set_axisbelow(True)
    axes.set_title(panel.title, fontsize=11)
    every = candidates([record for some in panel.series.values() for record in some], scale=scale)
    seen = [one for one in every if one.reported_loss <= MOST_LOST] or every
    for place, (name, some) in enumerate(panel.series.items()):
        color, marker = _look(place)
        _draw_series(axes, some, scale, color=color, marker=marker, name=name)
    if not seen:
        return
    baseline = float(np.mean([one.reported_accuracy + one.reported_loss for one in seen]))
    axes.axhline(baseline, color=GREY, linewidth=1.0, linestyle=(0, (6, 4)))
    low, high = (
        min(one.reported_accuracy for one in seen),
        max(baseline, *(s.reported_accuracy for s in seen)),
    )
    axes.set_ylim(low - 0.06 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
    _frame(axes)
    axes.legend(frameon=False, fontsize=9, loc="best")


def _draw_series(
    axes: Axes,
    records: Sequence[Record],
    scale: Scale,
    *,
    color: str,
    marker: str,
    name: str,
) -> None:
    """Every network's own front as faint markers, the median front over the seeds as a line."""
    own = [one for record in records for one in front([record], scale=scale)]
    if not own:
        return
    dots = np.array([(one.bitops_cr, one.reported_accuracy) for one in own])
    axes.plot(*dots.T, marker, color=color, markersize=4, alpha=0.45, markeredgewidth=0)
    line = _median_front(records, scale)
    axes.plot(*line.T, marker, color=color, markersize=5, linestyle="-", linewidth=1.4, label=name)


def _median_front(records: Sequence[Record], scale: Scale) -> FloatArray:
    """What half of the seeds attain with their fronts: reductions and accuracies by rising reduction."""
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_seed[record.seed].append(record)
    fronts = [chosen for some in by_seed.values() if (chosen := front(some, scale=scale))]
    costs = [np.array([(-one.bitops_cr, -one.reported_accuracy) for one in chosen]) for chosen in fronts]
    surface: FloatArray = -attainment_surface(costs, 0.5)[::-1]
    return surface


def _look(place: int) -> tuple[str, str]:
    """Color and marker of a series; after each round of colors the markers move on by one."""
    turn, color = divmod(place, len(COLORS))
    return COLORS[color], MARKERS[(color + turn) % len(MARKERS)]


def _frame(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    span = np.log2(high / low)
    axes.xaxis.set_major_locator(LogLocator(2, subs=(1.0,) if span > 3 else (1.0, 1.5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_times))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def _times(value: float, _place: int | None = None) -> str:
    return f"{value:.3g}×" if value < 100 else f"{value:.0f}×"


def _has_points(records: Sequence[Record]) -> bool:
    return any(record.points for record in records)


def _middle(records: Sequence[Record], scale: Scale) -> tuple[float, float]:
    """Geometric mean reduction and mean accuracy over seeds, each network at one operating point."""
    by_seed: dict[int, list[Candidate]] = defaultdict(list)
    for record in records:
        found = candidates([record], scale=scale)
        if found:
            allowed = max(one.accuracy for one in found) - 0.02
            by_seed[record.seed].append(
                max((one for one in found if one.accuracy >= allowed), key=lambda one: one.bitops_cr)
            )
    chosen = [one for some in by_seed.values() for one in some]
    reduction = 2.0 ** float(np.mean([one.log2_reduction for one in chosen]))
    return reduction, float(np.mean([one.reported_accuracy for one in chosen]))
