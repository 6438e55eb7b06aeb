"""Tables of results as plain cells, for the terminal and for the report alike.

Cells are finished text; a `Table` knows its columns, and says in a note what its numbers mean.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ordercomp.analysis.checks import Rival
from ordercomp.analysis.fronts import DEFAULT_SCALE, TOLERANCES, Candidate, Scale, best_reductions
from ordercomp.analysis.networks import Pick, compress_command
from ordercomp.analysis.pairs import Control, Evidence
from ordercomp.analysis.ranking import RankedOrder, Reading
from ordercomp.records import Record
from ordercomp.sequence import Order, kendall_distance

CONVENTIONS: Mapping[str, str] = {
    "paper": "as the paper does, at one pair of bits for the whole network",
    "honest": "with each layer's own bits, the image at 8",
    "apot": "as the paper does, but with at least 8 bits in the first and last layers",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading and the side to which its cells are set."""

    name: str
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of finished text under named columns."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: frozenset[int] = frozenset()  # rows to set off, such as the law's

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows must have {len(self.columns)} cells like columns, got {row}")

    def about(self, metric: str) -> "Table":
        """The same table of another metric than accuracy, which title, headings and note then name."""
        if metric == "accuracy":
            return self

        def told(text: str) -> str:
            return text.replace("accuracy", metric)

        columns = tuple(replace(column, name=told(column.name)) for column in self.columns)
        return replace(self, title=told(self.title), columns=columns, note=told(self.note))

    def to_text(self) -> str:
        """Lay the table out in a fixed-width font: title, heading, rows, note."""
        every = [tuple(column.name for column in self.columns), *self.rows]
        widths = [max(len(row[place]) for row in every) for place in range(len(self.columns))]
        lines = [
            "  ".join(_set(row[k], widths[k], self.columns[k]) for k in range(len(widths))) for row in every
        ]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join(
            line.rstrip() for line in (self.title, lines[0], rule, *lines[1:], self.note) if line
        )


def reduction_table(
    records: Iterable[Record],
    *,
    tolerances: Sequence[float] = TOLERANCES,
    scale: Scale = DEFAULT_SCALE,
) -> Table:
    """Tabulate the best reduction within each tolerated loss by order, as the paper's Table 1 does.

    A cell is the geometric mean over seeds of each seed's best, with the range; a seed where nothing is
    within counts as 1×, leaving the network alone, and "–" stands where no seed has any. Orders without any
    network within any of the losses are only counted, in the note. Selected on validation data. Orders are
    sorted by the last column, then by the one before, and so on.
    """
    by_order: dict[Order, dict[int, list[Record]]] = {}
    for record in records:
        by_order.setdefault(record.order, {}).setdefault(record.seed, []).append(record)
    lines = []
    for order, seeds in by_order.items():
        best = [best_reductions(some, tolerances=tolerances, scale=scale) for some in seeds.values()]
        reached = [
            [max(1.0, one.bitops_cr) if (one := seed[t]) else 1.0 for seed in best] for t in tolerances
        ]
        if any(max(some) > 1.0 for some in reached):
            lines.append((order, len(seeds), reached))
    absent = len(by_order) - len(lines)
    lines.sort(key=lambda line: ([-float(np.mean(np.log(some))) for some in reversed(line[2])], line[0]))
    columns = [Column("order"), *(Column(f"loss ≤ {loss_text(t)}", "right") for t in tolerances)]
    return Table(
        title="Best reduction of bit operations within a tolerated loss of accuracy",
        columns=(*columns, Column("seeds", "right")),
        rows=tuple((order, *map(_spread, reached), str(seeds)) for order, seeds, reached in lines),
        note="Geometric mean over seeds (smallest–largest). Chosen on validation accuracy; a seed without "
        f"any network within the loss counts as 1×. Costs counted {CONVENTIONS[scale.convention]}."
        + (f" {absent} of {len(by_order)} orders have no network within these losses." if absent else ""),
    )


def pair_table(pairs: Iterable[Evidence]) -> Table:
    """Tabulate pairs: verdict, probability, effect with interval, what it rests on."""
    columns = (
        "pair",
        "verdict",
        "P(first earlier)",
        "effect",
        "interval",
        "reduction",
        "accuracy",
        "contexts",
        "seeds",
        "caveat",
    )
    right = {"P(first earlier)", "effect", "interval", "reduction", "accuracy", "contexts", "seeds"}
    return Table(
        title="Which of two stages should come first?",
        columns=tuple(Column(name, "right" if name in right else "left") for name in columns),
        rows=tuple(_pair_row(pair) for pair in pairs),
        note="Effect: value gained if the first stage comes earlier, in doublings, with its interval. Beside "
        "it in plain units, means over seeds as well: reduction, the doublings of the reduction of bit "
        "operations gained at equal loss of accuracy, over all tolerated losses; accuracy, the "
        "points of accuracy gained at equal reduction, over all reductions that both orders reach.",
    )


