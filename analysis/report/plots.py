"""Pictures of results, as matplotlib figures that belong to no window and touch no global state.

Colors are those of Okabe and Ito (2008), told apart by color-blind readers; everything is labeled where it
stands. Sizes suit a page about 900 pixels wide.
"""

import io
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ordercomp.analysis.fronts import (
    DEFAULT_SCALE,
    Candidate,
    FloatArray,
    Scale,
    attainment_surface,
    candidates,
    front,
    front_value,
    group_by_order,
    group_by_seed,
)
from ordercomp.analysis.law import Law
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.ranking import RankedOrder
from ordercomp.analysis.report.tables import loss_text, probability_text, times_text, verdict_text
from ordercomp.analysis.statistics import kendall_tau
from ordercomp.records import Record, metric_of
from ordercomp.sequence import Order, kendall_distance

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
BROWN, GREY, SLATE, INK = "#9A6700", "#B8BEC6", "#6E7781", "#22272E"
COLORS = (BLUE, RED, GREEN, ORANGE, BROWN, SLATE, INK)  # of series
MARKERS = ("o", "s", "^", "v", "D", "P", "X")
ROLES: Mapping[str, str] = {"law": BLUE, "best guess": BLUE, "best": GREEN, "worst": RED}  # others are brown
VERDICT_COLORS: Mapping[str, str] = {"agree": BLUE, "disagree": RED, "true by construction": BROWN}
PAIR_LOOKS: Mapping[str, tuple[str, str]] = {  # color and marker by verdict; others are slate dots
    "before": (BLUE, "o"),
    "after": (RED, "o"),
    "tied": (GREEN, "D"),
    "conditional": (BROWN, "s"),
}
MOST_ROWS = 30  # orders in the ranking plot; of more, the best and the worst half are shown
MOST_LOST = 0.3  # accuracy below the baseline, a fraction, where a panel ends
STYLE: Any = {  # what matplotlib calls rcParams
    "axes.edgecolor": "#8B949E",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11.0,
    "grid.color": "#E6E9ED",
    "grid.linewidth": 0.8,
    "svg.hashsalt": "ordercomp",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same for the same figure."""
    file = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def pareto_plot(
    records: Iterable[Record], *, highlights: Mapping[Order, str], scale: Scale = DEFAULT_SCALE
) -> Figure:
    """Draw accuracy against reduction: per order the median front over its seeds.

    `highlights` maps orders to their role ("law", "best guess", "best", "worst"); the dots of their single
    seeds are shown too, all other orders stay grey. What loses over three times the tolerance is cut off.
    """
    every = list(records)
    figure, axes = _canvas(8.6, 5.0)
    colors = _colors(highlights)
    by_order = group_by_order(every)
    shown: list[Candidate] = []
    shapes = {}
    for order in sorted(by_order, key=lambda order: (order in colors, order)):
        fronts = _fronts(by_order[order], scale)
        if fronts:
            shown += itertools.chain.from_iterable(fronts)
            shapes[order] = _draw_front(axes, fronts, colors.get(order))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set(
        xlabel=f"reduction of bit operations{'' if scale.convention == 'paper' else f', {scale.convention}'}",
        ylabel=f"{metric_of(every)} on {scale.split} data",
    )
    if shown:
        _frame_fronts(axes, shown, scale)
    labels = {order: f"{order} ({role})" for order, role in highlights.items()}
    _label_ends(axes, [(shape, labels[o], colors[o]) for o, shape in shapes.items() if o in labels])
    return figure


def precedence_plot(law: Law) -> Figure:
    """Draw the precedence of a law: stages in a row in the likeliest order, one arc per pair.

    A decided arc is solid, with the probability of its direction; undecided ones are dashed, tied ones
    dotted, conditional ones brown. A decided arc against the row is red and runs below it.
    """
    row = law.law or law.kemeny or law.stages
    figure, axes = _canvas(max(6.0, 1.9 * len(row)), 0.8 + 0.62 * len(row))
    backward = 0.0
    for pair in law.pairs:
        backward = min(backward, _draw_arc(axes, pair, row))
    for place, stage in enumerate(row):
        axes.plot(
            place, 0, "o", markersize=34, color="white", markeredgecolor=INK, markeredgewidth=1.6, zorder=4
        )
        axes.text(place, 0, stage, ha="center", va="center_baseline", fontsize=16, weight="bold", zorder=5)
    axes.set(xlim=(-0.4, len(row) - 0.6), ylim=(backward - 0.35, 0.45 * len(row) - 0.2), aspect="equal")
    axes.set_axis_off()
    return figure


def pair_plot(pairs: Sequence[Evidence], *, margin: float | None = None) -> Figure:
    """Draw the effect of every pair with its interval, and small dots for its groups of contexts.

    `margin` shades the region of practical equivalence, in doublings. Pairs lie in the order given.
    """
    figure, axes = _canvas(8.6, 1.2 + 0.5 * len(pairs))
    if margin:
        axes.axvspan(-margin, margin, color="#EEF1F4", zorder=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    for place, pair in enumerate(pairs):
        color, marker = PAIR_LOOKS.get(pair.verdict, (SLATE, "o"))
        axes.plot(pair.effect.interval, [place, place], color=color, linewidth=2.6, solid_capstyle="butt")
        axes.plot(pair.effect.mean, place, marker, color=color, markersize=8, zorder=4)
        groups = [group.effect.mean for group in pair.groups or ()]
        axes.plot(groups, [place + 0.27] * len(groups), ".", color=GREY, markersize=5)
        note = ", under-trained" if pair.under_trained else ""
        _write_beside(axes, place, f"{verdict_text(pair)}{note}", color)
    _name_rows(axes, [f"{pair.first}, {pair.second}" for pair in pairs])
    axes.set_xlabel(
        "← second stage earlier is better     value in doublings     first stage earlier is better →"
    )
    return figure


def ranking_plot(ranking: Sequence[RankedOrder], *, highlights: Mapping[Order, str]) -> Figure:
    """Draw every order's value: a dot per seed, a bar for the mean; the best order on top.

    Of more than 30 orders the best and worst 15 are shown, and the highlighted ones wherever they are.
    """
    half = MOST_ROWS // 2
    shown = [
        (place, ranked)
        for place, ranked in enumerate(ranking, start=1)
        if place <= half
        or place > len(ranking) - half
        or len(ranking) <= MOST_ROWS
        or ranked.order in highlights
    ]
    colors = _colors(highlights)
    figure, axes = _canvas(8.6, 1.1 + 0.24 * len(shown))
    for row, (_, ranked) in enumerate(shown):
        color = colors.get(ranked.order, SLATE)
        values = list(ranked.values.values())
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.45, markersize=5, markeredgewidth=0)
        axes.plot([ranked.value] * 2, [row - 0.33, row + 0.33], color=color, linewidth=3)
        if ranked.order in highlights:
            _write_beside(axes, row, highlights[ranked.order], color)
    _name_rows(axes, [f"{ranked.order}  {place}" for place, ranked in shown])
    axes.set_xlabel("value in doublings: dots are seeds, bars their mean")
    return figure


def distance_plot(ranking: Sequence[RankedOrder], *, law: Order) -> Figure:
    """Draw the value of every order against its Kendall distance from `law`, and say how they correlate."""
    figure, axes = _canvas(8.6, 4.2)
    columns: dict[int, list[RankedOrder]] = defaultdict(list)
    for ranked in ranking:
        columns[kendall_distance(ranked.order, law)].append(ranked)
    gap = 0.045 * (ranking[0].value - ranking[-1].value) if ranking else 0.0
    for distance, column in columns.items():
        values = [ranked.value for ranked in column]
        color = BLUE if distance == 0 else SLATE
        axes.plot([distance] * len(values), values, "o", color=color, markersize=6, alpha=0.8)
        axes.plot(
            [distance - 0.09, distance + 0.09], [np.mean(values)] * 2, color=ORANGE, linewidth=3, zorder=4
        )
        if len(ranking) <= MOST_ROWS:
            for ranked, height in zip(column, _apart(values, gap), strict=True):
                axes.text(distance + 0.13, height, ranked.order, va="center", fontsize=8.5, color=color)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.3, max(columns, default=0) + 0.75)
    distances = [kendall_distance(ranked.order, law) for ranked in ranking]
    tau = kendall_tau(distances, [ranked.value for ranked in ranking])
    correlation = f"   (Kendall's τ {tau:+.2f})" if np.isfinite(tau) else ""
    axes.set(xlabel=f"swaps of neighbors away from {law}{correlation}", ylabel="value in doublings")
    return figure


def progress_plot(records: Sequence[Record], *, scale: Scale = DEFAULT_SCALE) -> Figure:
    """Draw the value of the front of all networks trained so far against their number, in record order."""
    figure, axes = _canvas(8.6, 3.4)
    counts = np.unique(np.linspace(0, len(records), min(len(records), 200) + 1).round().astype(int))
    networks: list[Record] = []
    values = []
    for before, count in zip([0, *counts[:-1].tolist()], counts.tolist(), strict=True):
        useful = front([*networks, *records[before:count]], scale=scale)
        networks = list({id(point.record): point.record for point in useful}.values())
        values.append(front_value(networks, scale=scale))
    axes.step(counts, values, where="post", color=BLUE, linewidth=2.2)
    axes.set(xlabel="networks trained", ylabel="value of the front, in doublings", xlim=(0, len(records)))
    axes.set_ylim(bottom=0)
    return figure


def search_plot(
    records: Sequence[Record], *, highlights: Mapping[Order, str], scale: Scale, most_loss: float
) -> Figure:
    """Draw the fronts of the orders, and over them that of all together, as far as somebody would go.

    Points that lose more than `most_loss`, a fraction, are left out if there is one that loses less. Dotted
    lines mark the losses of 1 % and 2 %. Otherwise as `pareto_plot`.
    """
    joint = front(records, scale=scale)
    wanted = [point for point in joint if point.loss <= most_loss]
    near = [_without_far_points(record, most_loss) for record in records] if wanted else records
    wanted = wanted or joint
    figure = pareto_plot(near, highlights=highlights, scale=scale)
    axes = figure.axes[0]
    reductions, accuracies = [point.bitops_cr for point in wanted], [point.accuracy for point in wanted]
    axes.step(reductions, accuracies, where="pre", color=ORANGE, linewidth=2.8, zorder=3)
    baseline = sum(point.accuracy + point.loss for point in wanted) / len(wanted)
    for loss in (0.01, 0.02):
        axes.axhline(baseline - loss, color=GREY, linewidth=0.8, linestyle=(0, (2, 4)), zorder=0)
        place = (0.01, baseline - loss)
        text = f"−{loss_text(loss)}"
        axes.annotate(text, place, xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    return figure


def _without_far_points(record: Record, most_loss: float) -> Record:
    least = record.baseline.accuracy - most_loss
    return replace(record, points=tuple(point for point in record.points if point.accuracy >= least))


def _figure(width: float, height: float, *, pad: float | None = None) -> Figure:
    """An empty figure in inches, with `pad` above and below each plot; None: as usual."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=pad))


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    with mpl.rc_context(STYLE):
        axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a plot, the first on top, without lines across them."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _write_beside(axes: Axes, row: int, text: str, color: str) -> None:
    axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=color)


