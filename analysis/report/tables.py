"""Tables of results as plain cells, for the terminal and for the report alike.

Cells are finished text; a `Table` knows its columns, and says in a note what its numbers mean.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from ordercomp.analysis.checks import Rival
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.fronts import (
    DEFAULT_SCALE,
    TOLERANCES,
    Candidate,
    Scale,
    best_reductions,
    group_by_order,
)
from ordercomp.analysis.networks import Pick, compress_command
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.ranking import RankedOrder
from ordercomp.codec import UNWRITTEN
from ordercomp.records import Record
from ordercomp.sequence import Order, kendall_distance

CONVENTIONS: Mapping[str, str] = {
    "paper": "as the paper does, at one pair of bits for the whole network",
    "honest": "with each layer's own bits, the image at 8",
    "nonzero": "with each layer's own bits, the image at 8, and multiplications by zero as none",
    "apot": "as the paper does, but with at least 8 bits in the first and last layers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of finished text under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    left: frozenset[str] = field(default=frozenset(), metadata=UNWRITTEN)  # columns set to the left
    marked: frozenset[int] = field(default=frozenset(), metadata=UNWRITTEN)  # rows to set off, as the law's

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows must have {len(self.columns)} cells like columns, got {row}")

    @classmethod
    def of(
        cls,
        title: str,
        columns: Iterable[str],
        rows: Iterable[tuple[str, ...]],
        *,
        left: Collection[str] = (),
        note: str = "",
        marked: Iterable[int] = (),
    ) -> "Table":
        """Build a table of these columns, set to the right but for those in `left`."""
        return cls(
            title=title,
            columns=tuple(columns),
            rows=tuple(rows),
            note=note,
            left=frozenset(left),
            marked=frozenset(marked),
        )

    @property
    def aligned(self) -> list[tuple[str, Literal["left", "right"]]]:
        """Each column with the side to which its cells are set."""
        return [(name, "left" if name in self.left else "right") for name in self.columns]

    def without_empty_columns(self, *names: str) -> "Table":
        """The same without those columns of `names`, of all by default, in which no row says anything."""
        places = [
            place
            for place, name in enumerate(self.columns)
            if (names and name not in names) or not self.rows or any(row[place] for row in self.rows)
        ]
        return replace(
            self,
            columns=tuple(self.columns[place] for place in places),
            rows=tuple(tuple(row[place] for place in places) for row in self.rows),
        )

    def about(self, metric: str) -> "Table":
        """The same table of another metric than accuracy, which title, headings and note then name."""
        if metric == "accuracy":
            return self

        def renamed(text: str) -> str:
            return text.replace("accuracy", metric)

        return Table.of(
            renamed(self.title),
            map(renamed, self.columns),
            self.rows,
            left=set(map(renamed, self.left)),
            note=renamed(self.note),
            marked=self.marked,
        )

    def to_text(self) -> str:
        """Lay the table out in a fixed-width font: title, heading, rows, note."""
        every = [self.columns, *self.rows]
        widths = [max(map(len, cells)) for cells in zip(*every, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if name in self.left else cell.rjust(width)
                for cell, width, name in zip(row, widths, self.columns, strict=True)
            )
            for row in every
        ]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join(
            line.rstrip() for line in (self.title, lines[0], rule, *lines[1:], self.note) if line
        )


def reduction_table(
    records: Iterable[Record], *, tolerances: Sequence[float] = TOLERANCES, scale: Scale = DEFAULT_SCALE
) -> Table:
    """Tabulate the best reduction within each tolerated loss by order, as the paper's Table 1 does.

    A cell is the geometric mean over seeds of each seed's best, with the range; a seed where nothing is
    within counts as 1×, leaving the network alone, and "–" stands where no seed has any. Orders without any
    network within any of the losses are only counted, in the note. Selected on validation data. Orders are
    sorted by the last column, then by the one before, and so on.
    """
    lines = []
    by_order = group_by_order(records)
    for order, seeds in by_order.items():
        best = [best_reductions(group, tolerances=tolerances, scale=scale) for group in seeds.values()]
        reached = [
            [max(1.0, point.bitops_cr) if (point := seed[loss]) else 1.0 for seed in best]
            for loss in tolerances
        ]
        if any(max(reductions) > 1.0 for reductions in reached):
            lines.append((order, len(seeds), reached))
    absent = len(by_order) - len(lines)
    lines.sort(key=lambda line: ([-_log_mean(seeds) for seeds in reversed(line[2])], line[0]))
    return Table.of(
        "Best reduction of bit operations within a tolerated loss of accuracy",
        ("order", *(f"loss ≤ {loss_text(loss)}" for loss in tolerances), "seeds"),
        [(order, *map(_spread, reached), str(seeds)) for order, seeds, reached in lines],
        left=("order",),
        note="Geometric mean over seeds (smallest–largest). Chosen on validation accuracy; a seed without "
        f"any network within the loss counts as 1×. Costs counted {CONVENTIONS[scale.convention]}."
        + (f" {absent} of {len(by_order)} orders have no network within these losses." if absent else ""),
    )


def pair_table(pairs: Iterable[Evidence]) -> Table:
    """Tabulate pairs: verdict, probability, effect with interval, what it rests on."""
    return Table.of(
        "Which of two stages should come first?",
        ("pair", "verdict", "P(first earlier)", "effect", "interval", "chains", "seeds", "caveat"),
        map(_pair_row, pairs),
        left=("pair", "verdict", "caveat"),
        note="Effect: what the best chain with the first stage earlier gains over the best one with it "
        "later, in doublings at the tolerated loss, with its interval. Chains: those with either order, of "
        "the one with fewer.",
    )


def ranking_table(ranking: Sequence[RankedOrder], *, law: Order) -> Table:
    """Tabulate the ranking of orders, with each one's distance from `law` in swaps; the law is marked."""
    equal = all(ranked.complete for ranked in ranking)
    return Table.of(
        "All orders by the value of their networks",
        ("rank", "order", "value", "± s.e.", "behind best", f"swaps from {law}", "seeds"),
        [
            (
                str(place),
                ranked.order,
                f"{ranked.value:.2f}",
                f"± {ranked.standard_error:.2f}" if len(ranked.values) > 1 else "",
                f"{ranking[0].value - ranked.value:.2f}",
                str(kendall_distance(ranked.order, law)),
                str(len(ranked.values)),
            )
            for place, ranked in enumerate(ranking, start=1)
        ],
        left=("order",),
        note="Value in doublings of the reduction of bit operations, mean over seeds."
        + ("" if equal else " Not all orders were run at the same seeds and knobs."),
        marked=(place for place, ranked in enumerate(ranking) if ranked.order == law),
    )


