"""The paper's experiments by name, and how one is run: plan, train what the store lacks, decide, draw."""

import datetime
import difflib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ordercomp.analysis.fronts import group
from ordercomp.analysis.race import TOGETHER
from ordercomp.analysis.report.tables import Table, duration_text, failure_table
from ordercomp.jobs.check import StepTimes, check_task, probe_steps
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.records import Record, TrainingCount
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import train_node
from ordercomp.running.runner import Runner, Work
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.studies import (
    exhaustive,
    insertion,
    pairwise,
    proxies,
    repetition,
    rivals,
    robustness,
    stagewise,
    versus,
    zoo,
)
from ordercomp.studies.experiment import Conclusion, Experiment, Workload
from ordercomp.studies.preset import Preset, load_preset
from ordercomp.studies.results import Outcome, ResultFolder, describe, place_of, read_folder, write_index

EXPERIMENTS: Mapping[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        pairwise.SINGLE,
        pairwise.PAIRWISE,
        insertion.EXPERIMENT,
        exhaustive.COMBINATION,
        exhaustive.EXHAUSTIVE,
        repetition.EXPERIMENT,
        stagewise.EXPERIMENT,
        zoo.EXPERIMENT,
        rivals.EXPERIMENT,
        versus.EXPERIMENT,
        proxies.EXPERIMENT,
        *robustness.EXPERIMENTS,
    )
}


TOO_FEW = Conclusion(findings=(), notes=("Too little was measured to judge anything.",))


def _ignore(_news: object) -> None:
    """Hear of something and do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How an experiment is run; nothing here changes a result."""

    workers: int = 2  # processes, one thread each
    budget_seconds: float | None = None  # of training; None: until everything is done
    store: Path | None = None  # finished trainings, shared by experiments; None: `store` in the out folder
    store_url: str = ""  # where they are shared with other machines; the folder holds copies
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())  # of the result folder
    report: Callable[[Finished], None] = _ignore  # hears of every finished node
    planned: Callable[[int], None] = _ignore  # hears how many nodes there will be
    executor: Executor | None = None  # None: local processes
    work: Work = train_node


