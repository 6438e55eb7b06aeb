"""The pictures of the docs, drawn from the recordings that ship with the package.

    python tools/figures.py [FOLDER]

The same recordings give the same bytes. The pictures of the findings are made with their page.
"""

import io
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ordercomp.analysis.answer import Answer, derive_answer
from ordercomp.analysis.fronts import candidates, front
from ordercomp.analysis.report.plots import BLUE, GREEN, GREY, INK, SLATE, STYLE, to_svg
from ordercomp.analysis.report.text import answer_words
from ordercomp.analysis.values import front_reduction
from ordercomp.jobs.race import Race, plan_race
from ordercomp.jobs.recordings import load_recorded
from ordercomp.records import Record
from ordercomp.running.task import TASKS
from ordercomp.sequence import Order, permutations, prefixes

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
FIRST = 24  # chains that a picture has room for
STAGES, LOSS = "DPQE", 0.02
PALE = "#DFE5EC"
LEAST_SHOWN = 0.005  # the smallest tolerated loss in the picture of the answer


@cache
def recorded(name: str) -> list[Record]:
    """The records of a recording, read once."""
    return load_recorded(name)


@cache
def answer_from(name: str) -> Answer:
    """The answer that a recording gives at the usual loss and at the others."""
    return derive_answer(recorded(name), stages=STAGES, loss=LOSS)


def answer_picture() -> Figure:
    """The answer for CIFAR-10 in its own words, above what each order reaches within each tolerated loss."""
    answer = answer_from("cifar10")
    words = answer_words(answer, STAGES)
    figure, axes = _canvas(9.0, 5.2)
    figure.suptitle(words.headline, x=0.02, ha="left", fontsize=17, fontweight="bold")
    axes.set_title(f"{words.out}\n{words.holds}", loc="left", fontsize=9.5, color=SLATE, pad=14)
    curves: dict[Order, list[tuple[float, float]]] = {}
    for at in answer.by_loss:
        for order, standing in at.standings.items():
            if at.loss is not None and at.loss >= LEAST_SHOWN:
                curves.setdefault(order, []).append((100 * at.loss, standing.value))
    rivals = [order for order in answer.best_set if order != answer.recommended]
    colors = {**dict.fromkeys(rivals, GREEN), answer.recommended: BLUE}
    for order, curve in sorted(curves.items(), key=lambda item: item[0] in colors):
        losses, values = zip(*curve, strict=True)
        color = colors.get(order)
        axes.plot(losses, 2 ** np.array(values), color=color or GREY, linewidth=2.6 if color else 0.9)
    for place, (order, color) in enumerate(reversed(colors.items())):
        role = "recommended" if order == answer.recommended else "may be the best"
        axes.text(1.01, 0.98 - 0.07 * place, f"{order}: {role}", transform=axes.transAxes, color=color)
    axes.text(1.01, 0.98 - 0.07 * len(colors), "others are out", transform=axes.transAxes, color=SLATE)
    axes.axvline(100 * LOSS, color=BLUE, linestyle="--", linewidth=1.2)
    ticks = sorted({loss for curve in curves.values() for loss, _ in curve})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.minorticks_off()
    axes.set(xlabel="tolerated loss of accuracy", ylabel="times fewer bit operations")
    return figure


def prefix_picture() -> Figure:
    """The orders of D, P and Q as a tree of prefixes, one of them followed."""
    figure, axes = _canvas(8.4, 3.6)
    orders, followed = list(permutations("DPQ")), "DPQ"
    places = {order: float(place) for place, order in enumerate(reversed(orders))}
    nodes = {prefix for order in orders for prefix in prefixes(order)} | {""}
    for node in sorted(nodes, key=len, reverse=True):
        if node not in places:
            children = [
                places[child] for child in nodes if len(child) == len(node) + 1 and child.startswith(node)
            ]
            places[node] = float(np.mean(children))
    for node in sorted(nodes, key=lambda node: (followed.startswith(node), node)):
        on_path = followed.startswith(node)
        if node:
            x = [len(node) - 1, len(node)]
            axes.plot(x, [places[node[:-1]], places[node]], color=BLUE if on_path else GREY, zorder=1)
        box = {"boxstyle": "round,pad=0.4", "facecolor": BLUE if on_path else PALE, "edgecolor": "none"}
        color = "white" if on_path else INK
        axes.text(
            len(node), places[node], node or "baseline", ha="center", va="center", color=color, bbox=box
        )
    shared, alone = len(nodes) - 1, sum(len(order) for order in orders)
    unshared = sum(len(prefix) for prefix in nodes)
    text = (
        f"{len(orders)} orders of 3 stages:\n{shared} trainings instead of {alone}\n"
        f"({unshared} with every prefix alone)"
    )
    axes.text(3.5, places[""], text, va="center", linespacing=1.6)
    axes.set(xlim=(-0.4, 5.2), ylim=(-0.6, len(orders) - 0.4))
    axes.axis("off")
    return figure


