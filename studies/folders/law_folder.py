"""What an experiment leaves in its folder: records as they come, then law, report and the best networks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ordercomp.analysis.fronts.front import best_reductions
from ordercomp.analysis.law.derive import Law
from ordercomp.analysis.showing.report import write_report
from ordercomp.files import is_digest, replace_file
from ordercomp.records import Record
from ordercomp.running.node import create_network
from ordercomp.running.runner import Trainings
from ordercomp.running.sealing import seal_task
from ordercomp.running.store import Store
from ordercomp.shipping.stamp import copy_with_threshold
from ordercomp.task import Task
from ordercomp.training.device import probe_precision

__all__ = ["law_json", "settle_precision", "write_outcome"]

TOLERANCES = (0.002, 0.006, 0.01, 0.02)  # accuracy lost, fractions


def settle_precision(task: Task, store: Store) -> Task:
    """Seal the task, and replace the recipe's precision "auto" by what a one-second probe finds faster.

    The finding is kept in the store, so that a later run of the same task decides alike.
    """
    task = seal_task(task)
    if task.recipe.precision != "auto":
        return task
    path = store.folder / f"precision-{task.digest[:16]}.json"
    if not path.exists():
        probe = probe_precision(create_network(task, seed=0), batch_size=task.recipe.batch_size)
        replace_file(path, json.dumps(probe))
    chosen = json.loads(path.read_text())["precision"]
    return replace(task, recipe=replace(task.recipe, precision=chosen))


def law_json(law: Law, trainings: Trainings | None = None) -> dict[str, Any]:
    """The content of law.json; `trainings` tells what this run did, instead of what the records tell."""
    data = law.to_json()
    if trainings is not None:
        counts = asdict(trainings)
        data["seconds"] = counts.pop("seconds")
        data["trainings"] = counts
    return data


def write_outcome(
    folder: Path, law: Law, records: Sequence[Record], trainings: Trainings, store: Store
) -> None:
    """Write law.json, report.html and networks/ into `folder`."""
    data = law_json(law, trainings)
    replace_file(folder / "law.json", json.dumps(data, indent=2) + "\n")
    write_report(folder / "report.html", data, records)
    _keep_networks(folder / "networks", records, store)


def _keep_networks(folder: Path, records: Sequence[Record], store: Store) -> None:
    """Copy the most reduced network at each tolerable loss, with the threshold that belongs to it."""
    folder.mkdir(exist_ok=True)
    for tolerance, best in best_reductions(records, tolerances=TOLERANCES).items():
        if best is None or not is_digest(best.record.extra.get("digest")):
            continue
        source = store.network_path(str(best.record.extra["digest"]))
        if source.is_file():
            target = folder / f"loss-{100 * tolerance:g}.safetensors"
            copy_with_threshold(source, target, best.point.threshold)