def convergence_table(controls: Sequence[Control]) -> Table:
    """Tabulate what a further fine-tune (F) adds to each controlled prefix; under-trained ones are marked."""
    return Table.of(
        "Would more training have helped?",
        ("after", "gain", "interval", "seeds", "status"),
        [
            (
                control.sequence,
                points_text(control.gain),
                interval_text(control.interval, points_text),
                str(control.seeds),
                control.status,
            )
            for control in controls
        ],
        left=("after", "status"),
        note="Gain of validation accuracy, in points, by one more fine-tune without compression. A chain "
        "that ends so is told too low: that it lies behind decides nothing.",
        marked=(place for place, control in enumerate(controls) if control.status == "under-trained"),
    )


def rival_table(rivals: Sequence[Rival]) -> Table:
    """Tabulate what each rival law costs against the best order."""
    return Table.of(
        "Rival laws on trial",
        ("order", "claim", "source", "cost", "interval", "rank", "seeds"),
        [
            (
                *(rival.order, rival.claim, rival.source, f"{rival.cost:.2f}", interval_text(rival.interval)),
                f"{rival.rank} of {rival.of}",
                str(rival.seeds or ""),
            )
            for rival in rivals
        ],
        left=("order", "claim", "source"),
        note="Cost: value of the best other order of the same stages minus that of the rival, in doublings "
        "at the tolerated loss, with its interval; below 0 the rival is ahead.",
    )


def failure_table(records: Iterable[Record]) -> Table:
    """Tabulate the records that failed, with their error."""
    return Table.of(
        "Failed runs",
        ("sequence", "seed", "error"),
        [(record.sequence, str(record.seed), record.error) for record in records if record.error],
        left=("sequence", "error"),
    )


def _pair_row(pair: Evidence) -> tuple[str, ...]:
    effect = pair.effect
    return (
        f"{pair.first} {pair.second}",
        verdict_text(pair),
        probability_text(effect.probability),
        f"{effect.mean:+.2f}",
        interval_text(effect.interval),
        str(pair.contexts),
        str(pair.seeds),
        "under-trained" if pair.under_trained else "",
    )