def _colors(highlights: Mapping[Order, str]) -> dict[Order, str]:
    return {order: ROLES.get(role.split(",")[0], BROWN) for order, role in highlights.items()}


def _fronts(by_seed: Mapping[int, Sequence[Record]], scale: Scale) -> list[list[Candidate]]:
    """The fronts of those seeds that have any point."""
    return [points for records in by_seed.values() if (points := front(records, scale=scale))]


def _median_front(fronts: Sequence[Sequence[Candidate]]) -> FloatArray:
    """What half of the fronts attain: reductions and accuracies, shape (points, 2), by rising reduction."""
    costs = [
        np.array([(-point.bitops_cr, -point.reported_accuracy) for point in points]) for points in fronts
    ]
    surface: FloatArray = -attainment_surface(costs, 0.5)[::-1]
    return surface


def _draw_front(axes: Axes, fronts: Sequence[Sequence[Candidate]], color: str | None) -> FloatArray:
    """Draw one order and return the points of its median front by rising reduction.

    Without exits a seed has a single point, and the mean point stands for the front.
    """
    dots = np.array([(point.bitops_cr, point.reported_accuracy) for points in fronts for point in points])
    if all(len(points) == 1 for points in fronts):
        shape = np.array([[2 ** np.log2(dots[:, 0]).mean(), dots[:, 1].mean()]])
    else:
        shape = _median_front(fronts)
    size, width, layer = (4.0, 1.0, 2) if color is None else (5.0, 2.4, 4)
    if color is not None:
        axes.plot(*dots.T, "o", color=color, markersize=4, alpha=0.35, markeredgewidth=0, zorder=3)
    axes.step(*shape.T, where="pre", color=color or GREY, linewidth=width, zorder=layer)
    axes.plot(*shape.T, "o", color=color or GREY, markersize=size, markeredgewidth=0, zorder=layer)
    return shape


