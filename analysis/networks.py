"""Networks to take: the recommended order's at each tolerated loss, chosen with care, told with an interval.

The most compressed of many networks looks better on the images that chose it than it is. So a network is
chosen whose loss on validation images lies one standard error below what is tolerated (the rule of Breiman et
al. 1984), and its loss on test images, which chose nothing, is told with a 95 % interval.

Records hold accuracies, not which images each network gets right, so the interval is that of two independent
shares (Newcombe 1998): networks that share errors, as these do, differ by less, so it is a bound.
"""

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from ordercomp.analysis.answer import Answer, AnswerAt
from ordercomp.analysis.fronts import point_losses
from ordercomp.analysis.ranking import chain_records
from ordercomp.analysis.values import images_in, multiplication_bits, reduction_of
from ordercomp.codec import OMITTED, Number
from ordercomp.records import CostName, OperatingPoint, Record, check_cost
from ordercomp.sequence import Order

Wanted = Callable[[Record], bool]
MORE = 1.02  # times the reduction from which on another order's network is worth a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A network to take at a tolerated loss."""

    loss: float  # tolerated, a fraction
    order: Order
    sequence: str
    seed: int
    threshold: Number | None  # confidence above which a sample leaves early
    reduction: Number  # of bit operations
    storage: Number
    test_accuracy: Number
    test_loss: Number
    interval: tuple[Number, Number] | None  # of the loss on test data, 95 %; None: the images are not known
    note: str = ""
    command: str = ""  # makes it
    skip: Number | None = field(
        default=None, metadata=OMITTED
    )  # share of images that skip a block, with gates
    latency: Number | None = field(default=None, metadata=OMITTED)  # times faster, exported, if measured

    @classmethod
    def of(
        cls,
        record: Record,
        point: OperatingPoint,
        *,
        loss: float,
        images: int | None,
        note: str = "",
        store: Path | None = None,
        exact: bool = False,
    ) -> "Pick":
        """The network of a record at an operating point, tested on so many `images`, if that is known.

        Its command names the `store`, if there is one, and the threshold itself if that must be `exact`.
        """
        baseline = record.baseline.test_accuracy
        return cls(
            loss=loss,
            order=record.order,
            sequence=record.sequence,
            seed=record.seed,
            threshold=point.threshold,
            skip=point.extra.get("skip"),
            reduction=point.bitops_cr,
            storage=point.cr,
            latency=point.extra.get("latency_cr"),
            test_accuracy=point.test_accuracy,
            test_loss=baseline - point.test_accuracy,
            interval=loss_interval(baseline, point.test_accuracy, images),
            note=note,
            command=compress_command(record, loss, exact=point if exact else None, store=store),
        )

    def reduced(self, cost: str) -> float:
        """How many times smaller it is by a cost."""
        if cost == "storage":
            return self.storage
        if cost == "latency" and self.latency is not None:
            return self.latency
        return self.reduction * (multiplication_bits(self.sequence) if cost == "macs" else 1.0)

    def doubted(self) -> "Pick":
        """The same with a note where it loses more on test data than was tolerated on validation data."""
        if self.test_loss <= self.loss + 1e-12:
            return self
        doubt = f"lost more than {100 * self.loss:g} % on test data"
        return replace(self, note="; ".join(filter(None, (self.note, doubt))))


def network_name(loss: float) -> str:
    """The file name of the network to take at a tolerated loss, a fraction: loss-2.safetensors."""
    return f"loss-{100 * loss:g}.safetensors"


def compress_command(
    record: Record,
    loss: float,
    *,
    exact: OperatingPoint | None = None,
    task: str = "",
    store: Path | None = None,
) -> str:
    """The command line that makes the network of a record, to be taken at `loss`, a fraction.

    The threshold that it stores follows from the loss, or is that of the `exact` point. `task` stands for the
    one that the record names; a `store` saves the trainings that it holds.
    """
    choice = ["--loss", f"{100 * loss:g}%"]
    if exact is not None:
        choice = ["--threshold", "none" if exact.threshold is None else f"{exact.threshold:.6g}"]
    words = [
        *("ordercomp", "compress", record.sequence),
        *("--task", task or str(record.extra.get("task_source", record.task)), "--seed", str(record.seed)),
        *(() if store is None else ("--store", str(store))),
        *choice,
        *("--out", f"{record.order}-{network_name(loss)}"),
    ]
    return shlex.join(words)


