"""Discover: in which order should this network be compressed? The main experiment.

One multi-objective Optuna study, whose space is the stage permutation plus the per-stage knobs. A race is
enqueued in it: half of the orders first, as a pilot that finds the knob settings, then small blocks of
chains at seeds, where it is in doubt which chain is the best. The next block is chosen while the last one
trains, and the answer so far is told. Control arms with F, for chains that may be recommended, and repeated
stages come last.
"""

import importlib.metadata
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import Answer, AnswerAt, answer_from, answer_of
from ordercomp.analysis.batches import RecordBatch, one_batch, warn_of_others
from ordercomp.analysis.convergence import controls
from ordercomp.analysis.fronts import group
from ordercomp.analysis.hints import Hints
from ordercomp.analysis.law import Law, law_from
from ordercomp.analysis.posterior import posterior_of
from ordercomp.analysis.race import TOGETHER, Cell
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.shown import Shown, shown_law
from ordercomp.analysis.run_table import RunTable
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import Hint
from ordercomp.errors import FailedRunError
from ordercomp.files import digest_of, refuse_link
from ordercomp.jobs.check import check_task
from ordercomp.jobs.ladder import RaceState, Setting, find_ladder
from ordercomp.jobs.law_folder import guaranteed_networks, kept_outcome, settle_precision, write_outcome
from ordercomp.jobs.race import CONTROL, Race, with_prefixes
from ordercomp.jobs.search import task_space
from ordercomp.objectives import SEEDS, Objectives
from ordercomp.records import Record, TrainingCount, metric_of, results_of
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import check_guarantee, task_data, task_metric, train_node
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner
from ordercomp.running.store import open_store
from ordercomp.running.task import Task
from ordercomp.running.versions import code_version
from ordercomp.running.workers import one_thread, refuse_unguarded
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.results import attach_record
from ordercomp.search.samplers import make_sampler
from ordercomp.search.study import Study, enqueue_paired_design, naming_the_storage, open_study
from ordercomp.sequence import Order

STUDY = "discover"
LIKELY = 0.1  # chance of being best from which on a chain may be recommended
MOST_CONTROLLED = 4  # chains
TELL = 16  # trainings between two answers on the way
REPEATED = 0.1  # of a budget, at most, is kept for repetitions beyond the first seed
CAUTION = 1.5  # times the usual seconds are kept for what is trained last
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
    ladder: str = ""  # the knob settings that were chosen, and why
    settings: tuple[Setting, ...] = ()  # these themselves

    @property
    def failures(self) -> str:
        """How many networks failed, and the commonest reason, where most did; else empty."""
        reasons = Counter(record.error for record in self.records if record.error)
        failed = sum(reasons.values())
        if 2 * failed <= sum(1 for record in self.records if record.order):
            return ""
        (reason, _), *_ = reasons.most_common(1)
        return f"{failed} of {len(self.records)} networks failed, most of all because {reason}"

    def __rich__(self) -> Shown:
        return shown_law(self.file)

    def _repr_html_(self) -> str:
        return shown_law(self.file)._repr_html_()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoFar:
    """What a race knows on the way, at the tolerated loss alone."""

    answer: Answer
    stages: Order
    seeds: int  # at which chains were trained
    ladder: str  # the knob settings that were chosen, and why


