"""Compress: train one sequence of stages, and keep its network with the threshold for leaving early."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ordercomp.analysis.networks import choose_point
from ordercomp.analysis.values import images_in
from ordercomp.errors import FailedRunError
from ordercomp.jobs.law_folder import certified_point, measure_at, settle_precision
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import check_output
from ordercomp.records import CostName, OperatingPoint, Record
from ordercomp.running.jobs import Finished, Request, key_of_record
from ordercomp.running.node import (
    check_guarantee,
    check_start,
    log_notices,
    start_network,
    task_data,
    task_metric,
    train_node,
)
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.running.workers import refuse_unguarded
from ordercomp.sequence import StageSequence
from ordercomp.shipping.packed import copy_with_threshold
from ordercomp.shipping.plain import stored_images
from ordercomp.stages.catalog import apply_untrained, complete

_NO_THRESHOLD = "; no exit threshold is stored, so every image takes the last exit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A network that was written."""

    record: Record  # all that was measured of it
    point: OperatingPoint  # at the threshold that is stored; where no point keeps the loss, the last exit's
    keeps_loss: bool  # whether some operating point keeps the tolerated loss
    path: Path

    @property
    def threshold(self) -> float | None:
        """The confidence at which images leave early, stored in the file; None: all go to the last exit."""
        return self.point.threshold

    @property
    def numbers(self) -> dict[str, float]:
        """What the network does and costs, and what the baseline does, by name."""
        metric = self.record.metric
        return {
            f"validation {metric}": self.point.accuracy,
            f"test {metric}": self.point.test_accuracy,
            f"baseline test {metric}": self.record.baseline.test_accuracy,
            "BitOpsCR": self.point.bitops_cr,
            "CR": self.point.cr,
        }

    def remarks(self, loss: str) -> list[str]:
        """What a user should know of the threshold, where the loss was asked for in these words."""
        if not self.keeps_loss:
            lost = 100 * (self.record.baseline.accuracy - max(point.accuracy for point in self.record.points))
            best = f"the best one loses {lost:.2f} % on validation images"
            ending = _NO_THRESHOLD if "E" in self.record.order else ""
            return [f"no operating point is one standard error within a loss of {loss}: {best}{ending}"]
        if self.threshold is None:
            return []
        return [f"{self.path} lets images leave early at a confidence of {self.threshold:.3g}"]


def compress(
    sequence: StageSequence | str,
    task: Task | str,
    *,
    out: Path | str,
    seed: int = 0,
    loss: float = 0.02,
    threshold: float | None = None,
    guarantee: bool = False,
    store: Path | str | None = None,
    report: Callable[[Finished], None] = lambda finished: None,
) -> Compressed:
    """Apply the stages of a sequence, one after the other, and write the compressed network to `out`.

    Args:
        sequence: with knobs as given and defaults elsewhere; letters alone take the knobs of the task.
        task: a task, a built-in name or a TOML file.
        out: the file, *.safetensors, in an existing folder.
        seed: of split and training.
        loss: of the task's metric, a fraction, that the network may lose; it chooses the stored threshold.
        threshold: to be stored instead, a confidence from 0 to 1; infinity: no image leaves early.
        guarantee: choose the threshold so that the loss holds with 95 % confidence.
        store: folder of finished trainings, which are not done again; None: one that is removed afterwards.
        report: called with every finished node.

    Raises:
        ValueError: bad arguments, or stages that cannot be applied to the network; nothing is trained then.
        FailedRunError: a training failed, or the loss cannot be guaranteed; nothing is written then.
    """
    refuse_unguarded("compress")
    task = load_task(task) if isinstance(task, str) else task
    wanted = _complete(sequence, task)
    path = Path(out)
    _check(loss, threshold, path, guarantee=guarantee)
    data = task_data(task, seed)
    metric = task_metric(task, data)
    if guarantee:
        check_guarantee(metric)
    log_notices(data)
    network, _ = start_network(task, seed=seed)
    check_start(task, network, seed=seed)
    apply_untrained(network, wanted)  # what cannot be applied is told at once
    with tempfile.TemporaryDirectory(prefix="ordercomp-") as temporary:
        results = Store(Path(store or temporary))
        task = settle_precision(task, results)
        last = _train(task, Request(wanted, seed), results, report)
        if last.error is not None:
            raise FailedRunError(last.error)
        if threshold is not None:
            best: OperatingPoint | None = measure_at(task, results, last, threshold)
        elif guarantee:
            best = _certified(task, results, last, loss)
        else:
            best = _within(last, loss, task.cost)
        point = last.points[0] if best is None else best
        key = str(key_of_record(task.digest, last))
        copy_with_threshold(results.network_path(key), path, point.threshold, point.extra.get("skip"))
    return Compressed(record=last, point=point, keeps_loss=best is not None, path=path)