def _spread(reductions: Sequence[float]) -> str:
    if max(reductions) == 1.0:
        return "–"
    mean = times_text(float(np.exp(_log_mean(reductions))))
    if len(reductions) == 1:
        return mean
    return f"{mean} ({times_text(min(reductions))[:-1]}–{times_text(max(reductions))[:-1]})"


def _log_mean(reductions: Sequence[float]) -> float:
    return float(np.mean(np.log(reductions)))


# Tables of networks: what each saves, what it loses, and the command that makes it.


def best_network_table(
    records: Iterable[Record], *, tolerances: Sequence[float] = TOLERANCES, scale: Scale = DEFAULT_SCALE
) -> Table:
    """Tabulate the most compressed network within each tolerated loss, and the command that makes it.

    Tolerances that the same operating point serves share a row.
    """

    def cells(best: Candidate, loss: float) -> tuple[str, ...]:
        return (
            times_text(best.bitops_cr),
            times_text(best.cr),
            percent_text(best.reported_accuracy),
            points_text(best.reported_loss),
            str(best.record.seed),
            threshold_text(best.point.threshold),
            compress_command(best.record, loss, exact=best.point),
        )

    return Table.of(
        "Best network within each tolerated loss",
        (
            *("tolerated loss", "reduction", "storage", "test accuracy", "test loss", "seed", "threshold"),
            "command",
        ),
        rows_by_loss(best_reductions(records, tolerances=tolerances, scale=scale), cells),
        left=("command",),
        note="Chosen on validation accuracy, so the loss on test data may be larger. Reduction: of bit "
        f"operations, counted {CONVENTIONS[scale.convention]}; threshold: confidence to leave early.",
    )


def network_table(picks: Iterable[Pick]) -> Table:
    """Tabulate the networks to take: what each saves and loses, and its command."""
    return Table.of(
        "Networks to take",
        (
            *("tolerated loss", "order", "reduction", "storage", "test accuracy", "test loss", "seed"),
            *("note", "command"),
        ),
        [
            (
                loss_text(pick.loss),
                pick.order,
                times_text(pick.reduction),
                times_text(pick.storage),
                percent_text(pick.test_accuracy),
                points_text(pick.test_loss)
                + (f" ({interval_text(pick.interval, points_text)})" if pick.interval else ""),
                str(pick.seed),
                pick.note,
                pick.command,
            )
            for pick in picks
        ],
        left=("order", "note", "command"),
        note="Chosen on validation data; test loss in points of accuracy, on images that chose nothing, with "
        "its 95 % interval. Reduction: of bit operations.",
    )


Network = TypeVar("Network")


def rows_by_loss(
    best: Mapping[float, Network | None], cells: Callable[[Network, float], tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """One row for each network in `best`, by tolerated loss: the losses that it serves, then seven cells.

    These `cells` says of a network and the smallest of its losses.
    """
    rows = []
    for network, group in itertools.groupby(best, key=best.__getitem__):
        losses = list(group)
        within = ", ".join(map(loss_text, losses))
        lacking = ("–", "", "", "", "", "", "no network is within this loss")
        rows.append((within, *(lacking if network is None else cells(network, losses[0]))))
    return rows


# Formats of numbers: the same in tables, sentences and pictures.


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


def percent_text(share: float) -> str:
    """Format an accuracy, a fraction: 93.10 %."""
    return f"{100 * share:.2f} %"


def points_text(difference: float) -> str:
    """Format a difference of accuracies, a fraction, in points with its sign: +0.25."""
    return f"{100 * difference:+.2f}"


def doublings_text(difference: float) -> str:
    """Format a difference of values in doublings with its sign: -1.50."""
    return f"{difference:+.2f}"


def interval_text(interval: tuple[float, float], format_end: Callable[[float], str] = doublings_text) -> str:
    """Format both ends of an interval: -0.10 to +0.30."""
    return " to ".join(map(format_end, interval))


def threshold_text(threshold: float | None) -> str:
    """Format the confidence above which a sample leaves early; empty if all go to the end."""
    return "" if threshold is None else f"{threshold:.3g}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Join names as in "a, b and c"; of none "none"."""
    *most, last = names or ("none",)
    return f"{', '.join(most)} {word} {last}" if most else last
