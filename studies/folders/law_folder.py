"""What an experiment leaves in its folder: records as they come, then law, report and the best networks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ordercomp.analysis.answer.answer import Answer
from ordercomp.analysis.answer.networks import Taken
from ordercomp.analysis.law.derive import Law
from ordercomp.analysis.showing.report import write_report
from ordercomp.codec import read_json
from ordercomp.files import drop_drafts, replace_file
from ordercomp.records import Record
from ordercomp.running.node import create_network
from ordercomp.running.runner import Runner, Trainings
from ordercomp.running.sealing import seal_task
from ordercomp.running.store import Store
from ordercomp.shipping.stamp import copy_with_threshold
from ordercomp.studies.folders.answer_keys import answer_keys
from ordercomp.task import Task
from ordercomp.training.device import probe_precision

__all__ = ["law_json", "settle_precision", "write_outcome"]


def settle_precision(task: Task, store: Store) -> Task:
    """Seal the task, and replace the recipe's precision "auto" by what a one-second probe finds faster.

    The finding is kept in the store, so that a later run of the same task decides alike.
    """
    task = seal_task(task)
    if task.recipe.precision != "auto":
        return task
    path = store.folder / f"precision-{task.digest[:16]}.json"
    chosen = _found_precision(path)
    if chosen is None:
        probe = probe_precision(create_network(task, seed=0), batch_size=task.recipe.batch_size)
        replace_file(path, json.dumps(probe))
        chosen = str(probe["precision"])
    return replace(task, recipe=replace(task.recipe, precision=chosen))


def _found_precision(path: Path) -> Any:
    """What an earlier run found; None if there was none, or its file is damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    chosen = found.get("precision") if isinstance(found, dict) else None
    return chosen if chosen in ("float32", "bfloat16") else None


def law_json(law: Law, trainings: Trainings | None = None) -> dict[str, Any]:
    """The content of law.json but for the answer; `trainings` tells what this run did, not the records."""
    data = law.to_json()
    if trainings is not None:
        counts = asdict(trainings)
        data["seconds"] = counts.pop("seconds")
        data["trainings"] = counts
    return data


def write_outcome(
    folder: Path,
    law: Law,
    answer: Answer,
    records: Sequence[Record],
    runner: Runner,
    *,
    certified: Sequence[Taken] | None = None,
) -> dict[str, Any]:
    """Write law.json, report.html and networks/ into `folder`, and return the content of law.json.

    `certified` networks take the place of those that the records alone would name. A run that trained nothing
    the same as the files that are there leaves them as they are.
    """
    trainings, store = runner.trainings, runner.store
    data = law_json(law, trainings)
    data |= {"evidence": "paired", "adaptive": None}
    data |= answer_keys(answer, data, records, store=store.folder, certified=certified)
    page, path = folder / "report.html", folder / "law.json"
    if trainings.done == 0 and page.is_file() and (there := _same(path, data)) is not None:
        return there
    replace_file(path, json.dumps(data, indent=2) + "\n")
    write_report(page, data, records)
    _keep_networks(folder / "networks", data["networks"], records, runner)
    return data


def _same(path: Path, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The law.json at `path` if it differs from `data` only in what its run trained; else None."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    now = json.loads(json.dumps(data))
    told = {"trainings", "seconds"}
    if not isinstance(there, dict) or {*there} != {*now}:
        return None
    return there if all(there[key] == now[key] for key in now if key not in told) else None


def _keep_networks(
    folder: Path, networks: Sequence[Mapping[str, Any]], records: Sequence[Record], runner: Runner
) -> None:
    """Copy the network to take at each tolerated loss, with the threshold that belongs to it."""
    folder.mkdir(exist_ok=True)
    drop_drafts(folder)
    known = {(record.sequence, record.seed): record for record in records}
    written: set[str] = set()
    for network in networks:
        name = f"loss-{100 * network['loss']:g}.safetensors"
        if name in written:
            continue
        written.add(name)
        source = runner.whole_network(known[network["sequence"], network["seed"]])
        if source is not None:
            copy_with_threshold(source, folder / name, network["threshold"])
