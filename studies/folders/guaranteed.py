"""Networks to take whose loss holds with 95 % confidence: thresholds chosen by risk control.

The order counts as given. Its networks, one for each knob setting and seed, are tested on validation images,
each at its share of the error, so that the most reduced of those that pass may be taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.networks import Taken, loss_interval
from ordercomp.measuring.accuracy import ExitOutcome, certified_threshold, exit_outcome, sweep_thresholds
from ordercomp.measuring.cost import Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import OperatingPoint, Record
from ordercomp.running.jobs import key_of_record, node_key
from ordercomp.running.node import task_data, task_metric
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence

ERROR = 0.05


@dataclass(frozen=True, slots=True)
class _Tested:
    """A network with what it says about all held-out images, and the uncompressed network of its seed."""

    record: Record
    cost: Cost
    dense: Cost
    seen: ExitOutcome  # validation
    unseen: ExitOutcome  # test
    right_before: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def point(self, threshold: float) -> OperatingPoint:
        """What it does at a threshold."""
        seen, unseen = (sweep_thresholds(one, [threshold]) for one in (self.seen, self.unseen))
        spent = float(seen.shares[0] @ np.array(self.cost.bitops_by_exit("paper")))
        return OperatingPoint(
            threshold=threshold if np.isfinite(threshold) else None,
            accuracy=float(seen.accuracy[0]),
            test_accuracy=float(unseen.accuracy[0]),
            bitops_cr=self.dense.bitops("paper") / spent,
            cr=self.dense.bits("paper") / self.cost.bits("paper"),
        )


def guaranteed_networks(task: Task, store: Store, records: Sequence[Record], answer: Answer) -> list[Taken]:
    """Choose at each loss of the answer the most reduced network of its order whose loss is certified.

    Losses at which no order is recommended, or none of its networks passes, have none. Networks that the
    store has lost take no part.
    """
    tested: dict[Order, list[_Tested]] = {}
    found: list[Taken] = []
    for told in sorted((*answer.by_loss, answer.asked), key=lambda one: one.loss or 0.0):
        order, loss = told.recommended, told.loss
        if order is None or loss is None or any(one.loss == loss for one in found):
            continue
        if order not in tested:
            own = [record for record in records if record.order == order]
            tested[order] = [_test(task, store, record) for record in own if _is_held(task, store, record)]
        taken = _most_reduced(tested[order], loss)
        if taken is not None:
            found.append(taken)
    return found


def certify_network(task: Task, store: Store, record: Record, *, loss: float) -> Taken | None:
    """Certify one network that the store holds with its baseline; None if its loss cannot be certified."""
    return _most_reduced([_test(task, store, record)], loss)


def measure_at(task: Task, store: Store, record: Record, threshold: float) -> OperatingPoint:
    """What a network that the store holds with its baseline does at a threshold."""
    return _test(task, store, record).point(threshold)


def _is_held(task: Task, store: Store, record: Record) -> bool:
    """Whether the store has the network and its baseline."""
    key = key_of_record(task.digest, record)
    return (
        bool(record.points)
        and key is not None
        and store.has_network(key)
        and store.has_network(_baseline_key(task, record))
    )


def _baseline_key(task: Task, record: Record) -> str:
    return node_key(task.digest, StageSequence(()), record.seed)


def _most_reduced(tested: Sequence[_Tested], loss: float) -> Taken | None:
    best: tuple[_Tested, OperatingPoint] | None = None
    for one in tested:
        threshold = certified_threshold(one.seen, one.right_before, loss=loss, error=ERROR / len(tested))
        if threshold is None:
            continue
        point = one.point(threshold)
        if best is None or point.bitops_cr > best[1].bitops_cr:
            best = (one, point)
    if best is None:
        return None
    one, point = best
    images = one.unseen.correct.shape[1]
    return Taken(
        loss=loss,
        record=one.record,
        point=point,
        interval=loss_interval(one.record.baseline.test_accuracy, point.test_accuracy, images),
        note=f"certified: it loses at most {100 * loss:g} % with {100 * (1 - ERROR):g} % confidence",
    )


def _test(task: Task, store: Store, record: Record) -> _Tested:
    data = task_data(task, record.seed)
    metric = task_metric(task, data)
    key = str(key_of_record(task.digest, record))
    network = CompressedNetwork.load(store.network_path(key), model=task.model)
    baseline = CompressedNetwork.load(store.network_path(_baseline_key(task, record)), model=task.model)
    return _Tested(
        record=record,
        cost=measure_cost(network),
        dense=measure_cost(baseline),
        seen=exit_outcome(network, data.validation, metric=metric),
        unseen=exit_outcome(network, data.test, metric=metric),
        right_before=exit_outcome(baseline, data.validation, metric=metric).correct[-1],
    )
