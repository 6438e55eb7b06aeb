"""Discover: in which order should this network be compressed? The main experiment.

One multi-objective Optuna study, whose space is the stage permutation plus the per-stage knobs. A race over
seeds is enqueued in it, block by block: a block is a seed at which all orders that are still in the race run
at all knob settings of the task; orders leave it as they lose. Control arms with F run beside it, for orders
that may be the best. After each block the answer is there.
"""

import importlib.metadata
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ordercomp.analysis.answer import LEAST_SEEDS, Answer, answer_of, derive_answer
from ordercomp.analysis.batches import Batch, one_batch, warn_of_others
from ordercomp.analysis.law import Law, derive_law
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.shown import Shown, shown_law
from ordercomp.analysis.values import chain_values, networks_of
from ordercomp.builds import results_of
from ordercomp.codec import encode
from ordercomp.errors import FailedRunError
from ordercomp.files import refuse_link
from ordercomp.jobs.check import check_task
from ordercomp.jobs.defaults import SEEDS
from ordercomp.jobs.law import unless_under_trained
from ordercomp.jobs.law_folder import guaranteed_networks, settle_precision, write_outcome
from ordercomp.jobs.race import CONTROLLED_SEEDS, Race
from ordercomp.jobs.search import task_space
from ordercomp.objectives import Objectives
from ordercomp.records import Record, TrainingCount
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import check_guarantee, task_data, task_metric, train_node
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner
from ordercomp.running.store import open_store
from ordercomp.running.task import Task
from ordercomp.running.versions import code_version
from ordercomp.running.workers import refuse_unguarded
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.results import attach_record
from ordercomp.search.samplers import make_sampler
from ordercomp.search.study import Study, enqueue_paired_design, naming_the_storage, open_study
from ordercomp.sequence import StageSequence