def find_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError that lists the names."""
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}{hint}")
    return EXPERIMENTS[name]


def run_experiment(
    name: str, *, task: Task, preset: Preset | str, out: Path | str, options: RunOptions | None = None
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
    preset = load_preset(preset) if isinstance(preset, str) else preset
    options = RunOptions() if options is None else options
    check_task(task)
    store = open_store(Path(out) / "store" if options.store is None else options.store, options.store_url)
    parts = [
        replace(part, task=settle_precision(part.task, store)) for part in experiment.parts(task, preset)
    ]
    marker = describe(name, preset.name, parts)
    folder = ResultFolder(place_of(Path(out), options.date, marker), marker)
    wanted = {(part.task.name, str(node), seed) for part in parts for node, seed in part.nodes}
    options.planned(len(wanted))
    records, trainings, seconds, interrupted = _train(parts, folder, store, options)
    conclusion, figures = _conclude(experiment, records)
    outcome = Outcome(
        experiment=name,
        section=experiment.section,
        question=experiment.question,
        task=task.name,
        preset=preset.name,
        findings=conclusion.findings,
        tables=conclusion.tables,
        notes=conclusion.notes,
        planned=len(wanted),
        measured=len(wanted & {(record.task, record.sequence, record.seed) for record in records}),
        interrupted=interrupted,
        trainings=trainings,
        seconds=round(seconds, 1),
        folder=str(folder.path),
    )
    folder.write(outcome, figures)
    write_index(Path(out))
    return outcome


def _conclude(experiment: Experiment, records: Sequence[Record]) -> tuple[Conclusion, Mapping[str, str]]:
    """The conclusion, with a table of the trainings that failed, and the figures."""
    if len({letter for record in records for letter in record.order} - {"F"}) > 1:
        conclusion, figures = experiment.decide(records), experiment.figures(records)
    else:
        conclusion, figures = TOO_FEW, {}
    failed = failure_table(records)
    tables = (*conclusion.tables, failed) if failed.rows else conclusion.tables
    return replace(conclusion, tables=tables), figures


def read_experiment(path: Path | str) -> tuple[Experiment, list[Record]]:
    """The experiment and the records of a result folder, to be decided or drawn anew.

    Raises ValueError if it is none, or of an unknown experiment.
    """
    name, records = read_folder(path)
    return find_experiment(name), records


def _train(
    parts: Sequence[Workload], folder: ResultFolder, store: Store, options: RunOptions
) -> tuple[list[Record], TrainingCount, float, bool]:
    """Run all parts in turn within one budget: records, counts, seconds, whether it was interrupted.

    Without a budget all seeds will be there in the end, so those of a sequence come together, and are trained
    as one network where that is faster.
    """
    together = TOGETHER if options.budget_seconds is None and options.executor is None else 1
    records: list[Record] = []
    total, seconds = TrainingCount(baselines=0), 0.0
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
            side_by_side=together,
        ) as runner:
            requests: Iterable[Request] = part.requests
            if together > 1:
                by_sequence = group(requests, lambda request: request.sequence)
                requests = itertools.chain.from_iterable(by_sequence.values())
            for finished in runner.run(requests):
                folder.add(finished)
                if finished.kept:
                    records.append(finished.record)
                options.report(finished)
            total += runner.trainings
            seconds += runner.seconds
            if runner.interrupted:
                return records, total, seconds, True
    return records, total, seconds, False


# What experiments would train at a preset, shared and unshared, and how long that takes on this machine.


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment:
    """One experiment in a row of them that share a store."""

    name: str
    trainings: int  # distinct nodes without the baselines
    new: int  # of those, not trained by the experiments before
    unshared: int  # stage trainings if every network started from its baseline
    seconds: float  # of training the new ones, on all workers together, to a tenth
    seconds_alone: float  # if nothing had been trained before


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPlan:
    """Experiments one after the other."""

    KEYS: ClassVar = ("task", "preset", "workers", "seconds", "experiments")

    task: str
    preset: str
    workers: int
    experiments: tuple[PlannedExperiment, ...]

    @property
    def seconds(self) -> float:
        """Of all experiments."""
        return round(sum(experiment.seconds for experiment in self.experiments), 1)

    @property
    def table(self) -> Table:
        """The plan as a table, with a row for all of them."""
        counts = [
            (experiment.trainings, experiment.new, experiment.unshared) for experiment in self.experiments
        ]
        rows = [
            (
                experiment.name,
                *map(str, count),
                duration_text(experiment.seconds),
                duration_text(experiment.seconds_alone),
            )
            for experiment, count in zip(self.experiments, counts, strict=True)
        ]
        totals = (str(sum(count[place] for count in counts)) for place in range(3))
        return Table.of(
            f"{self.task} at preset {self.preset}, {self.workers} workers",
            ("experiment", "trainings", "new", "unshared", "time", "time alone"),
            [*rows, ("all", *totals, duration_text(self.seconds), "")],
            left=("experiment",),
            note="New: not trained by an experiment further up. Unshared: if every network started from its "
            "baseline. Times come from a few training steps here, on an uncompressed network.",
        )


def plan_experiments(
    names: Iterable[str] = (),
    *,
    task: Task,
    preset: Preset | str,
    workers: int = 2,
    times: Mapping[str, StepTimes] | None = None,
) -> ExperimentPlan:
    """Count the trainings of the experiments, all of them by default, and estimate their time.

    `times` maps digests of tasks to measured times; a task that it lacks is probed for a few steps, which
    needs its data. Raises ValueError for an unknown experiment or preset, or fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    preset = load_preset(preset) if isinstance(preset, str) else preset
    measured = dict(times or {})
    done: set[tuple[str, str, int]] = set()  # digest of the task, sequence text, seed
    planned = []
    for name in list(names) or list(EXPERIMENTS):
        parts = find_experiment(name).parts(task, preset)
        seconds: dict[tuple[str, str, int], float] = {}
        for part in parts:
            if part.task.digest not in measured:
                measured[part.task.digest] = probe_steps(part.task)
            for node, seed in part.nodes:
                spent = _seconds(part.task, node, measured[part.task.digest])
                seconds[part.task.digest, str(node), seed] = spent / workers
        new = [node for node in seconds if node not in done]
        planned.append(
            PlannedExperiment(
                name=name,
                trainings=len(seconds),
                new=len(new),
                unshared=sum(part.unshared_trainings for part in parts),
                seconds=round(sum(seconds[node] for node in new), 1),
                seconds_alone=round(sum(seconds.values()), 1),
            )
        )
        done.update(new)
    return ExperimentPlan(task=task.name, preset=preset.name, workers=workers, experiments=tuple(planned))


def _seconds(task: Task, node: StageSequence, times: StepTimes) -> float:
    """Expected seconds of a node's last stage, with the epochs that it sets itself."""
    own = float(node.steps[-1].settings.get("epochs", 0.0))
    share = own / task.recipe.epochs if own > 0 else 1.0
    return share * times.of(node)