def front_picture() -> Figure:
    """The networks of one order of the recorded digits at one seed: points, front, value at a loss."""
    order, loss, most = "DPQE", 0.05, 0.12
    records = [record for record in recorded("digits") if record.order == order and record.seed == 0]
    best = [point for point in front(records) if point.loss < most]
    beaten = [point for point in candidates(records) if point.loss < most and point not in best]
    losses, reductions = (
        np.array([getattr(point, name) for point in best]) for name in ("loss", "log2_reduction")
    )
    value = front_reduction(losses, reductions, loss=loss)
    figure, axes = _canvas(8.4, 3.9)
    axes.axvspan(50 * loss, 150 * loss, color=BLUE, alpha=0.1, linewidth=0)
    axes.axvline(100 * loss, color=BLUE, linestyle="--", linewidth=1.2)
    axes.scatter([100 * p.loss for p in beaten], [p.log2_reduction for p in beaten], s=14, color=GREY)
    axes.step(100 * losses, reductions, where="post", color=BLUE, linewidth=2.2, marker="o", markersize=4)
    axes.plot([50 * loss, 150 * loss], [value, value], color=GREEN, linewidth=2.6)
    low = float(reductions.min())
    axes.text(152 * loss, value, f"value: {value:.1f} doublings", va="center", color=GREEN)
    axes.text(102 * loss, low, "tolerated loss", color=BLUE)
    axes.text(100 * losses[1], reductions[1] + 0.15, "front", ha="right", color=BLUE)
    axes.set(
        xlabel=f"loss of accuracy, % ({order} on the recorded digits, one seed)",
        ylabel="reduction of bit operations, doublings",
    )
    return figure


def race_picture() -> Figure:
    """The orders that run at each seed of a race on the recorded digits."""
    plan = plan_race(Race(task=TASKS["digits"], seeds=6), losing=True)
    blocks = [{order for order in chains if len(order) == len(STAGES)} for chains in plan.seeds.values()]
    orders = sorted(permutations(STAGES), key=lambda order: (-sum(order in block for block in blocks), order))
    figure, axes = _canvas(8.4, 3.6)
    for row, block in enumerate(blocks):
        colors = [BLUE if order in block else PALE for order in orders]
        axes.scatter(range(len(orders)), [row] * len(orders), marker="s", s=120, color=colors)
        axes.text(len(orders) + 0.2, row, f"{len(block)} run", va="center", color=SLATE)
    axes.set_xticks(range(len(orders)), orders, rotation=90, fontsize=8, family="monospace")
    axes.set_yticks(range(len(blocks)), [f"seed {row}" for row in range(len(blocks))])
    axes.invert_yaxis()
    title = "the race on the recorded digits, 2 % tolerated: blue orders are trained at a seed"
    axes.set_title(title, loc="left", fontsize=10, color=SLATE)
    axes.set_xlim(-0.8, len(orders) + 2.4)
    _bare(axes)
    return figure


def best_set_picture() -> Figure:
    """How far the first chains of the recorded digits lie behind the best one, with their intervals."""
    answer = answer_from("digits").asked
    standings, best = answer.standings, answer.best_set
    orders = sorted(standings, key=lambda order: (order in best, -standings[order].behind))[-FIRST:]
    figure, axes = _canvas(8.4, 5.0)
    for row, order in enumerate(orders):
        standing = standings[order]
        color = BLUE if order == answer.recommended else GREEN if order in best else GREY
        low, high = (-end for end in standing.interval)
        axes.plot([low, high], [row, row], color=color, linewidth=2.6)
        axes.plot(-standing.behind, row, "o", color=color, markersize=5)
    axes.axvline(0, color=INK, linewidth=1.0)
    axes.set_yticks(range(len(orders)), orders, fontsize=8, family="monospace")
    first = len(orders) - len(best)
    axes.axhspan(first - 0.5, len(orders) - 0.5, color=GREEN, alpha=0.1, linewidth=0)
    left = axes.get_xlim()[0]
    axes.text(left, len(orders) - 0.8, " the best set", va="top", color=GREEN)
    axes.text(left, first - 0.7, " out", va="top", color=SLATE)
    axes.set(
        xlabel=f"doublings against the best chain (first {FIRST} of {len(standings)}, digits, 2 % tolerated)"
    )
    axes.grid(visible=False, axis="y")
    return figure


PICTURES: Mapping[str, Callable[[], Figure]] = {
    "answer.png": answer_picture,
    "concept-prefixes.svg": prefix_picture,
    "concept-front.svg": front_picture,
    "concept-race.svg": race_picture,
    "concept-best-set.svg": best_set_picture,
}


def drawn(name: str) -> bytes:
    """One of the pictures as its file's content."""
    figure = PICTURES[name]()
    if name.endswith(".svg"):
        return to_svg(figure).encode()
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            file, format="png", dpi=100, metadata={"Software": None, "Title": figure.get_suptitle()}
        )
    return file.getvalue()


def main(folder: Path = FOLDER) -> None:
    """Draw all pictures into a folder."""
    for name in PICTURES:
        (folder / name).write_bytes(drawn(name))


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _bare(axes: Axes) -> None:
    """Leave the labels and take the frame away."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
