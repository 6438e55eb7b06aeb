"""Networks to take: the recommended order's at each tolerated loss, chosen with care, told with an interval.

The most compressed of many networks looks better on the images that chose it than it is. So a network is
chosen whose loss on validation images lies one standard error below what is tolerated (the rule of Breiman et
al. 1984), and its loss on test images, which chose nothing, is told with a 95 % interval.

Records hold accuracies, not which images each network gets right, so the interval is that of two independent
shares (Newcombe 1998): networks that share errors, as these do, differ by less, so it is a bound.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ordercomp.analysis.answer import Answer, AnswerAt
from ordercomp.codec import Number
from ordercomp.records import OperatingPoint, Record
from ordercomp.sequence import Order

MOST_IMAGES = 200_000
MORE = 1.02  # times the reduction from which on another order's network is worth a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A network to take at a tolerated loss."""

    loss: float  # tolerated, a fraction
    record: Record
    point: OperatingPoint
    interval: tuple[float, float] | None  # of the loss on test data, 95 %; None: the images are not known
    note: str = ""

    @property
    def test_loss(self) -> float:
        """What it loses on test data, a fraction."""
        return self.record.baseline.test_accuracy - self.point.test_accuracy

    def doubted(self) -> "Taken":
        """The same with a note where it loses more on test data than was tolerated on validation data."""
        if self.test_loss <= self.loss + 1e-12:
            return self
        doubt = f"lost more than {100 * self.loss:g} % on test data"
        return replace(self, note="; ".join(filter(None, (self.note, doubt))))

    def pick(self, command: str) -> "Pick":
        """The same as it is told, with the command that makes it."""
        return Pick(
            loss=self.loss,
            order=self.record.order,
            sequence=self.record.sequence,
            seed=self.record.seed,
            threshold=self.point.threshold,
            reduction=self.point.bitops_cr,
            storage=self.point.cr,
            test_accuracy=self.point.test_accuracy,
            test_loss=self.test_loss,
            interval=self.interval,
            note=self.note,
            command=command,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A network to take as it is told."""

    loss: float  # tolerated, a fraction
    order: Order
    sequence: str
    seed: int
    threshold: Number | None  # confidence above which a sample leaves early
    reduction: Number  # of bit operations
    storage: Number
    test_accuracy: Number
    test_loss: Number
    interval: tuple[Number, Number] | None  # of the loss on test data, 95 %
    note: str = ""
    command: str = ""


def networks_to_take(records: Iterable[Record], answer: Answer, stages: Order) -> list[Taken]:
    """Choose the recommended order's network at each loss of the answer, where one is within it.

    Where the network of a smaller loss reached more already, it stands there instead, with a note: a larger
    loss never buys less. Where a single network of another order reached more, it follows with a note. Where
    no order is recommended, the most compressed network measured stands alone, with a note. Only permutations
    of `stages` take part.
    """
    letters = sorted(stages)
    held = [record for record in records if sorted(record.order) == letters and record.points]
    seen = images_in([*(p.accuracy for r in held for p in r.points), *(r.baseline.accuracy for r in held)])
    unseen = images_in(
        [*(p.test_accuracy for r in held for p in r.points), *(r.baseline.test_accuracy for r in held)]
    )
    asked = {one.loss: one for one in (*answer.by_loss, answer.asked) if one.loss is not None}
    found: list[Taken] = []
    before: Taken | None = None  # the network to take at smaller losses, as it was told first
    for loss in sorted(asked):
        rows = _at_loss(held, asked[loss], loss, seen, unseen, before)
        found += rows
        if rows and asked[loss].recommended is not None and rows[0].note == "":
            before = rows[0]
    return [one.doubted() for one in found]


def _at_loss(
    records: Sequence[Record],
    told: AnswerAt,
    loss: float,
    seen: int | None,
    unseen: int | None,
    before: Taken | None,
) -> list[Taken]:
    def take(some: Sequence[Record], note: str) -> Taken | None:
        found = choose_point(some, loss, images=seen)
        if found is None:
            return None
        record, point = found
        interval = loss_interval(record.baseline.test_accuracy, point.test_accuracy, unseen)
        return Taken(loss=loss, record=record, point=point, interval=interval, note=note)

    if told.recommended is None:
        alone = take(records, "the most compressed one measured; this says nothing about the order")
        return [] if alone is None else [alone]
    own = take([record for record in records if record.order == told.recommended], "")
    if before is not None and (own is None or before.point.bitops_cr > own.point.bitops_cr):
        note = f"the network of {100 * before.loss:g} %: {told.recommended}'s reached less"
        own = take([before.record], note)
    rest = take([record for record in records if record.order != told.recommended], "")
    found = [] if own is None else [own]
    if rest is not None and (own is None or rest.point.bitops_cr > MORE * own.point.bitops_cr):
        order = rest.record.order
        place = "may be the best order, too" if order in told.best_set else "is out over all seeds"
        if order not in told.standings:
            place = "was not run like the others"
        note = f"{order} {place}; this single network reached more"
        found.append(replace(rest, note=note))
    return found


def choose_point(
    records: Iterable[Record], loss: float, *, images: int | None
) -> tuple[Record, OperatingPoint] | None:
    """Choose the most reduced operating point whose validation loss is surely enough within `loss`.

    That is one standard error below it, as if half of the errors fell on the same of `images` images; without
    `images` the loss itself is compared. Ties go to the smaller loss, the shorter order, then the earlier
    seed. None if there is no such point.
    """
    best: tuple[tuple[float, float, int, str, int], Record, OperatingPoint] | None = None
    for record in records:
        for point in record.points:
            lost = record.baseline.accuracy - point.accuracy
            errors = (1 - record.baseline.accuracy) + (1 - point.accuracy)
            variance = 0.0 if images is None else max(abs(lost), errors / 2) / images
            key = (-point.bitops_cr, lost, len(record.order), record.sequence, record.seed)
            if lost + math.sqrt(variance) <= loss + 1e-12 and (best is None or key < best[0]):
                best = (key, record, point)
    return None if best is None else best[1:]


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


def images_in(fractions: Sequence[float]) -> int | None:
    """The least number of images of which all these shares are whole counts.

    None if there is none up to 200,000, or if fewer than two different shares are given.
    """
    shares = np.unique(np.asarray(fractions, dtype=np.float64))
    if len(shares) < 2 or not np.isfinite(shares).all():
        return None
    images = np.arange(math.floor(1 / float(np.diff(shares).max())), MOST_IMAGES + 1, dtype=np.float64)
    for share in shares:
        counts = share * images
        images = images[np.abs(counts - np.round(counts)) < 1e-6]
    return next((int(number) for number in images if number > 1), None)


def _wilson(share: float, images: int, confidence: float) -> tuple[float, float]:
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    spread = max(0.0, share * (1 - share)) / images + z**2 / (4 * images**2)
    half = z / (1 + z**2 / images) * math.sqrt(spread)
    return middle - half, middle + half