@naming_the_storage("the race")
@one_thread()
def discover(
    task: Task,
    *,
    out: Path | str,
    seeds: int = SEEDS,
    first_seed: int = 0,
    budget_seconds: float | None = 480.0,
    workers: int = 2,
    guarantee: bool = False,
    executor: Executor | None = None,
    store_url: str = "",
    hints: Hints | None = None,
    report: Callable[[Finished], None] = lambda finished: None,
    answered: Callable[[SoFar], None] = lambda so_far: None,
) -> Discovery:
    """Race the orders of the task's stages, and write what came out to `out`.

    Args:
        task: model, data, recipe, stages, knobs, the tolerated loss, and the cost.
        out: folder for records.jsonl, law.json, report.html, networks/, study.db and the store of results;
            what a former run left there is used again. A finished race trains and changes nothing.
        seeds: at most; the race ends earlier if one order is left.
        first_seed: of trainings and splits; another one repeats a race with other chance.
        budget_seconds: wall time after which no training starts; the next run goes on. None: no limit.
        workers: processes, one thread each; with an executor, how many nodes are in training at once.
        guarantee: take only networks whose loss holds with 95 % confidence, at thresholds chosen so.
        executor: any `concurrent.futures` executor whose workers see the store under the same path.
        store_url: where results are shared with other machines, e.g. s3://bucket/folder; `out` has copies.
        hints: what a race on a cheaper copy of the task says, see `jobs.proxy`, or recorded tasks, see
            `jobs.recordings`.
        report: called with every finished node.
        answered: called with what is known so far, again and again while it trains.

    Raises:
        ValueError: bad arguments, a task that cannot be measured (nothing is written then), or `out` belongs
            to another question. OSError: it cannot be written.
    """
    refuse_unguarded("discover")
    Race(task=task, seeds=seeds, start=first_seed)  # bad arguments are told before anything starts
    folder = Path(out)
    refuse_link(folder / "networks")
    check_task(task)
    if guarantee:
        check_guarantee(task_metric(task, task_data(task, 0)))
    store = open_store(folder / "store", store_url)
    task = settle_precision(task, store)
    hint = Hint() if hints is None else hints.at(task.loss)
    side_by_side = TOGETHER if executor is None else 1  # others may have workers for all seeds
    race = Race(task=task, seeds=seeds, start=first_seed, hint=hint, side_by_side=side_by_side)
    file = RecordLog(folder / "records.jsonl", task=task)
    _warn_of_batches(file.records, task, folder)
    started = partial(Runner, task, store, workers=workers, executor=executor, work=train_node)
    with started(budget_seconds=budget_seconds, side_by_side=side_by_side) as runner:
        run = _Run(race, hints, runner, file, folder, report)
        for so_far in run.train():
            answered(so_far)
        return _finish(run, guarantee=guarantee)


def _warn_of_batches(records: Sequence[Record], task: Task, folder: Path) -> None:
    """Say before anything is trained which records of the folder this run cannot go on with."""
    torch = importlib.metadata.version("torch").partition("+")[0]
    own = RecordBatch(results_of(code_version()), torch, task.recipe.precision)
    if warning := warn_of_others(records, own):
        _log.warning("in %s %s", folder, warning)