def _complete(sequence: StageSequence | str, task: Task) -> StageSequence:
    """The sequence with every knob set. Raises ValueError for an empty one."""
    wanted = StageSequence.parse(sequence) if isinstance(sequence, str) else sequence
    if not wanted.steps:
        raise ValueError("SEQUENCE must hold at least one stage, got an empty one")
    bare = not any(step.knobs for step in wanted.steps)
    return task.sequence(wanted.order) if bare else complete(wanted)


def _check(loss: float, threshold: float | None, out: Path, *, guarantee: bool) -> None:
    """Raise ValueError for arguments that are wrong or exclude each other."""
    if threshold is not None and not (0 <= threshold <= 1 or threshold == math.inf):
        raise ValueError(f"threshold must be a confidence from 0 to 1, or infinity, got {threshold}")
    if guarantee and threshold is not None:
        raise ValueError("guarantee chooses the threshold, so that threshold cannot be given, too")
    if guarantee and not 0 < loss < 1:
        raise ValueError(f"loss must lie between 0 and 1 to be guaranteed, got {loss}")
    _check_writable(out)


def _within(record: Record, loss: float, cost: CostName) -> OperatingPoint | None:
    """The most reduced point that is surely enough within the loss, as for the networks to take."""
    shares = [record.baseline.accuracy, *(point.accuracy for point in record.points)]
    best = choose_point([record], loss, images=images_in(shares), cost=cost)
    return None if best is None else best[1]


def _certified(task: Task, store: Store, record: Record, loss: float) -> OperatingPoint:
    point = certified_point(task, store, record, loss=loss)
    if point is None:
        raise FailedRunError(
            f"the loss of {record.order} cannot be certified to be at most {100 * loss:g} % with 95 % "
            "confidence; no network is written"
        )
    return point


def _train(task: Task, request: Request, store: Store, report: Callable[[Finished], None]) -> Record:
    """The record of the request. Raises KeyboardInterrupt if it was interrupted."""
    last: Record | None = None
    with Runner(task, store, workers=1, work=train_node) as runner:
        for finished in runner.run([request]):
            report(finished)
            last = finished.record
        if runner.interrupted:
            raise KeyboardInterrupt
    assert last is not None
    return last


def _check_writable(out: Path) -> None:
    """Raise ValueError unless a network can be written there."""
    check_output(out, "--out")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ValueError(f"--out must be a file that can be written, got {out}: {error.strerror}") from None


# Images for a network that is shipped

TRAINING_IMAGES, TEST_IMAGES = 256, 1000


def task_images(network: CompressedNetwork, task: Task | str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Training images of a task, stored pixel values (n, c, h, w), and test images with their labels.

    Raises ValueError if the network takes images of another shape, or other classes.
    """
    task = load_task(task) if isinstance(task, str) else task
    data = task_data(task, 0)
    architecture = network.architecture
    wanted = (architecture.channels, *architecture.size, architecture.classes)
    came = (data.channels, *data.size, data.classes)
    if came != wanted:
        raise ValueError(
            f"--task must have images (channels, height, width) and classes of {wanted} for this network, "
            f"those of {task.name} are {came}"
        )
    training, _ = stored_images(network, data.train, TRAINING_IMAGES)
    return training, stored_images(network, data.test, TEST_IMAGES)
