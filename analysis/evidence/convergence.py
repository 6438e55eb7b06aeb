"""Convergence guard: does a plain further fine-tune F improve a prefix so much that it was under-trained?

An under-trained stage fakes an order, because the epochs of a later stage also serve an earlier one.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ordercomp.analysis.evidence.judge import interval_alone
from ordercomp.analysis.evidence.units import PairTable, parsed
from ordercomp.analysis.fronts.readouts import Measured
from ordercomp.sequence import StageSequence

CONTROL = "F"  # the stage that trains on without compressing

Status = Literal["converged", "under-trained", "unclear"]


@dataclass(frozen=True, slots=True)
class Control:
    """What one more fine-tune adds to the accuracy of a prefix, over seeds."""

    sequence: str  # the prefix, without F
    accounting: str
    gain: float  # mean gain of validation accuracy at the end of the network, a fraction
    interval: tuple[float, float]  # at 95 % over seeds; [-1, 1] with one seed
    seeds: int
    status: Status


@dataclass(frozen=True, slots=True)
class Guard:
    """Tells which evidence leans on under-trained prefixes."""

    controls: tuple[Control, ...]
    margin: float  # gain of accuracy, a fraction, above which a prefix counts as under-trained

    def sound(self, table: PairTable) -> list[bool]:
        """Mark the cells of `table` in which neither side passes through an under-trained prefix.

        Looked at are the prefixes in which both sides differ and the two whole sequences. One without a
        control of its own is judged by the mean gain of the controlled prefixes that end in the same stage,
        or counts as sound if there are none.
        """
        own = {(control.accounting, control.sequence): control.gain for control in self.controls}
        kin = _mean_gains(self.controls)

        def under_trained(accounting: str, node: str) -> bool:
            last = parsed(node).steps[-1].stage
            return own.get((accounting, node), kin.get((accounting, last), 0.0)) > self.margin

        return [not any(under_trained(cell.accounting, node) for node in cell.nodes) for cell in table.cells]


def controls(runs: Mapping[tuple[str, str, int], Measured], *, margin: float) -> Guard:
    """Compare every sequence that ends in F with the one without it, paired by seed.

    A prefix is "under-trained" if F gains more than `margin` (a fraction of accuracy) on average over the
    seeds, "converged" if the upper end of the 95 % interval stays below the margin, else "unclear".
    """
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (accounting, text, seed), longer in sorted(runs.items()):
        sequence = parsed(text)
        if len(sequence) < 2 or sequence.steps[-1].stage != CONTROL:
            continue
        prefix = str(StageSequence(sequence.steps[:-1]))
        shorter = runs.get((accounting, prefix, seed))
        if shorter is not None:
            gains[accounting, prefix].append(longer.end_accuracy - shorter.end_accuracy)
    return Guard(tuple(_control(*key, values, margin) for key, values in sorted(gains.items())), margin)


def _control(accounting: str, sequence: str, gains: list[float], margin: float) -> Control:
    mean = float(np.mean(gains))
    low, high = interval_alone(np.array(gains), bound=1.0)
    status: Status = "under-trained" if mean > margin else "converged" if high < margin else "unclear"
    return Control(sequence, accounting, mean, (low, high), len(gains), status)


def _mean_gains(found: tuple[Control, ...]) -> dict[tuple[str, str], float]:
    """Average the gains of the controls that share accounting and last stage."""
    pooled: dict[tuple[str, str], list[float]] = defaultdict(list)
    for control in found:
        last = parsed(control.sequence).steps[-1].stage
        pooled[control.accounting, last].append(control.gain)
    return {key: float(np.mean(gains)) for key, gains in pooled.items()}
