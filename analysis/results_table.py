"""Results of other people's pipelines: a CSV file of orders, seeds and scores, answered like records."""

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import Answer, answer_of
from ordercomp.analysis.order_model import Effort
from ordercomp.analysis.values import FLOOR, LOSSES, ValueTable, check_loss, front_reduction
from ordercomp.files import refuse_device
from ordercomp.records import CostName
from ordercomp.sequence import Order

MOST_BYTES = 64 * 2**20
_ARROWS = re.compile(r"\s*(?:->|→|-|>|\s)\s*")  # what may stand between the stages of an order


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a CSV file."""

    order: str = "order"
    seed: str = "seed"
    accuracy: str = "accuracy"  # or the score, where there is no reduction
    reduction: str = "reduction"  # of the cost, against the uncompressed network; may be missing
    setting: str = "setting"  # of the knobs; may be missing


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    order: str
    seed: int
    score: float
    reduction: float | None
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a file holds: for each order and seed the accuracy lost and the reduction, or a plain score."""

    stages: Order
    settings: tuple[str, ...]
    scored: bool  # by a plain score: there is no reduction
    lower_is_better: bool
    rows: Mapping[tuple[Order, int], tuple[_Row, ...]] = field(repr=False)
    baselines: Mapping[int, float] = field(repr=False)  # accuracy of the uncompressed network at each seed

    def table(self, *, loss: float | None = None, setting: str | None = None) -> ValueTable:
        """Values at a tolerated loss, a fraction, of all settings together or of one."""
        orders = tuple(sorted({order for order, _ in self.rows}))
        seeds = tuple(sorted({seed for _, seed in self.rows}))
        values = np.full((len(orders), len(seeds)), np.nan)
        for (order, seed), rows in self.rows.items():
            matching = [row for row in rows if setting in (None, row.setting)]
            values[orders.index(order), seeds.index(seed)] = self._value(matching, seed, loss)
        floor = None if self.scored else FLOOR
        return ValueTable(self.stages, orders, seeds, values, floor, None if self.scored else loss)

    def _value(self, rows: list[_Row], seed: int, loss: float | None) -> float:
        if self.scored:
            sign = -1.0 if self.lower_is_better else 1.0
            return max(sign * row.score for row in rows)
        losses = np.array([self.baselines[seed] - row.score for row in rows])
        heights = np.log2([row.reduction or 1.0 for row in rows])
        return front_reduction(losses, heights, loss=check_loss(loss if loss is not None else 0.02))


def read_results(
    path: Path,
    *,
    columns: Columns | None = None,
    lower_is_better: bool = False,
    baseline: float | None = None,
) -> Results:
    """Read a CSV file with a header; its cells are parted by commas or semicolons.

    Each row is one network: the order of its stages, a seed, its accuracy, a fraction, and by how much it
    reduced the cost. An order is a letter for each stage, in capitals or not: DPQ, dpq, D-P-Q, D->P->Q or
    D → P → Q. Chains of some of the stages may stand beside those of all. A row with an empty order is the
    uncompressed network of its seed; `baseline` says its accuracy where there is none. Without a column of
    reductions the accuracy is a score of any scale, the larger the better, or the smaller if
    `lower_is_better`.

    Raises ValueError in one line that names the line of the file for columns that are missing or there twice,
    orders that are none, repeated rows, settings that some order lacks, and numbers that are none.
    """
    names = columns or Columns()
    if baseline is not None and not 0 <= baseline <= 1:
        raise ValueError(f"baseline must be a fraction in [0, 1]{_as_fraction(baseline)}, got {baseline:g}")
    rows, scored = _read(path, names)
    if lower_is_better and not scored:
        raise ValueError(
            f"lower_is_better needs a score alone, but {path} has a column {names.reduction!r}, too"
        )
    networks = [row for row in rows if row.order]
    if not networks:
        raise ValueError(f"{path} holds no row with an order")
    settings = tuple(sorted({row.setting for row in networks}))
    return Results(
        stages="".join(sorted({stage for row in networks for stage in row.order})),
        settings=settings,
        scored=scored,
        lower_is_better=lower_is_better,
        rows=_grouped(path, networks, settings),
        baselines={} if scored else _baselines(path, rows, baseline),
    )


def _grouped(
    path: Path, networks: list[_Row], settings: tuple[str, ...]
) -> dict[tuple[Order, int], tuple[_Row, ...]]:
    """The rows of each order at each seed, one for each setting."""
    grouped: dict[tuple[Order, int], dict[str, _Row]] = defaultdict(dict)
    for row in networks:
        by_setting = grouped[row.order, row.seed]
        if row.setting in by_setting:
            raise ValueError(
                f"{path}, line {row.line}: order {row.order} at seed {row.seed} was told already, in line "
                f"{by_setting[row.setting].line}"
            )
        by_setting[row.setting] = row
    for (order, seed), by_setting in grouped.items():
        if lacking := [setting for setting in settings if setting not in by_setting]:
            raise ValueError(
                f"{path}: order {order} at seed {seed} lacks the setting {lacking[0]!r} that others have"
            )
    return {key: tuple(by_setting.values()) for key, by_setting in grouped.items()}