class _Run:
    """One run of a race: its study, what it writes down, the blocks that were trained."""

    def __init__(
        self,
        race: Race,
        hints: Hints | None,
        runner: Runner,
        file: RecordLog,
        folder: Path,
        report: Callable[[Finished], None],
    ) -> None:
        self.hints, self.runner, self.file, self.folder = hints, runner, file, folder
        self._report = report
        self._spec = StudySpec(space=task_space(race.task, optional=False), objectives=Objectives())
        self._study = self._open_study(race.task)
        self.state = RaceState.of(race, self._study)
        self._ended: set[Request] = set()  # in this run, well or badly
        self.closing: list[Request] = []  # what the answer needs at the end
        self.repeated: list[Request] = []  # and what decides whether a repetition is worth anything

    def train(self) -> Iterator[SoFar]:
        """Train all that is to be trained, and yield what is known after each block."""
        self._train(self.race.requests(self.race.first))
        self._settle_ladder()
        self._train(self._raced)  # what an earlier run did not come to
        done, new = 0, 0
        for finished in run_study(self._study, self.runner, self._spec, more=self._next_requests):
            self._keep(finished)
            new += 1
            while done < len(self.state.blocks) and self._is_done(self.state.blocks[done]):
                done += 1
            if new >= TELL:
                new = 0
                yield self._so_far(done)
        self._train(self._raced)
        if new:
            yield self._so_far(len(self.state.blocks))
        elif not self.stopped and self.state.blocks:
            self._so_far(len(self.state.blocks))  # what is trained last
        self._train(self.closing)
        self._train(self._second_controls())
        self._train(self.repeated)

    @property
    def _raced(self) -> list[Request]:
        return self.race.requests(_cells(self.state.blocks))

    @property
    def race(self) -> Race:
        """The race at the settings of its ladder."""
        return self.state.race

    @property
    def ladder(self) -> str:
        """The knob settings that were chosen, and why; empty where the task fixes them."""
        if not self.state.blocks and self.stopped:
            return "the run ended in the pilot, before knob settings were chosen: the same command goes on"
        return self.state.why

    @property
    def records(self) -> list[Record]:
        """What was measured, of one batch, without settings that the ladder left."""
        return [record for record in one_batch(self.file.records)[0] if self.state.holds(record)]

    @property
    def stopped(self) -> bool:
        """Whether the budget is spent or someone asked to stop."""
        return self.runner.interrupted or self.runner.budget_spent

    def _settle_ladder(self) -> None:
        """Find the settings of the ladder, train the pilot there, and drop those that decide nothing."""
        state = self.state
        if state.blocks or self.stopped:
            return
        if state.race.task.ladder != "fixed":
            for requests in find_ladder(state, lambda: one_batch(self.file.records)[0]):
                self._train(requests)
            self._train(self.race.requests(self.race.first))
            if not self.stopped:
                state.drop_idle(self.records)
        if not self.stopped:
            state.add(self.race.first)

    def _next_requests(self) -> list[Request] | None:
        """What a study that waits for nothing trains next; None where the race is over or time is short."""
        if self.stopped or self._is_short_of_time():
            return None
        blocks = self.state.blocks
        done = blocks[: max(1, len(blocks) - 1)]  # what the workers still train is not waited for
        cells = self.race.next_cells(self.records, _cells(done), _cells(blocks[len(done) :]))
        if not cells:
            return None
        self.state.add(cells)
        requests = self.race.requests(cells)
        self._enqueue(requests)
        lacking = group(self.file.lacks(requests), lambda request: request.sequence)
        beside = (own for sequence, own in lacking.items() if not self._spec.space.contains(sequence))
        return list(itertools.chain.from_iterable(beside))  # the seeds of a sequence together

    def _so_far(self, blocks: int) -> SoFar:
        """Answer from the first blocks, and note what is to be trained last for that answer."""
        race, cells = self.race, with_prefixes(_cells(self.state.blocks[:blocks]))
        answer = answer_of(race.table(self.records, cells).hinted(race.hint))
        self.closing = closing_requests(race, answer)
        further = sorted(self._seeds())[1 : RULES.least_seeds]
        self.repeated = [
            Request(sequence, race.start + seed)
            for seed in further
            for sequence in race.repetitions(answer.recommended or "")
        ]
        shown = Answer(asked=answer, metric=metric_of(self.records), cost=race.task.cost)
        return SoFar(answer=shown, stages=race.stages, seeds=len(self._seeds()), ladder=self.ladder)

    def _seeds(self) -> set[int]:
        return {seed for block in self.state.blocks for _, seed in block}

    def _is_short_of_time(self) -> bool:
        """Whether what is left of the budget is needed for what is trained last."""
        left = self.runner.seconds_left
        times = [record.seconds for record in self.file.records if not record.error]
        if left is None or not times:
            return False
        usual = CAUTION * float(np.median(times)) / self.runner.workers
        last, repeated = (usual * len(self.file.lacks(part)) for part in (self.closing, self.repeated))
        affordable = repeated <= REPEATED * (left + self.runner.seconds)
        return left < last + (repeated if affordable else 0.0)

    def _second_controls(self) -> list[Request]:
        """Controls at a second seed, where the first one says that training was short."""
        if not self.closing:
            return []
        judged = controls(RunTable.of(self.records))
        short = {f"{control.sequence} {CONTROL}" for control in judged if control.status == "under-trained"}
        return [
            Request(request.sequence, self.race.start + 1)
            for request in self.closing
            if str(request.sequence) in short and self.state.ran_at(request.sequence, 1)
        ]

    def _train(self, requests: Sequence[Request]) -> None:
        """Run what the study and the file of records lack; the store often has it."""
        if not self.file.lacks(requests) or self.stopped:
            return
        self._enqueue(requests)
        for finished in run_study(self._study, self.runner, self._spec):
            self._keep(finished)
        missing = self.file.lacks(requests)
        if missing and not self.stopped:
            for finished in self.runner.run(missing):
                self._keep(finished)

    def _enqueue(self, requests: Iterable[Request]) -> None:
        """Make trials of what the study searches: each stage once."""
        for sequence, own in group(requests, lambda request: request.sequence).items():
            if self._spec.space.contains(sequence):
                seeds = [request.seed for request in own]
                enqueue_paired_design(self._study, self._spec.space, [sequence], seeds)

    def _is_done(self, block: Sequence[Cell]) -> bool:
        requests = self.race.requests(block)
        return not set(self.file.lacks(requests)) - self._ended

    def _keep(self, finished: Finished) -> None:
        self._ended.add(finished.request)
        self.file.add(finished)
        if finished.kept:
            attach_record(self._study, self._spec.space, finished.record)
        self._report(finished)

    def _open_study(self, task: Task) -> Study:
        space = self._spec.space
        return open_study(
            self.folder / "study.db",
            name=STUDY,
            space=space,
            objectives=self._spec.objectives,
            sampler=make_sampler("random", space),
            task=f"{task.name} {task.digest}",
        )


