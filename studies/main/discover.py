"""Discover: in which order should this network be compressed? The main experiment.

One multi-objective Optuna study. Its space is the stage permutation plus the per-stage knobs; the paired
design (every order at the same knobs and seeds) is enqueued as its trials, control arms with F run beside
it, and what is left of the budget goes to pairs that are still undecided.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ordercomp.analysis.evidence.corpus import SEQUENTIAL
from ordercomp.analysis.evidence.planning import Planner, blocks
from ordercomp.analysis.law.derive import Law, derive_law
from ordercomp.failures import FailedRunError
from ordercomp.orders import PrefixTrie, permutations
from ordercomp.records import Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import train_node
from ordercomp.running.processes import refuse_unguarded
from ordercomp.running.record_file import RecordFile
from ordercomp.running.runner import Runner, Trainings
from ordercomp.running.store import Store
from ordercomp.search.ask.objective import Objectives
from ordercomp.search.ask.samplers import make_sampler
from ordercomp.search.tell.drive import Question, run_study
from ordercomp.search.tell.study import enqueue_paired_design, open_study
from ordercomp.sequence import StageSequence, Step
from ordercomp.stages import known_stages
from ordercomp.studies.design.checks import check_task
from ordercomp.studies.folders.law_folder import settle_precision, write_outcome
from ordercomp.studies.main.search import task_space
from ordercomp.task import Task

__all__ = ["Design", "Discovery", "discover"]

STUDY = "discover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The paired design: every order of the stages at each knob setting of the task and each seed."""

    task: Task
    seeds: tuple[int, ...]

    @property
    def sequences(self) -> list[StageSequence]:
        """Every full order at every knob setting."""
        orders = permutations(self.task.stages)
        return [self.task.sequence(order, case) for case in self.task.cases for order in orders]

    @property
    def controls(self) -> list[StageSequence]:
        """F after every prefix of static stages: shows whether those were trained to the end."""
        static = "".join(letter for letter in self.task.stages if not known_stages()[letter].dynamic)
        if not static:
            return []
        found: dict[StageSequence, None] = {}
        for case in self.task.cases:
            for order in PrefixTrie(permutations(static)):
                found[self.task.sequence("".join(order) + "F", case)] = None
        return list(found)

    @property
    def extras(self) -> list[StageSequence]:
        """The task's further orders at every knob setting."""
        task = self.task
        return [task.sequence(order, case) for case in task.cases for order in task.extra]

    @property
    def trie(self) -> PrefixTrie[Step]:
        """All nodes of one seed."""
        return PrefixTrie(sequence.steps for sequence in (*self.sequences, *self.controls, *self.extras))

    @property
    def size(self) -> int:
        """Number of nodes at all seeds."""
        return len(self.trie) * len(self.seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What `discover` found, and where it lies."""

    law: Law
    records: tuple[Record, ...]
    trainings: Trainings
    interrupted: bool
    folder: Path


def discover(
    task: Task,
    *,
    out: Path | str,
    seeds: int = 3,
    budget_seconds: float | None = 480.0,
    workers: int = 2,
    report: Callable[[Finished], None] = lambda finished: None,
) -> Discovery:
    """Run the paired design, spend the rest of the budget where it helps, and write everything to `out`.

    Args:
        task: model, data, recipe, stages and knobs.
        out: folder for records.jsonl, law.json, report.html, networks/, study.db and the store of results;
            what a former run left there is used again.
        seeds: the full design runs at seeds 0 to `seeds` - 1; further ones are used adaptively.
        budget_seconds: wall time of training; None runs exactly the design.
        workers: processes, one thread each.
        report: called with every finished node.

    Raises:
        ValueError: bad arguments, a task that cannot be measured (nothing is written then), or `out` belongs
            to another question. OSError: it cannot be written.
    """
    refuse_unguarded("discover")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if len(set(task.stages)) < 2:
        raise ValueError(f"stages must hold at least two letters to be ordered, got {task.stages!r}")
    check_task(task)
    folder = Path(out)
    store = Store(folder / "store")
    task = settle_precision(task, store)
    design = Design(task=task, seeds=tuple(range(seeds)))
    file = RecordFile(folder / "records.jsonl", task=task.name)
    with Runner(task, store, workers=workers, budget_seconds=budget_seconds, work=train_node) as runner:
        for finished in _train(design, runner, folder, adaptive=budget_seconds is not None):
            file.add(finished)
            report(finished)
        records = file.records
        if not any(record.points for record in records):
            if runner.interrupted:
                raise KeyboardInterrupt
            raise FailedRunError(_nothing_measured(records, runner))
        law = derive_law(records, stages=task.stages)
        trainings = runner.trainings
        write_outcome(folder, law, records, trainings, store)
        return Discovery(
            law=law,
            records=tuple(records),
            trainings=trainings,
            interrupted=runner.interrupted,
            folder=folder,
        )


def _train(design: Design, runner: Runner, folder: Path, *, adaptive: bool) -> Iterator[Finished]:
    task, objectives = design.task, Objectives()
    space = task_space(task, optional=False)
    study = open_study(
        folder / "study.db",
        name=STUDY,
        space=space,
        objectives=objectives,
        sampler=make_sampler("random", space),
        task=f"{task.name} {task.digest}",
    )
    enqueue_paired_design(study, space, design.sequences, design.seeds)
    question = Question(space=space, objectives=objectives)
    planner = _planner(design)
    for finished in run_study(study, _WithControls(runner, design), question):
        planner.learn(finished.record)
        yield finished
    if adaptive:
        for finished in runner.run(_propose(planner, design), lookahead=2 * runner.workers):
            planner.learn(finished.record)
            yield _marked(finished)


def _marked(finished: Finished) -> Finished:
    """The same, its record marked as trained because of the results so far, which the law accounts for."""
    extra = {**finished.record.extra, "design": SEQUENTIAL}
    return replace(finished, record=replace(finished.record, extra=extra))


def _nothing_measured(records: Sequence[Record], runner: Runner) -> str:
    """Why there is nothing to derive a law from."""
    errors = [record.error for record in records if record.error]
    if errors:
        return f"every stage failed; the first one: {errors[0]}"
    seconds = runner.trainings.seconds
    return f"the budget was spent after {seconds:.0f} s, before a network was measured; raise it"


def _planner(design: Design) -> Planner:
    task, first = design.task, len(design.seeds)
    settings = [
        {letter: task.sequence(letter, case).steps[0].settings for letter in task.stages}
        for case in task.cases
    ]
    return Planner(task.stages, blocks(task.stages, settings, range(first + 16)))


def _propose(planner: Planner, design: Design) -> Iterator[Request]:
    """Both sides of the blocks that the planner chooses, until every pair is settled."""
    while (block := planner.propose()) is not None:
        for text in block.texts:
            yield Request(StageSequence.parse(text), block.seed)


class _WithControls:
    """A runner that adds, after the trials of each seed, its control arms and the task's further orders."""

    def __init__(self, runner: Runner, design: Design) -> None:
        self.workers = runner.workers
        self._runner = runner
        self._arms: Sequence[StageSequence] = (*design.controls, *design.extras)
        self._seeds = design.seeds

    def run(self, requests: Iterable[Request], *, lookahead: int = 64) -> Iterator[Finished]:
        """Yield the nodes of the requests and of the controls."""
        return self._runner.run(self._merge(requests), lookahead=lookahead)

    def _merge(self, requests: Iterable[Request]) -> Iterator[Request]:
        due = list(self._seeds)
        for request in requests:
            while due and due[0] < request.seed:
                yield from self._beside(due.pop(0))
            yield request
        for seed in due:
            yield from self._beside(seed)

    def _beside(self, seed: int) -> Iterator[Request]:
        for sequence in self._arms:
            yield Request(sequence, seed)
