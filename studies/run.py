"""The paper's experiments by name, and how one is run: plan, train what the store lacks, judge, draw."""

import datetime
import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ordercomp.analysis.report.tables import failure_table
from ordercomp.jobs.check import check_task
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.records import Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import train_node
from ordercomp.running.runner import Runner, Trainings, Work
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import Task
from ordercomp.studies import (
    exhaustive,
    insertion,
    pairwise,
    repetition,
    rivals,
    robustness,
    stagewise,
    versus,
    zoo,
)
from ordercomp.studies.experiment import Experiment, Judgement, Outcome, Part
from ordercomp.studies.folders.experiment_folder import ResultFolder, describe, place_of, read_results
from ordercomp.studies.paper import combination, single
from ordercomp.studies.paper.index import write_index
from ordercomp.studies.preset import Preset, load_preset

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one
    for one in (
        single.EXPERIMENT,
        pairwise.EXPERIMENT,
        insertion.EXPERIMENT,
        combination.EXPERIMENT,
        exhaustive.EXPERIMENT,
        repetition.EXPERIMENT,
        stagewise.EXPERIMENT,
        zoo.EXPERIMENT,
        rivals.EXPERIMENT,
        versus.EXPERIMENT,
        *robustness.EXPERIMENTS,
    )
}

TOO_FEW = Judgement(findings=(), tables=(), notes=("Too little was measured to judge anything.",))


def _ignore(finished: Finished) -> None:
    """Hear of a finished node and do nothing."""


def _forget(planned: int) -> None:
    """Hear how many nodes there will be and do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How an experiment is run; nothing here changes a result."""

    workers: int = 2  # processes, one thread each
    budget_seconds: float | None = None  # of training; None: until everything is done
    store: Path | None = None  # finished trainings, shared by experiments; None: `store` in the out folder
    store_url: str = ""  # where they are shared with other machines; the folder holds copies
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())  # of the result folder
    report: Callable[[Finished], None] = _ignore  # hears of every finished node
    planned: Callable[[int], None] = _forget  # hears how many nodes there will be
    executor: Executor | None = None  # None: local processes
    work: Work = train_node


def _with_failures(judgement: Judgement, records: Sequence[Record]) -> Judgement:
    """The judgement with a table of the trainings that failed, if any did."""
    failed = failure_table(records)
    return replace(judgement, tables=(*judgement.tables, failed)) if failed.rows else judgement


def find_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError that lists the names."""
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}{hint}")
    return EXPERIMENTS[name]


def run_experiment(
    name: str,
    *,
    task: Task,
    preset: Preset | str,
    out: Path | str,
    options: RunOptions | None = None,
) -> Outcome:
    """Run an experiment and leave records, verdict and figures in `out/<date>_<name>`.

    Args:
        name: one of EXPERIMENTS.
        task: model, data, recipe, stages and usual knobs; the preset may change the length of training.
        preset: a built-in name, a TOML file, or a preset.
        out: folder of result folders; the store of trainings lies there too unless the options say else.
        options: workers, budget and the like.

    Running it again trains only what the store lacks, also what other experiments left out. When the budget
    is spent or after Ctrl-C the outcome is that of the records at hand, and says so. `out/index.md` lists
    all results in `out`.

    Raises:
        ValueError: an unknown name or preset, a task that cannot be measured (nothing is written then), or
            the result folder holds something else.
        OSError: `out` cannot be written.
    """
    experiment = find_experiment(name)
    chosen = load_preset(preset) if isinstance(preset, str) else preset
    options = RunOptions() if options is None else options
    check_task(task)
    store = open_store(Path(out) / "store" if options.store is None else options.store, options.store_url)
    parts = [
        replace(part, task=settle_precision(part.task, store)) for part in experiment.parts(task, chosen)
    ]
    marker = describe(name, chosen.name, parts)
    folder = ResultFolder(place_of(Path(out), options.date, marker), marker)
    wanted = {(part.task.name, text, seed) for part in parts for text, seed in _nodes(part)}
    options.planned(len(wanted))
    records, trainings, interrupted = _train(parts, folder, store, options)
    enough = len({letter for record in records for letter in record.order} - {"F"}) > 1
    judgement = _with_failures(experiment.judge(records) if enough else TOO_FEW, records)
    outcome = Outcome(
        experiment=name,
        section=experiment.section,
        question=experiment.question,
        task=task.name,
        preset=chosen.name,
        judgement=judgement,
        planned=len(wanted),
        measured=len(wanted & {(record.task, record.sequence, record.seed) for record in records}),
        trainings=trainings,
        interrupted=interrupted,
        folder=folder.path,
    )
    folder.write(outcome, experiment.figures(records) if enough else {})
    write_index(Path(out))
    return outcome


def judge_folder(path: Path | str) -> tuple[Experiment, list[Record]]:
    """The experiment and the records of a result folder, to be judged or drawn anew."""
    name, records = read_results(path)
    return find_experiment(name), records


def _train(
    parts: list[Part], folder: ResultFolder, store: Store, options: RunOptions
) -> tuple[list[Record], Trainings, bool]:
    """Run all parts one after the other within one budget; return the records that belong to them."""
    found: list[Record] = []
    total = Trainings()
    start = time.monotonic()
    for part in parts:
        left = None
        if options.budget_seconds is not None:
            left = options.budget_seconds - (time.monotonic() - start)
            if left <= 0:
                break
        with Runner(
            part.task,
            store,
            workers=options.workers,
            executor=options.executor,
            budget_seconds=left,
            work=options.work,
        ) as runner:
            for finished in runner.run(part.requests):
                folder.add(finished)
                if finished.kept:
                    found.append(finished.record)
                options.report(finished)
            total = _sum(total, runner.trainings)
            if runner.interrupted:
                return found, total, True
    return found, total, False


def _nodes(part: Part) -> set[tuple[str, int]]:
    """Sequence text and seed of every node of a part."""
    return {(str(prefix), request.seed) for request in part.requests for prefix in _prefixes(request)}


def _prefixes(request: Request) -> tuple[object, ...]:
    return request.sequence.prefixes


def _sum(one: Trainings, other: Trainings) -> Trainings:
    return Trainings(
        done=one.done + other.done,
        reused=one.reused + other.reused,
        baselines=one.baselines + other.baselines,
        unshared=one.unshared + other.unshared,
        seconds=one.seconds + other.seconds,
    )