def networks_to_take(
    records: Iterable[Record], answer: Answer, stages: Order, *, store: Path | None = None
) -> list[Pick]:
    """Choose the recommended order's network at each loss of the answer, by its cost, where one is within it.

    Where the network of a smaller loss reached more already, it stands there instead, with a note: a larger
    loss never buys less. Where a single network of another order reached more, it follows with a note. Where
    no order is recommended, the most compressed network measured stands alone, with a note. Only chains of
    `stages` take part. The commands name the `store` that holds the networks, if there is one.
    """
    held = [record for record in chain_records(records, stages) if record.points]
    seen = images_in([*(p.accuracy for r in held for p in r.points), *(r.baseline.accuracy for r in held)])
    unseen = images_in(
        [*(p.test_accuracy for r in held for p in r.points), *(r.baseline.test_accuracy for r in held)]
    )
    cost = check_cost(answer.cost)
    points = _rank_points(held, seen, cost)
    asked = {at.loss: at for at in (*answer.by_loss, answer.asked) if at.loss is not None}
    picks: list[Pick] = []
    before: Pick | None = None  # the network to take at smaller losses, as it was told first
    for loss in sorted(asked):

        def take(wanted: Wanted, note: str = "", loss: float = loss) -> Pick | None:
            if (best := points.first(loss, wanted)) is None:
                return None
            exact = cost != "bitops"  # by which the command chooses the threshold
            return Pick.of(*best, loss=loss, images=unseen, note=note, store=store, exact=exact)

        rows = _at_loss(asked[loss], take, before, cost)
        picks += rows
        if rows and asked[loss].recommended is not None and rows[0].note == "":
            before = rows[0]
    return [pick.doubted() for pick in picks]


def _at_loss(
    at: AnswerAt, take: Callable[[Wanted, str], Pick | None], before: Pick | None, cost: CostName
) -> list[Pick]:
    if at.recommended is None:
        alone = take(_any, "the most compressed one measured; this says nothing about the order")
        return [] if alone is None else [alone]
    own = take(lambda record: record.order == at.recommended, "")
    if before is not None and (own is None or before.reduced(cost) > own.reduced(cost)):
        note = f"the network of {100 * before.loss:g} %: {at.recommended}'s reached less"
        same = (before.sequence, before.seed)
        own = take(lambda record: (record.sequence, record.seed) == same, note)
    other = take(lambda record: record.order != at.recommended, "")
    picks = [] if own is None else [own]
    if other is not None and (own is None or other.reduced(cost) > MORE * own.reduced(cost)):
        place = "may be the best order, too" if other.order in at.best_set else "is out over all seeds"
        if other.order not in at.standings:
            place = "was not run like the others"
        picks.append(replace(other, note=f"{other.order} {place}; this single network reached more"))
    return picks


def choose_point(
    records: Iterable[Record], loss: float, *, images: int | None, cost: CostName = "bitops"
) -> tuple[Record, OperatingPoint] | None:
    """Choose the operating point most reduced by `cost` whose validation loss is surely enough within `loss`.

    That is one standard error below it, as if half of the errors fell on the same of `images` images; without
    `images` the loss itself is compared. Ties go to the smaller loss, the shorter order, then the earlier
    seed. None if there is no such point.
    """
    return _rank_points(list(records), images, cost).first(loss)


def _any(record: Record) -> bool:
    return True


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Operating points with their records, the one to choose first."""

    points: Sequence[tuple[Record, OperatingPoint]]
    ranking: npt.NDArray[np.int64]  # their places
    losses: npt.NDArray[np.float64]  # in this ranking, each one standard error above

    def first(self, loss: float, wanted: Wanted = _any) -> tuple[Record, OperatingPoint] | None:
        """The first point within `loss` of a record that is wanted."""
        within = map(self.points.__getitem__, self.ranking[self.losses <= loss + 1e-12])
        return next((candidate for candidate in within if wanted(candidate[0])), None)


def _rank_points(records: Sequence[Record], images: int | None, cost: CostName) -> _Ranked:
    points = [(record, point) for record in records for point in record.points]
    losses, lengths = point_losses(records)
    errors = [(1 - record.baseline.accuracy) + (1 - point.accuracy) for record, point in points]
    lost = losses[:, 0]
    by_tie = sorted(
        range(len(records)), key=lambda k: (len(records[k].order), records[k].sequence, records[k].seed)
    )
    ties = np.empty(len(records), dtype=np.int64)
    ties[by_tie] = np.arange(len(records))
    costs = -np.array([reduction_of(point, record.sequence, cost=cost) for record, point in points])
    ranking = np.lexsort((np.repeat(ties, lengths), lost, costs))
    variance = 0.0 if images is None else np.maximum(np.abs(lost), np.array(errors) / 2) / images
    return _Ranked(points, ranking, (lost + np.sqrt(variance))[ranking])


def loss_interval(
    baseline: float, accuracy: float, images: int | None, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """The interval of the loss `baseline - accuracy` on `images` images; None without their number.

    Newcombe's hybrid of two Wilson intervals, as if the two networks erred independently.
    """
    if images is None:
        return None
    difference = baseline - accuracy
    low_base, high_base = _wilson(baseline, images, confidence)
    low, high = _wilson(accuracy, images, confidence)
    return (
        difference - math.hypot(baseline - low_base, high - accuracy),
        difference + math.hypot(high_base - baseline, accuracy - low),
    )


def _wilson(share: float, images: int, confidence: float) -> tuple[float, float]:
    z = float(special.ndtri(0.5 + confidence / 2))
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    spread = max(0.0, share * (1 - share)) / images + z**2 / (4 * images**2)
    half = z / (1 + z**2 / images) * math.sqrt(spread)
    return middle - half, middle + half
