"""Why exits come early: P and E in both orders, with heads alone and trained jointly with the body.

Heads that stand on a frozen body are tuned together with it by every later stage, so an early E is trained
for longer than a late one. Trained jointly at once, only the order itself is left of the difference.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ordercomp.analysis.report.tables import Column, Table, loss_text
from ordercomp.analysis.statistics import interval_alone
from ordercomp.analysis.values import networks_of, order_values
from ordercomp.records import Record

STAGES, EARLY, LATE = "PE", "EP", "PE"
JOINTLY = "train=joint"
MOST = 16.0  # doublings within which an interval is told


def joint_table(recordings: Mapping[str, Sequence[Record]], losses: Sequence[float]) -> Table:
    """How far E before P is ahead of P before E, in doublings, by data and tolerated loss."""
    rows = []
    for name, records in recordings.items():
        joint = [record for record in records if JOINTLY in record.sequence]
        alone = [record for record in records if JOINTLY not in record.sequence]
        for loss in losses:
            told = [_lead(some, loss) for some in (alone, joint)]
            rows.append((name, loss_text(loss), *told, str(len({record.seed for record in records}))))
    names = ("data", "tolerated loss", "heads alone", "jointly", "seeds")
    return Table(
        title="How far EP is ahead of PE",
        columns=tuple(Column(name, "left" if name == "data" else "right") for name in names),
        rows=tuple(rows),
        note="In doublings of the reduction of bit operations, mean over seeds with its 95 % interval.",
    )


def _lead(records: Sequence[Record], loss: float) -> str:
    table = order_values(networks_of(records, STAGES), STAGES, loss=loss)
    early, late = (table.values[table.orders.index(order)] for order in (EARLY, LATE))
    both = (early - late)[np.isfinite(early - late)]
    low, high = interval_alone(both, bound=MOST)
    return f"{both.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