def _frame_fronts(axes: Axes, shown: Sequence[Candidate], scale: Scale) -> None:
    """Mark the baseline, and leave out what loses too much to matter; at least a factor 4 is spanned."""
    baseline = float(np.mean([point.reported_accuracy + point.reported_loss for point in shown]))
    seen = [point for point in shown if point.reported_loss <= 3 * scale.tolerance] or list(shown)
    low = min(point.reported_accuracy for point in seen)
    high = max(baseline, *(point.reported_accuracy for point in seen))
    axes.set_ylim(low - 0.04 * (high - low), high + 0.08 * (high - low))
    ends = np.log2([min(point.bitops_cr for point in seen), max(point.bitops_cr for point in seen)])
    span = max(2.0, float(ends[1] - ends[0]))
    middle = float(ends.mean())
    _scale_reductions(axes, fine=span <= 4)
    axes.set_xlim(2 ** (middle - 0.55 * span), 2 ** (middle + 0.75 * span))
    axes.axhline(baseline, color=INK, linewidth=0.9, linestyle=(0, (6, 4)))
    axes.annotate(
        "baseline", (0.99, baseline), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=10
    )


def _label_ends(axes: Axes, fronts: Sequence[tuple[FloatArray, str, str]]) -> None:
    """Write each front's label beside its last point in view, above the axis and legible over other lines."""
    low, high = axes.get_ylim()
    seen = [(shape[shape[:, 1] >= low], text, color) for shape, text, color in fronts]
    ends = [(*shape[-1], text, color) for shape, text, color in seen if len(shape)]
    gap = 0.06 * (high - low)
    heights = _apart([end[1] for end in ends], gap)
    heights = np.maximum(heights, low + gap * (0.6 + np.argsort(np.argsort(heights))))
    halo = [withStroke(linewidth=3.5, foreground="white")]
    for (x, _, text, color), height in zip(ends, heights, strict=True):
        axes.annotate(text, (x * 1.06, height), color=color, va="center", weight="bold", path_effects=halo)


