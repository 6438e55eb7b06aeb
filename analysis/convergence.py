"""The convergence guard: which chains would gain from more epochs alone, so that they are told too low?

A stage that was trained too briefly fakes an order, as the epochs of a later stage serve it, too. Controls
show it: a sequence with a further fine-tune F at its end, which compresses nothing, beside the same without.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ordercomp.analysis.run_table import RunTable, parsed
from ordercomp.analysis.statistics import interval_alone
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence

MARGIN = 0.01  # accuracy that F may gain, a fraction, before a sequence counts as under-trained
Status = Literal["converged", "under-trained", "unclear"]


@dataclass(frozen=True, slots=True)
class Control:
    """What one more fine-tune adds to the accuracy of a sequence, over seeds."""

    sequence: str  # without F
    accounting: str
    gain: float  # mean gain of validation accuracy at the end of the network, a fraction
    interval: tuple[float, float]  # at 95 % over seeds; [-1, 1] with one seed
    seeds: int
    status: Status


def controls(table: RunTable, *, margin: float = MARGIN) -> tuple[Control, ...]:
    """Compare every sequence that ends in F with the one without it, paired by seed.

    It is "under-trained" if F gains more than `margin` (a fraction of accuracy) on average over the seeds,
    "converged" if the upper end of the 95 % interval stays below the margin, else "unclear".
    """
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run, record in sorted(table.records.items(), key=lambda item: item[0]):
        if (prefix := run.controlled) is None or prefix not in table.records:
            continue
        before = table.records[prefix]
        if before.points and record.points:
            gains[run.accounting, prefix.text].append(end_accuracy(record) - end_accuracy(before))
    return tuple(_control(*key, values, margin) for key, values in sorted(gains.items()))


def end_accuracy(record: Record) -> float:
    """Validation accuracy with every sample going to the end, a fraction. ValueError for a failed record."""
    ends = [point.accuracy for point in record.points if point.threshold is None]
    return ends[0] if ends else max(point.accuracy for point in record.points)


def short_chains(
    table: RunTable, judged: Sequence[Control], stages: Order, *, margin: float = MARGIN
) -> frozenset[Order]:
    """The chains of `stages` that gain more than `margin` from F at half of their knob settings or more.

    Looked at is what a chain is up to its last stage that controls are about: exits that follow leave the
    rest as it is. Without a control of its own it is judged by the mean gain after this stage. What lacked
    epochs on the way and got them by its end is not short: it is the chain that ends with them that is.
    """
    own = {(control.accounting, control.sequence): control.gain for control in judged}
    by_stage: dict[tuple[str, str], list[float]] = defaultdict(list)
    for control in judged:
        by_stage[control.accounting, parsed(control.sequence).order[-1]].append(control.gain)
    settings: dict[Order, list[bool]] = defaultdict(list)
    for accounting, text in dict.fromkeys((run.accounting, run.text) for run in table.chains(stages)):
        steps = parsed(text).steps
        while steps and (accounting, steps[-1].stage) not in by_stage:
            steps = steps[:-1]
        if steps:
            usual = float(np.mean(by_stage[accounting, steps[-1].stage]))
            gain = own.get((accounting, str(StageSequence(steps))), usual)
            settings[parsed(text).order].append(gain > margin)
    return frozenset(order for order, short in settings.items() if 2 * sum(short) >= len(short))


def _control(accounting: str, sequence: str, gains: list[float], margin: float) -> Control:
    mean = float(np.mean(gains))
    low, high = interval_alone(np.array(gains), bound=1.0)
    status: Status = "under-trained" if mean > margin else "converged" if high < margin else "unclear"
    return Control(sequence, accounting, mean, (low, high), len(gains), status)