def ranking_table(ranking: Sequence[RankedOrder], *, law: Order) -> Table:
    """Tabulate the ranking of orders, with each one's distance from `law` in swaps; the law is marked."""
    best = ranking[0].value if ranking else 0.0
    rows = []
    for place, one in enumerate(ranking, start=1):
        distance = str(kendall_distance(one.order, law))
        error = f"± {one.standard_error:.2f}" if len(one.values) > 1 else ""
        behind = f"{best - one.value:.2f}"
        rows.append(
            (str(place), one.order, f"{one.value:.2f}", error, behind, distance, str(len(one.values)))
        )
    names = ("rank", "order", "value", "± s.e.", "behind best", f"swaps from {law}", "seeds")
    unequal = (
        ""
        if all(one.complete for one in ranking)
        else " Not all orders were run at the same seeds and knobs."
    )
    return Table(
        title="All orders by the value of their networks",
        columns=tuple(Column(name, "left" if name == "order" else "right") for name in names),
        rows=tuple(rows),
        note=f"Value in doublings of the reduction of bit operations, mean over seeds.{unequal}",
        marked=frozenset(place for place, one in enumerate(ranking) if one.order == law),
    )


def convergence_table(controls: Sequence[Control]) -> Table:
    """Tabulate what a further fine-tune (F) adds to each controlled prefix; under-trained ones are marked."""
    rows = tuple(
        (
            control.sequence,
            f"{100 * control.gain:+.2f}",
            f"{100 * control.interval[0]:+.2f} to {100 * control.interval[1]:+.2f}",
            str(control.seeds),
            control.status,
        )
        for control in controls
    )
    names = ("after", "gain", "interval", "seeds", "status")
    return Table(
        title="Would more training have helped?",
        columns=tuple(
            Column(name, "right" if name in ("gain", "interval", "seeds") else "left") for name in names
        ),
        rows=rows,
        note="Gain of validation accuracy, in points, by one more fine-tune without compression. Evidence "
        "that leans on an under-trained prefix decides nothing.",
        marked=frozenset(k for k, control in enumerate(controls) if control.status == "under-trained"),
    )


def rival_table(rivals: Sequence[Rival]) -> Table:
    """Tabulate what each rival law costs against the best order."""
    rows = tuple(
        (
            rival.order,
            rival.claim,
            rival.source,
            f"{rival.cost:.2f}",
            f"{rival.interval[0]:+.2f} to {rival.interval[1]:+.2f}",
            f"{rival.rank} of {rival.of}",
            str(rival.seeds or ""),
        )
        for rival in rivals
    )
    names = ("order", "claim", "source", "cost", "interval", "rank", "seeds")
    right = {"cost", "interval", "rank", "seeds"}
    return Table(
        title="Rival laws on trial",
        columns=tuple(Column(name, "right" if name in right else "left") for name in names),
        rows=rows,
        note="Cost: value of the best other order of the same stages minus that of the rival, in doublings, "
        "with its interval; below 0 the rival is ahead. What these records suggest is tried at other seeds.",
    )


def sensitivity_table(readings: Sequence[Reading], order: Order) -> Table:
    """Tabulate the readings of `order`, one scale a row."""
    names = (
        "shape",
        "tolerance",
        "data",
        "cost",
        "best order",
        f"rank of {order}",
        "behind best",
        "agreement",
    )
    left = {"shape", "data", "cost", "best order"}
    rows = tuple(
        (
            one.scale.shape,
            f"{100 * one.scale.tolerance:g} points",
            one.scale.split,
            one.scale.convention,
            one.best,
            f"{one.rank} of {one.of}",
            f"{one.behind:.2f}",
            f"{one.agreement:+.2f}",
        )
        for one in readings
    )
    return Table(
        title="Does the price of accuracy matter?",
        columns=tuple(Column(name, "left" if name in left else "right") for name in names),
        rows=rows,
        note="The same records under other scales. The first row is the scale of this report, fixed before "
        "looking; agreement is Kendall's τ with its ranking.",
    )


def failure_table(records: Iterable[Record]) -> Table:
    """Tabulate the records that failed, with their error."""
    failed = [record for record in records if record.error]
    return Table(
        title="Failed runs",
        columns=(Column("sequence"), Column("seed", "right"), Column("error")),
        rows=tuple((record.sequence, str(record.seed), str(record.error)) for record in failed),
    )


def probability_text(probability: float) -> str:
    """Format a probability with two digits, without calling anything certain: 0.97, >0.99, <0.01."""
    if probability > 0.99:
        return ">0.99"
    return "<0.01" if probability < 0.01 else f"{probability:.2f}"