STUDY = "discover"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What `discover` found, and where it lies."""

    answer: Answer  # which order to take
    law: Law  # what the pairs of stages say
    file: LawFile  # the content of law.json
    records: tuple[Record, ...]
    trainings: TrainingCount
    interrupted: bool
    folder: Path

    @property
    def failures(self) -> str:
        """How many networks failed, and the commonest reason, where most did; else empty."""
        reasons = Counter(record.error for record in self.records if record.error)
        failed = sum(reasons.values())
        if 2 * failed <= sum(1 for record in self.records if record.order):
            return ""
        (reason, _), *_ = reasons.most_common(1)
        return f"{failed} of {len(self.records)} networks failed, most of all because {reason}"

    @property
    def law_json(self) -> dict[str, Any]:
        """The content of law.json as plain data."""
        data: dict[str, Any] = encode(self.file)
        return data

    def __rich__(self) -> Shown:
        return shown_law(self.file)

    def _repr_html_(self) -> str:
        return shown_law(self.file)._repr_html_()


@naming_the_storage("the race")
def discover(
    task: Task,
    *,
    out: Path | str,
    seeds: int = SEEDS,
    budget_seconds: float | None = 480.0,
    workers: int = 2,
    guarantee: bool = False,
    executor: Executor | None = None,
    store_url: str = "",
    report: Callable[[Finished], None] = lambda finished: None,
    answered: Callable[[Discovery], None] = lambda so_far: None,
) -> Discovery:
    """Race the orders of the task's stages, and write everything to `out` after each seed.

    Args:
        task: model, data, recipe, stages, knobs, the tolerated loss, and the cost.
        out: folder for records.jsonl, law.json, report.html, networks/, study.db and the store of results;
            what a former run left there is used again. A finished race trains and changes nothing.
        seeds: at most; the race ends earlier if one order is left.
        budget_seconds: wall time after which no training starts; the next run goes on. None: no limit.
        workers: processes, one thread each; with an executor, how many nodes are in training at once.
        guarantee: take only networks whose loss holds with 95 % confidence, at thresholds chosen so.
        executor: any `concurrent.futures` executor whose workers see the store under the same path.
        store_url: where results are shared with other machines, e.g. s3://bucket/folder; `out` has copies.
        report: called with every finished node.
        answered: called with what is known after each seed.

    Raises:
        ValueError: bad arguments, a task that cannot be measured (nothing is written then), or `out` belongs
            to another question. OSError: it cannot be written.
    """
    refuse_unguarded("discover")
    Race(task=task, seeds=seeds)  # bad arguments are told before anything starts
    check_task(task)
    if guarantee:
        check_guarantee(task_metric(task, task_data(task, 0)))
    folder = Path(out)
    refuse_link(folder / "networks")
    store = open_store(folder / "store", store_url)
    task = settle_precision(task, store)
    race = Race(task=task, seeds=seeds)
    file = RecordLog(folder / "records.jsonl", task=task)
    _warn_of_batches(file.records, task, folder)
    with Runner(
        task, store, workers=workers, executor=executor, budget_seconds=budget_seconds, work=train_node
    ) as runner:
        run = _Run(race, runner, file, folder, report)
        latest = None
        for _ in run.blocks():
            latest = _write(run, guarantee=guarantee)
            answered(latest)
        return latest or _write(run, guarantee=guarantee)


def _warn_of_batches(records: Sequence[Record], task: Task, folder: Path) -> None:
    """Say before anything is trained which records of the folder this run cannot go on with."""
    torch = importlib.metadata.version("torch").partition("+")[0]
    own = Batch(results_of(code_version()), torch, task.recipe.precision)
    if told := warn_of_others(records, own):
        _log.warning("in %s %s", folder, told)


class _Run:
    """One run of a race: its study, what it writes down, and the seeds that are whole."""

    def __init__(
        self,
        race: Race,
        runner: Runner,
        file: RecordLog,
        folder: Path,
        report: Callable[[Finished], None],
    ) -> None:
        self.race, self.runner, self.file, self.folder = race, runner, file, folder
        self._report = report
        self._fresh = False  # whether nodes came in since the last answer
        self._spec = StudySpec(space=task_space(race.task, optional=False), objectives=Objectives())
        self._study = self._open_study()

    def blocks(self) -> Iterator[int]:
        """Run seed after seed; yield the number of seeds whenever there is something new to be told."""
        finished: list[int] = []
        while not self.stopped and (block := self.race.next_block(self.records, finished)):
            seed = len(finished)
            self._train(block, seed)
            finished.append(seed)
            if self._fresh:
                self._control(len(finished))
                self._fresh = False
                yield len(finished)
        self._control(len(finished))  # those that the last run did not come to
        if self._fresh:
            yield len(finished)

    @property
    def records(self) -> list[Record]:
        """What was measured, of one batch."""
        return one_batch(self.file.records)[0]

    @property
    def stopped(self) -> bool:
        """Whether the budget is spent or someone asked to stop."""
        return self.runner.interrupted or self.runner.budget_spent

    def _train(self, block: Sequence[StageSequence], seed: int) -> None:
        """Enqueue what of the block the study lacks and run it; then whatever has no record as yet."""
        stages = self.race.task.stages
        whole = [sequence for sequence in block if len(sequence) == len(stages)]  # what the study searches
        enqueue_paired_design(self._study, self._spec.space, whole, [seed])
        for finished in run_study(self._study, self.runner, self._spec):
            self._keep(finished)
        self._complete([Request(sequence, seed) for sequence in (*block, *self.race.extras)])

    def _control(self, seeds: int) -> None:
        """Train on with F, without compressing, after the prefixes of orders that may be the best."""
        if self.stopped or seeds < LEAST_SEEDS:
            return
        task, records = self.race.task, self.records
        networks = networks_of(records, task.stages, cost=task.cost)
        table = chain_values(networks, task.stages, loss=task.loss, settings=self.race.rungs)
        best = answer_of(table).best_set
        where: dict[str, list[int]] = {}
        for record in records:
            where.setdefault(record.sequence, []).append(record.seed)
        self._complete(
            [
                Request(control, seed)
                for control in self.race.controls(best)
                for seed in sorted(where.get(str(control.prefixes[-2]), ()))[:CONTROLLED_SEEDS]
            ]
        )

    def _complete(self, requests: Sequence[Request]) -> None:
        """Measure what the file of records lacks, prefixes too; the store often has it."""
        missing = self.file.lacks(requests)
        if missing and not self.stopped:
            for finished in self.runner.run(missing):
                self._keep(finished)

    def _keep(self, finished: Finished) -> None:
        self._fresh = True
        self.file.add(finished)
        if finished.kept:
            attach_record(self._study, self._spec.space, finished.record)
        self._report(finished)

    def _open_study(self) -> Study:
        space, task = self._spec.space, self.race.task
        return open_study(
            self.folder / "study.db",
            name=STUDY,
            space=space,
            objectives=self._spec.objectives,
            sampler=make_sampler("random", space),
            task=f"{task.name} {task.digest}",
        )


def _write(run: _Run, *, guarantee: bool) -> Discovery:
    """Derive answer and law from what there is, and write them down."""
    records, runner, task = run.file.records, run.runner, run.race.task
    if not any(record.points for record in records):
        if runner.interrupted:
            raise KeyboardInterrupt
        raise FailedRunError(_nothing_measured(records, runner))
    records, batches = one_batch(records)
    law = derive_law(records, stages=task.stages)
    answer = derive_answer(records, stages=task.stages, loss=task.loss, cost=task.cost)
    answer = replace(answer, batches=batches)
    answer = unless_under_trained(answer, law.convergence)
    trainings = runner.trainings
    certified = guaranteed_networks(task, runner.store, records, answer) if guarantee else None
    file = write_outcome(run.folder, law, answer, records, runner, certified=certified)
    return Discovery(
        answer=answer,
        law=law,
        file=file,
        records=tuple(records),
        trainings=trainings,
        interrupted=runner.interrupted,
        folder=run.folder,
    )


def _nothing_measured(records: Sequence[Record], runner: Runner) -> str:
    """Why there is nothing to derive a law from."""
    errors = [record.error for record in records if record.error]
    if errors:
        return f"every stage failed; the first one: {errors[0]}"
    return f"the budget was spent after {runner.seconds:.0f} s, before a network was measured; raise it"