def _draw_arc(axes: Axes, pair: Evidence, row: Order) -> float:
    """Draw one pair and return the lowest height that it reaches."""
    first, second, probability = pair.first, pair.second, pair.effect.probability
    if pair.verdict == "after" or (pair.verdict != "before" and row.index(first) > row.index(second)):
        first, second, probability = second, first, 1 - probability
    start, end = row.index(first), row.index(second)
    rise = 0.45 * (end - start)  # arcs are parabolas whose top is as high as `rad` says, on equal axes
    color = {"conditional": BROWN}.get(pair.verdict, (BLUE if rise > 0 else RED) if pair.decided else SLATE)
    style = {"undecided": (0, (5, 4)), "tied": (0, (1, 2.5))}.get(pair.verdict, "-")
    head = "-|>,head_width=4,head_length=8" if pair.decided else "-"
    arc = FancyArrowPatch(
        (start, 0),
        (end, 0),
        connectionstyle="arc3,rad=-0.9",
        arrowstyle=head,
        shrinkA=18,
        shrinkB=18,
        color=color,
        linestyle=style,
        linewidth=1.8,
    )
    axes.add_patch(arc)
    words = {"tied": "tied", "conditional": "depends"}.get(pair.verdict, probability_text(probability))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text((start + end) / 2, rise, words, ha="center", va="center", color=color, fontsize=10, bbox=box)
    return rise


def _apart(heights: Sequence[float], gap: float) -> FloatArray:
    """Move heights as little as needed for neighbors to be `gap` apart, keeping their order."""
    order = np.argsort(heights)
    blocks: list[tuple[float, int]] = []  # sum of heights less their offsets, count
    for rank, height in enumerate(np.asarray(heights, dtype=np.float64)[order].tolist()):
        total, count = height - rank * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            total, count = total + blocks[-1][0], count + blocks.pop()[1]
        blocks.append((total, count))
    level = np.concatenate([np.full(count, total / count) for total, count in blocks] or [np.empty(0)])
    moved = np.empty(len(level))
    moved[order] = level + gap * np.arange(len(level))
    return moved


