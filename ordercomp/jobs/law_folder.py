"""What an experiment leaves in its folder: records as they come, then law, report and the best networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick, network_name
from ordercomp.analysis.report.law_page import write_report
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.values import reduction_of
from ordercomp.codec import decode, encode, read_json, write_json
from ordercomp.files import drop_drafts, refuse_link
from ordercomp.jobs.law import answered
from ordercomp.measuring.accuracy import (
    ExitLatencies,
    ExitOutcome,
    certified_threshold,
    exit_outcome,
    sweep_thresholds,
)
from ordercomp.measuring.cost import Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import CostName, OperatingPoint, Record
from ordercomp.running.fingerprint import fingerprint_task
from ordercomp.running.jobs import key_of_record, node_key
from ordercomp.running.node import create_network, task_data, task_metric
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence
from ordercomp.shipping.packed import copy_with_threshold
from ordercomp.training.device import Probe, probe_precision


def settle_precision(task: Task, store: Store) -> Task:
    """Seal the task, and replace the recipe's precision "auto" by what a one-second probe finds faster.

    The finding is kept in the store, so that a later run of the same task decides alike.
    """
    task = fingerprint_task(task)
    if task.recipe.precision != "auto":
        return task
    path = store.folder / f"precision-{task.digest[:16]}.json"
    probe = _found_probe(path)
    if probe is None:
        probe = probe_precision(create_network(task, seed=0), batch_size=task.recipe.batch_size)
        write_json(path, probe)
    return replace(task, recipe=replace(task.recipe, precision=probe.precision))


def _found_probe(path: Path) -> Probe | None:
    """What an earlier run found; None if there was none, or its file is damaged."""
    try:
        return decode(read_json(path), Probe, path.name, strict=False)
    except (FileNotFoundError, ValueError):
        return None


def write_outcome(
    folder: Path,
    law: Law,
    answer: Answer,
    records: Sequence[Record],
    runner: Runner,
    *,
    certified: Sequence[Pick] | None = None,
) -> LawFile:
    """Write law.json, report.html and networks/ into `folder`, and return the content of law.json.

    `certified` networks take the place of those that the records alone would name. A run that trained nothing
    the same as the files that are there leaves them as they are. law.json comes last: where it is, all is.
    """
    trainings, store = runner.trainings, runner.store
    law = replace(law, trainings=trainings, seconds=runner.seconds)
    file = answered(LawFile(law=law), answer, records, store=store.folder, certified=certified)
    path = folder / "law.json"
    if trainings.done == 0:
        file = _same(path, file) or file
    _keep_picks(folder, file.networks or (), records, runner)
    write_report(folder / "report.html", file, records)
    write_json(path, file)
    return file


def kept_outcome(folder: Path, records: Sequence[Record], runner: Runner) -> LawFile | None:
    """The law.json of a folder, with its page and networks made whole; None if it is gone or damaged."""
    try:
        file = decode(read_json(folder / "law.json"), LawFile, "law.json")
    except (OSError, ValueError):
        return None
    if file.answer is None:
        return None
    _keep_picks(folder, file.networks or (), records, runner)
    write_report(folder / "report.html", file, records)
    return file


def _same(path: Path, file: LawFile) -> LawFile | None:
    """The law.json at `path` if it differs from `file` only in what its run trained; else None."""
    try:
        there = decode(read_json(path), LawFile, path.name)
    except (OSError, ValueError):
        return None
    now = replace(file, law=replace(file.law, trainings=there.law.trainings, seconds=there.law.seconds))
    return there if encode(there) == encode(now) else None


def _keep_picks(folder: Path, picks: Sequence[Pick], records: Sequence[Record], runner: Runner) -> None:
    """Keep the first network told at each tolerated loss; what is damaged is made anew."""
    record_of = {(record.sequence, record.seed): record for record in records}
    first = {pick.loss: pick for pick in reversed(picks)}
    wanted = {
        loss: (record_of[pick.sequence, pick.seed], pick.threshold, pick.skip) for loss, pick in first.items()
    }
    keep_networks(folder / "networks", wanted, network_of=runner.whole_network)


def keep_networks(
    folder: Path,
    wanted: Mapping[float, tuple[Record, float | None, float | None]],
    *,
    network_of: Callable[[Record], Path | None],
) -> None:
    """Copy the network to take at each tolerated loss into a folder, with its threshold and skipped share.

    `network_of` finds the file of a record. Raises ValueError if the folder is a link, OSError.
    """
    refuse_link(folder)
    drop_drafts(folder)
    for loss, (record, threshold, skip) in wanted.items():
        if (source := network_of(record)) is not None:
            folder.mkdir(exist_ok=True)
            copy_with_threshold(source, folder / network_name(loss), threshold, skip)


ERROR = 0.05  # of a certified loss


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
        seen, unseen = (sweep_thresholds(outcome, [threshold]) for outcome in (self.seen, self.unseen))
        spent = float(seen.bitops(self.cost, "paper")[0])
        return OperatingPoint(
            threshold=threshold if np.isfinite(threshold) else None,
            accuracy=float(seen.accuracy[0]),
            test_accuracy=float(unseen.accuracy[0]),
            bitops_cr=self.dense.bitops("paper") / spent,
            cr=self.dense.bits("paper") / self.cost.bits("paper"),
            extra={} if (latency := _latency_of(self.record)) is None else latency.at(seen.shares[0]),
        )


def _latency_of(record: Record) -> ExitLatencies | None:
    stored = record.extra.get("latency")
    return None if stored is None else decode(stored, ExitLatencies, "record key 'latency'")


def guaranteed_networks(task: Task, store: Store, records: Sequence[Record], answer: Answer) -> list[Pick]:
    """Choose at each loss of the answer the most reduced network of its order whose loss is certified.

    The order counts as given. Its networks, one for each knob setting and seed, are tested on validation
    images, each at its share of the error, so that the most reduced of those that pass may be taken. Losses
    at which no order is recommended, or none of its networks passes, have none. Networks that the store has
    lost take no part.
    """
    tested: dict[Order, list[_Tested]] = {}
    picks: list[Pick] = []
    for at in sorted((*answer.by_loss, answer.asked), key=lambda at: at.loss or 0.0):
        order, loss = at.recommended, at.loss
        if order is None or loss is None or any(pick.loss == loss for pick in picks):
            continue
        if order not in tested:
            own = [record for record in records if record.order == order]
            tested[order] = [_test(task, store, record) for record in own if _is_held(task, store, record)]
        if (best := _most_reduced(tested[order], loss, task.cost)) is not None:
            network, point = best
            note = f"certified: it loses at most {100 * loss:g} % with {100 * (1 - ERROR):g} % confidence"
            picks.append(
                Pick.of(
                    network.record,
                    point,
                    loss=loss,
                    images=network.unseen.correct.shape[1],
                    note=note,
                    store=store.folder,
                    exact=True,
                )
            )
    return picks


def certified_point(task: Task, store: Store, record: Record, *, loss: float) -> OperatingPoint | None:
    """Certify one network that the store holds with its baseline; None if its loss cannot be certified."""
    best = _most_reduced([_test(task, store, record)], loss, task.cost)
    return None if best is None else best[1]


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


def _most_reduced(
    tested: Sequence[_Tested], loss: float, cost: CostName
) -> tuple[_Tested, OperatingPoint] | None:
    best: tuple[float, _Tested, OperatingPoint] | None = None
    for network in tested:
        threshold = certified_threshold(
            network.seen, network.right_before, loss=loss, error=ERROR / len(tested)
        )
        if threshold is None:
            continue
        point = network.point(threshold)
        reduction = reduction_of(point, network.record.sequence, cost=cost)
        if best is None or reduction > best[0]:
            best = (reduction, network, point)
    return None if best is None else best[1:]


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