def answer_results(
    results: Results, *, loss: float = 0.02, cost: CostName | None = None, effort: Effort | None = None
) -> Answer:
    """Answer like `derive_answer`; from plain scores at no loss and without a law by loss.

    `cost` names what the column of reductions is of, where that is known. Raises ValueError for a cost
    of plain scores.
    """
    if cost is not None and results.scored:
        raise ValueError(f"cost belongs to a column of reductions, got {cost!r} for a table of plain scores")
    losses = [] if results.scored else sorted({*LOSSES, check_loss(loss)})
    several = results.settings if len(results.settings) > 1 else ()
    tables = [results.table(loss=tolerated) for tolerated in losses] or [results.table()]
    alone = [results.table(loss=loss, setting=setting) for setting in several]
    answers = [answer_of(table, effort=effort or Effort()) for table in (*tables, *alone)]
    by_loss = dict(zip(losses, answers, strict=False))
    return Answer(
        asked=by_loss.get(loss, answers[0]),
        by_loss=tuple(by_loss[loss] for loss in LOSSES if loss in by_loss),
        by_setting=tuple(
            replace(answer, setting=setting)
            for setting, answer in zip(several, answers[len(tables) :], strict=True)
        ),
        cost="score" if results.scored else cost or "cost",
    )


def _read(path: Path, names: Columns) -> tuple[list[_Row], bool]:
    refuse_device(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} must be a CSV file of at most {MOST_BYTES >> 20} MiB, it is larger")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = ";" if ";" in first and "," not in first else ","
            reader = csv.DictReader(file, strict=True, delimiter=separator)
            header = reader.fieldnames or []
            if twice := [name for name, count in Counter(header).items() if count > 1]:
                raise ValueError(f"{path} has the column {twice[0]!r} twice: rename one of them")
            missing = [name for name in (names.order, names.seed, names.accuracy) if name not in header]
            if missing:
                raise ValueError(
                    f"{path} lacks the column {missing[0]!r}; it has: {', '.join(header) or 'none'}"
                )
            scored = names.reduction not in header
            return list(_rows(reader, path, names, scored=scored)), scored
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is not valid CSV: {error}") from None


def _rows(reader: "csv.DictReader[str]", path: Path, names: Columns, *, scored: bool) -> Iterator[_Row]:
    for cells in reader:
        where = f"{path}, line {reader.line_num}"
        if None in cells or None in cells.values():
            raise ValueError(f"{where}: a row must have as many cells as the header")
        order = _order(cells[names.order], where)
        reduction = None if scored or not order else _number(cells, names.reduction, where, least=0.0)
        score = _number(cells, names.accuracy, where)
        if not scored and not 0 <= score <= 1:
            raise ValueError(
                f"{where}: {names.accuracy} must be a fraction in [0, 1]{_as_fraction(score)}, got {score:g}"
            )
        seed = _number(cells, names.seed, where)
        if seed != int(seed):
            raise ValueError(f"{where}: {names.seed} must be a whole number, got {seed:g}")
        setting = cells.get(names.setting) or ""
        yield _Row(reader.line_num, order, int(seed), score, reduction, setting.strip())


def _order(text: str, where: str) -> Order:
    """The order that a cell tells, in capitals; empty for the uncompressed network."""
    parts = [part for part in _ARROWS.split(text.strip()) if part]
    order = "".join(parts).upper()
    apart = len(parts) > 1 and any(len(part) > 1 for part in parts)
    if apart or (order and not order.isalpha()) or len(set(order)) < len(order):
        raise ValueError(
            f"{where}: order must be one letter for each stage, each at most once, such as DPQ, "
            f"got {text[:40]!r}"
        )
    return order


def _as_fraction(number: float) -> str:
    """What to write for a number that seems to be a percentage."""
    return f", such as {number / 100:g}" if 1 < number <= 100 else ""


def _number(cells: Mapping[str, str], name: str, where: str, *, least: float = -math.inf) -> float:
    try:
        number = float(cells[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= least:
        kind = "a positive number" if least == 0 else "a finite number"
        point = ", with a point, not a comma," if "," in cells[name] else ""
        raise ValueError(f"{where}: {name} must be {kind}{point or ','} got {cells[name][:40]!r}")
    return number


def _baselines(path: Path, rows: list[_Row], baseline: float | None) -> dict[int, float]:
    scores = {row.seed: row.score for row in rows if not row.order}
    baselines: dict[int, float] = {}
    for seed in sorted({row.seed for row in rows}):
        accuracy = scores.get(seed, baseline)
        if accuracy is None:
            raise ValueError(
                f"{path} lacks the uncompressed network at seed {seed}: a row without order, or a baseline"
            )
        baselines[seed] = accuracy
    return baselines