# Pictures of the experiments: panels of fronts, paths from network to network, and claims with intervals.


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
    metric = metric_of(record for panel in panels for records in panel.series.values() for record in records)
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
    figure, axes = _canvas(8.6, 4.8)
    for place, path in enumerate(paths):
        color, marker = _style(place)
        reached = [
            (label, _mean_point(records, scale))
            for label, records in path.steps
            if any(record.points for record in records)
        ]
        if not reached:
            continue
        spots = np.array([spot for _, spot in reached])
        axes.plot(*spots.T, color=color, linewidth=1.4, alpha=0.8)
        axes.plot(*spots.T, marker, color=color, markersize=7, linestyle="", label=path.name)
        for label, spot in reached:
            axes.annotate(label, spot, xytext=(5, 5), textcoords="offset points", fontsize=9, color=color)
    _frame(axes)
    metric = metric_of(record for path in paths for _, records in path.steps for record in records)
    axes.set(xlabel="reduction of bit operations", ylabel=f"{metric} on {scale.split} data")
    if paths:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def claims_plot(claims: Sequence[tuple[str, str, float, tuple[float, float] | None]]) -> Figure:
    """Draw claims as (name, verdict, effect in doublings, interval or None), the first on top."""
    figure, axes = _canvas(8.6, 1.1 + 0.34 * max(1, len(claims)))
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, (_, verdict, effect, interval) in enumerate(claims):
        color = VERDICT_COLORS.get(verdict, SLATE)
        if interval is not None:
            axes.plot(interval, [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
        axes.plot(effect, row, "o", color=color, markersize=7, zorder=4)
        _write_beside(axes, row, verdict, color)
    _name_rows(axes, [name for name, *_ in claims])
    axes.set_xlabel("value in doublings; to the right speaks for the claim")
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
    for order in [*(order for order in curves if order not in leaders), *leaders]:
        leads = order in leaders
        color, marker = _style(leaders.index(order)) if leads else (GREY, "")
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


def _draw_panel(axes: Axes, panel: Panel, scale: Scale) -> None:
    axes.set_axisbelow(True)
    axes.set_title(panel.title, fontsize=11)
    every = candidates([record for records in panel.series.values() for record in records], scale=scale)
    seen = [point for point in every if point.reported_loss <= MOST_LOST] or every
    for place, (name, records) in enumerate(panel.series.items()):
        color, marker = _style(place)
        _draw_series(axes, records, scale, color=color, marker=marker, name=name)
    if not seen:
        return
    baseline = float(np.mean([point.reported_accuracy + point.reported_loss for point in seen]))
    axes.axhline(baseline, color=GREY, linewidth=1.0, linestyle=(0, (6, 4)))
    low, high = (
        min(point.reported_accuracy for point in seen),
        max(baseline, *(s.reported_accuracy for s in seen)),
    )
    axes.set_ylim(low - 0.06 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
    _frame(axes)
    axes.legend(frameon=False, fontsize=9, loc="best")


def _draw_series(
    axes: Axes, records: Sequence[Record], scale: Scale, *, color: str, marker: str, name: str
) -> None:
    """Every network's own front as faint markers, the median front over the seeds as a line."""
    own = [point for record in records for point in front([record], scale=scale)]
    if not own:
        return
    dots = np.array([(point.bitops_cr, point.reported_accuracy) for point in own])
    axes.plot(*dots.T, marker, color=color, markersize=4, alpha=0.45, markeredgewidth=0)
    line = _median_front(_fronts(group_by_seed(records), scale))
    axes.plot(*line.T, marker, color=color, markersize=5, linestyle="-", linewidth=1.4, label=name)


def _style(place: int) -> tuple[str, str]:
    """Color and marker of a series; after each round of colors the markers move on by one."""
    turn, color = divmod(place, len(COLORS))
    return COLORS[color], MARKERS[(color + turn) % len(MARKERS)]


def _frame(axes: Axes) -> None:
    """Scale the reductions as far as they are drawn, and tell accuracies in percent."""
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    _scale_reductions(axes, fine=np.log2(high / low) <= 3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def _scale_reductions(axes: Axes, *, fine: bool) -> None:
    """Make the horizontal axis one of reductions, with ticks at powers of 2, if `fine` between them too."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(2, subs=(1.0, 1.5) if fine else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: times_text(value)))


def _mean_point(records: Sequence[Record], scale: Scale) -> tuple[float, float]:
    """Geometric mean reduction and mean accuracy over seeds, each network at one operating point."""
    picks = []
    for points in (candidates([record], scale=scale) for record in records if record.points):
        allowed = max(point.accuracy for point in points) - 0.02
        picks.append(
            max((point for point in points if point.accuracy >= allowed), key=lambda point: point.bitops_cr)
        )
    reduction = 2.0 ** float(np.mean([point.log2_reduction for point in picks]))
    return reduction, float(np.mean([point.reported_accuracy for point in picks]))
