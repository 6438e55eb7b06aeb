"""What an experiment leaves in its folder: records as they come, then law, report and the best networks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.corpus import TrainingCount
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick, Taken
from ordercomp.analysis.report.law_page import write_report
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.codec import decode, encode, format_json, read_json
from ordercomp.files import drop_drafts, replace_file
from ordercomp.records import Record
from ordercomp.running.node import create_network
from ordercomp.running.prepare import seal_task
from ordercomp.running.runner import Runner, Trainings
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.shipping.packed import copy_with_threshold
from ordercomp.studies.folders.answered import answered
from ordercomp.training.device import Probe, probe_precision


def settle_precision(task: Task, store: Store) -> Task:
    """Seal the task, and replace the recipe's precision "auto" by what a one-second probe finds faster.

    The finding is kept in the store, so that a later run of the same task decides alike.
    """
    task = seal_task(task)
    if task.recipe.precision != "auto":
        return task
    path = store.folder / f"precision-{task.digest[:16]}.json"
    probe = _found_probe(path)
    if probe is None:
        probe = probe_precision(create_network(task, seed=0), batch_size=task.recipe.batch_size)
        replace_file(path, format_json(probe))
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
    certified: Sequence[Taken] | None = None,
) -> LawFile:
    """Write law.json, report.html and networks/ into `folder`, and return the content of law.json.

    `certified` networks take the place of those that the records alone would name. A run that trained nothing
    the same as the files that are there leaves them as they are. law.json comes last: where it is, all is.
    """
    trainings, store = runner.trainings, runner.store
    law = replace(law, trainings=_counted(trainings), seconds=trainings.seconds)
    file = answered(LawFile(law=law), answer, records, store=store.folder, certified=certified)
    page, path = folder / "report.html", folder / "law.json"
    there = _same(path, file) if trainings.done == 0 and page.is_file() else None
    _keep_networks(folder / "networks", file.networks or (), records, runner)
    if there is not None:
        return there
    write_report(page, file, records)
    replace_file(path, format_json(file, indent=2))
    return file


def _counted(trainings: Trainings) -> TrainingCount:
    """What this run did, not the records."""
    return TrainingCount(
        done=trainings.done,
        reused=trainings.reused,
        baselines=trainings.baselines,
        unshared=trainings.unshared,
    )


def _same(path: Path, file: LawFile) -> LawFile | None:
    """The law.json at `path` if it differs from `file` only in what its run trained; else None."""
    try:
        there = decode(read_json(path), LawFile, path.name)
    except (OSError, ValueError):
        return None
    now = replace(file, law=replace(file.law, trainings=there.law.trainings, seconds=there.law.seconds))
    return there if encode(there) == encode(now) else None


def _keep_networks(folder: Path, networks: Sequence[Pick], records: Sequence[Record], runner: Runner) -> None:
    """Copy the network to take at each tolerated loss, with its threshold; what is damaged is made anew."""
    folder.mkdir(exist_ok=True)
    drop_drafts(folder)
    known = {(record.sequence, record.seed): record for record in records}
    written: set[str] = set()
    for network in networks:
        name = f"loss-{100 * network.loss:g}.safetensors"
        if name in written:
            continue
        written.add(name)
        source = runner.whole_network(known[network.sequence, network.seed])
        if source is not None:
            copy_with_threshold(source, folder / name, network.threshold)
