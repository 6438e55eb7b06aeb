"""Experiment: is a record what its task gives again? One node is trained anew and compared bit for bit."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ordercomp.codec import Plain, differences, short_text
from ordercomp.errors import FailedRunError
from ordercomp.plugins import refuse_untrusted
from ordercomp.records import Record, read_records
from ordercomp.running.fingerprint import fingerprint_task
from ordercomp.running.jobs import Finished, NodeJob, Request
from ordercomp.running.node import SIDE_BY_SIDE, train_node
from ordercomp.running.record_log import is_made_with
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.running.workers import refuse_unguarded
from ordercomp.sequence import StageSequence
from ordercomp.training.together import train_again

_MOST_BESIDE = 64  # seeds side by side that a file may ask for
_TIMED = ("latency_ms", "latency_cr")  # keys of a point that no second run repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A record, the same node trained anew, and where they differ."""

    record: Record
    again: Record
    differences: tuple[str, ...]  # empty: equal bit for bit
    same_setting: bool  # of code, torch and hardware; only then are equal bits promised
    same_hardware: bool  # as the records name it: processor, instruction set, threads


def choose_record(path: Path, *, line: int | None = None, sequence: str = "", seed: int = 0) -> Record:
    """The record in a line of a file, counted from 1, or that of a sequence or an order at a seed.

    Raises ValueError if there is none, or several of them.
    """
    records = read_records(path)
    if line is not None:
        if not 1 <= line <= len(records):
            raise ValueError(f"line must be one of the {len(records)} records of {path}, got {line}")
        return records[line - 1]
    matches = [
        record for record in records if record.seed == seed and sequence in (record.sequence, record.order)
    ]
    if len(matches) != 1:
        raise ValueError(
            f"{path} must hold one record of {sequence!r} at seed {seed}, it holds {len(matches)}; "
            "name a line, or the sequence with its knobs"
        )
    return matches[0]


def named_task(record: Record, *, trust: Collection[str] = ()) -> Task:
    """The task that a record names, by its file or as a built-in one.

    Its functions are code, which would be called: those for model, data and transforms must be in `trust`.
    Raises ValueError for others, and for a task that cannot be read; FileNotFoundError for a missing file.
    """
    task = load_task(str(record.extra.get("task_source", record.task)))
    for function in (task.model, task.data, task.transforms):
        refuse_untrusted(function, trust, source=f"{task.spelled}, a task that the record names,")
    return task


def rerun(
    record: Record, task: Task, *, report: Callable[[Finished], None] = lambda finished: None
) -> Repeated:
    """Train the record's node again, from the baseline on, in a store of its own, and compare.

    Accuracies, thresholds and reductions of every operating point are compared bit for bit, times are not.

    Raises ValueError if the task is not the one that the record was made with, as far as that can be told;
    FailedRunError if the training ends without a result.
    """
    refuse_unguarded("rerun")
    sequence = StageSequence.parse(record.sequence)
    precision = record.extra.get("precision")
    if precision in ("float32", "bfloat16"):
        task = replace(task, recipe=replace(task.recipe, precision=precision))
    latency = any("latency_ms" in point.extra for point in record.points)
    task = replace(fingerprint_task(task), latency=latency)
    if not is_made_with(task, record):
        raise ValueError(
            f"task {task.name!r} is not what the record of {record.sequence!r} was made with: "
            "its model, data or recipe differ; name its file with --task"
        )
    last = None
    with (
        tempfile.TemporaryDirectory(prefix="ordercomp-rerun-") as folder,
        Runner(task, Store(folder), workers=1, work=partial(_train_as_before, _places(record))) as runner,
    ):
        for finished in runner.run([Request(sequence, record.seed)]):
            report(finished)
            last = finished if finished.request.sequence == sequence else last
    if last is None or not last.kept:
        reason = "it was interrupted" if last is None else last.record.error
        raise FailedRunError(f"{record.sequence!r} was not trained again: {reason}")
    again = last.record
    return Repeated(
        record=record,
        again=again,
        differences=tuple(differences(_measured(record), _measured(again))),
        same_setting=_circumstances(record) == _circumstances(again),
        same_hardware=record.extra.get("hardware") == again.extra.get("hardware"),
    )


def _places(record: Record) -> tuple[tuple[int, int], ...]:
    """Where each node's network was among those that it was trained side by side with, and their number."""
    stored = record.extra.get(SIDE_BY_SIDE, [])
    complete = isinstance(stored, list) and len(stored) == len(record.order) + 1
    pairs = [tuple(pair) for pair in stored if isinstance(pair, list)] if complete else []
    good = [pair for pair in pairs if len(pair) == 2 and all(type(number) is int for number in pair)]
    if not all(0 <= place < count <= _MOST_BESIDE for place, count in good) or len(good) < len(stored):
        raise ValueError(
            f"{SIDE_BY_SIDE} of the record must hold a place and a number of seeds for the baseline and each "
            f"stage, got {short_text(stored)}"
        )
    return tuple(good)


def _train_as_before(places: Sequence[tuple[int, int]], job: NodeJob) -> Record:
    """Train a node as it was trained for the record: by itself, or as one of several seeds."""
    place, count = places[len(job.sequence)] if places else (0, 1)
    again = None if count == 1 else train_again(partial(train_node, job), place=place, count=count)
    return again or train_node(job)


def _measured(record: Record) -> dict[str, Any]:
    """What a record says that was measured, as plain JSON."""
    data = record.to_json()
    points = [{key: value for key, value in point.items() if key not in _TIMED} for point in data["points"]]
    measured = {name: data.get(name) for name in ("baseline", "epochs", "error", "costs", "achieved")}
    return {**measured, "points": points}


def _made_with(record: Record) -> Plain:
    versions = record.extra.get("versions")
    return versions if isinstance(versions, Mapping) else {}


def _circumstances(record: Record) -> Sequence[object]:
    return [_made_with(record), record.extra.get("hardware")]