def _cells(blocks: Iterable[Sequence[Cell]]) -> list[Cell]:
    return [cell for block in blocks for cell in block]


def _finish(run: _Run, *, guarantee: bool) -> Discovery:
    """Derive answer and law from what there is, and write them down; what was derived before is read."""
    records, runner = run.records, run.runner
    if not any(record.points for record in records):
        if runner.interrupted:
            raise KeyboardInterrupt
        raise FailedRunError(_nothing_measured(run.file.records, runner))
    told = {**run.race.hint.chains}, run.race.hint.slope
    source = digest_of(code_version(), guarantee, told, sorted(str(record.to_json()) for record in records))
    file = kept_outcome(run.folder, records, runner) if run.state.answered == source else None
    if file is None:
        file = _write_law(run, records, guarantee=guarantee)
        run.state.answered = source
    assert file.answer is not None
    return Discovery(
        answer=file.answer,
        law=file.law,
        file=file,
        records=tuple(records),
        trainings=runner.trainings,
        interrupted=runner.interrupted,
        folder=run.folder,
        ladder=run.ladder,
        settings=run.race.task.settings,
    )


def _write_law(run: _Run, records: Sequence[Record], *, guarantee: bool) -> LawFile:
    """The content of law.json, written with all that belongs to it."""
    task, runner = run.race.task, run.runner
    posterior = posterior_of(records, stages=run.race.stages, loss=task.loss, cost=task.cost, hints=run.hints)
    law = law_from(posterior, cost=task.cost)
    prior = () if run.hints is None else run.hints.names
    answer = answer_from(posterior, cost=task.cost)
    answer = replace(answer, batches=one_batch(run.file.records)[1], prior=prior)
    certified = guaranteed_networks(task, runner.store, records, answer) if guarantee else None
    return write_outcome(run.folder, law, answer, records, runner, certified=certified)


def closing_requests(race: Race, answer: AnswerAt) -> list[Request]:
    """What is trained last: controls of chains that may be recommended, repetitions of the best one's stages,
    and the best one with what can only come last.

    At one seed, the first at which the race ran; repetitions follow at two more, where the budget allows.
    """
    if answer.recommended is None:
        return []
    chances = answer.probability_best
    likely = [chain for chain in answer.best_set if chances[chain] >= LIKELY]
    chains = list(dict.fromkeys([answer.recommended, *likely]))[:MOST_CONTROLLED]
    last = [*race.finals(answer.recommended), *race.controls(chains), *race.repetitions(answer.recommended)]
    return [Request(sequence, race.start) for sequence in last]


def _nothing_measured(records: Sequence[Record], runner: Runner) -> str:
    """Why there is nothing to derive a law from."""
    errors = [record.error for record in records if record.error]
    if errors:
        return f"every stage failed; the first one: {errors[0]}"
    return f"the budget was spent after {runner.seconds:.0f} s, before a network was measured; raise it"