def verdict_text(pair: Evidence) -> str:
    """Say the verdict on a pair: "D before P", or the bare word if none comes first."""
    words = {"before": f"{pair.first} before {pair.second}", "after": f"{pair.second} before {pair.first}"}
    return words.get(pair.verdict, pair.verdict)


def loss_text(loss: float) -> str:
    """Format a loss of accuracy, a fraction, as a percentage: 0.2 %, 1 %."""
    return f"{100 * loss:g} %"


def times_text(reduction: float) -> str:
    """Format a reduction with three digits, without decimals from 100 on: 3.5×, 64×, 1024×."""
    return f"{reduction:.0f}×" if reduction >= 99.5 else f"{reduction:.3g}×"


def duration_text(seconds: float) -> str:
    """A span of time in the largest unit of which there are at least two: 90 s, 2.5 min, 3.0 h, 8.1 days."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _set(cell: str, width: int, column: Column) -> str:
    return cell.rjust(width) if column.align == "right" else cell.ljust(width)


def _spread(reductions: Sequence[float]) -> str:
    if max(reductions) == 1.0:
        return "–"
    mean = times_text(float(np.exp(np.mean(np.log(reductions)))))
    if len(reductions) == 1:
        return mean
    return f"{mean} ({times_text(min(reductions))[:-1]}–{times_text(max(reductions))[:-1]})"


def _pair_row(pair: Evidence) -> tuple[str, ...]:
    effect = pair.effect
    return (
        f"{pair.first} {pair.second}",
        verdict_text(pair),
        probability_text(effect.probability),
        f"{effect.mean:+.2f}",
        f"{effect.low:+.2f} to {effect.high:+.2f}",
        "" if pair.reduction is None else f"{pair.reduction:+.2f}",
        "" if pair.accuracy is None else f"{100 * pair.accuracy:+.1f}",
        str(pair.contexts),
        str(pair.seeds),
        "under-trained" if pair.under_trained else "",
    )


# Tables of the networks to take: what each saves, what it loses, and the command that makes it.


def best_network_table(
    records: Iterable[Record],
    *,
    tolerances: Sequence[float] = TOLERANCES,
    scale: Scale = DEFAULT_SCALE,
) -> Table:
    """Tabulate the most compressed network within each tolerated loss, and the command that makes it.

    Tolerances that the same operating point serves share a row.
    """
    best = best_reductions(records, tolerances=tolerances, scale=scale)
    shared = itertools.groupby(best.items(), key=lambda item: item[1])
    rows = tuple(_network_row([tolerance for tolerance, _ in some], found) for found, some in shared)
    names = (
        "tolerated loss",
        "reduction",
        "storage",
        "test accuracy",
        "test loss",
        "seed",
        "threshold",
        "command",
    )
    left = {"command"}
    return Table(
        title="Best network within each tolerated loss",
        columns=tuple(Column(name, "left" if name in left else "right") for name in names),
        rows=rows,
        note="Chosen on validation accuracy, so the loss on test data may be larger. Reduction: of bit "
        f"operations, counted {CONVENTIONS[scale.convention]}; threshold: confidence to leave early.",
    )


def network_table(picks: Iterable[Pick]) -> Table:
    """Tabulate the networks to take: what each saves and loses, and its command."""
    rows = tuple(map(_pick_row, picks))
    names = ("tolerated loss", "order", "reduction", "storage", "test accuracy", "test loss", "seed", "note")
    left = {"order", "note"}
    return Table(
        title="Networks to take",
        columns=(*(Column(name, "left" if name in left else "right") for name in names), Column("command")),
        rows=rows,
        note="Chosen on validation data; test loss in points of accuracy, on images that chose nothing, with "
        "its 95 % interval. Reduction: of bit operations.",
    )


def _network_row(tolerances: Sequence[float], found: Candidate | None) -> tuple[str, ...]:
    within = ", ".join(map(loss_text, tolerances))
    if found is None:
        return (within, "–", "", "", "", "", "", "no network is within this loss")
    threshold = found.point.threshold
    return (
        within,
        times_text(found.bitops_cr),
        times_text(found.cr),
        f"{100 * found.reported_accuracy:.2f} %",
        f"{100 * found.reported_loss:+.2f}",
        str(found.record.seed),
        "" if threshold is None else f"{threshold:.3g}",
        compress_command(found.record, tolerances[0], exact=found.point),
    )


def _pick_row(pick: Pick) -> tuple[str, ...]:
    told = f"{100 * pick.test_loss:+.2f}"
    if pick.interval is not None:
        low, high = pick.interval
        told += f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return (
        loss_text(pick.loss),
        pick.order,
        times_text(pick.reduction),
        times_text(pick.storage),
        f"{100 * pick.test_accuracy:.2f} %",
        told,
        str(pick.seed),
        pick.note,
        pick.command,
    )
