"""Experiment: which network is best on this task, over all orders and knobs, within a budget of trials?

`search` runs an Optuna study on the runner and returns the study, the front and the best networks. It
asks for good networks, not for the law: its trials follow the sampler's preferences.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ordercomp.analysis.report.result_files import read_law
from ordercomp.codec import read_json
from ordercomp.files import make_folder, refuse_link
from ordercomp.jobs.check import check_task
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.jobs.search_folder import SearchResult, write_search_outcome
from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork, describe
from ordercomp.objectives import Objectives
from ordercomp.records import ADAPTIVE, PAIRED, Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import create_network, train_node
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import Task, load_task
from ordercomp.running.workers import one_thread, refuse_unguarded
from ordercomp.search.drive import Abandonment, RunsRequests, StudySpec, run_study
from ordercomp.search.results import (
    add_prefix_trial,
    count_ended,
    designed_nodes,
    measured_nodes,
    records_from_study,
)
from ordercomp.search.samplers import DENSE_SAMPLERS, CostOptions, make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import Storage, Study, enqueue_first, naming_the_storage, open_storage, open_study
from ordercomp.sequence import KnobValue, Order, StageSequence, Step
from ordercomp.stages.catalog import apply_untrained, final_stages, known_stages
from ordercomp.stages.stage import StageError

MOST_ORDERS = 4  # whose knobs a search tries first
LEAST_CHANCE = 0.02  # of an order that the race left out, against those that may be best
_COARSE_FIRST = ("architecture", "neuron", "sub-neuron", "none")


def useful_space(space: Space, network: CompressedNetwork) -> Space:
    """The space without values of coarse knobs that cannot be applied to `network`, or change nothing of it.

    Of several values that come to the same network one is left, the default if it is among them. Coarse are
    the knobs of stages that add or remove whole parts, such as blocks and exits; they are tried out, without
    training, on a copy. A knob of which no value is left stays as it was.
    """
    stages = known_stages()
    knobs: dict[str, Mapping[str, Knob]] = dict(space.knobs)
    for letter in space.stages:
        if stages[letter].granularity == "architecture":
            held = space.fixed.get(letter, {})
            knobs[letter] = {
                name: knob if name in held or not knob.searched else _useful(letter, name, knob, network)
                for name, knob in space.knobs[letter].items()
            }
    return replace(space, knobs=knobs)


def first_sequences(task: Task, space: Space) -> list[StageSequence]:
    """What somebody would try first: static before dynamic, coarse before fine, with the knobs of the task.

    All stages and, where they may be left out, all but the first, at each setting; knobs are moved to the
    nearest value that the space holds.
    """
    stages = known_stages()
    order = "".join(
        sorted(
            space.stages,
            key=lambda letter: (
                letter in final_stages(),
                stages[letter].dynamic,
                _COARSE_FIRST.index(stages[letter].granularity),
            ),
        )
    )
    orders = [order, order[1:]] if space.optional and len(order) > 1 else [order]
    settings = task.settings or ({},)
    snapped = [_snapped(space, task.sequence(letters, setting)) for letters in orders for setting in settings]
    return [sequence for sequence in dict.fromkeys(snapped) if space.contains(sequence)]


def _useful(letter: str, name: str, knob: Knob, network: CompressedNetwork) -> Knob:
    values = _listed_values(knob)
    before = _structure(network)
    by_structure: dict[str, list[KnobValue]] = {}
    for value in values:
        try:
            result = apply_untrained(network, StageSequence((Step.of(letter, {name: value}),)))
        except StageError:
            continue
        if (structure := _structure(result)) != before:
            by_structure.setdefault(structure, []).append(value)
    useful = [knob.default if knob.default in alike else alike[0] for alike in by_structure.values()]
    useful = [value for value in values if value in useful]
    if not useful or len(useful) == len(values):
        return knob
    default = knob.default if knob.default in useful else _nearest(useful, knob.default)
    place = values.index(useful[0])
    if len(useful) > 1 and useful == values[place : place + len(useful)] and not knob.choices:
        return replace(knob, default=default, low=_number(useful[0]), high=_number(useful[-1]))
    return Knob(default=default, choices=tuple(useful), help=knob.help)


def _listed_values(knob: Knob) -> list[KnobValue]:
    """The values of a knob that a search may try; none if they are not listed."""
    if knob.choices:
        return list(knob.choices)
    space = Space("X", {"X": {"knob": knob}})
    try:
        return [sequence.steps[0].settings["knob"] for sequence in space.sequences()]
    except ValueError:  # a number without a grid
        return []


def _structure(network: CompressedNetwork) -> str:
    return json.dumps(describe(network.module, network.dropped, network.rebuilt), sort_keys=True)


def _snapped(space: Space, sequence: StageSequence) -> StageSequence:
    """The sequence with each listed or bounded knob at the nearest value of the space."""
    steps = []
    for step in sequence.steps:
        settings = dict(step.settings)
        for name, knob in space.knobs[step.stage].items():
            if name in settings and knob.searched and name not in space.fixed.get(step.stage, {}):
                settings[name] = _nearest(_listed_values(knob) or [settings[name]], settings[name])
        steps.append(Step.of(step.stage, settings))
    return space.complete(StageSequence(tuple(steps)))


def _nearest(values: Iterable[KnobValue], wanted: KnobValue) -> KnobValue:
    """The value closest to the one wanted, which itself is taken if it is there."""
    candidates = list(values)
    if wanted in candidates or isinstance(wanted, str):
        return wanted if wanted in candidates else candidates[0]
    return min(candidates, key=lambda value: abs(_number(value) - _number(wanted)))


def _number(value: KnobValue) -> float | int:
    return value if isinstance(value, int | float) else 0


# What a search takes over from a race


@dataclass(frozen=True, slots=True)
class Handover:
    """A finished race as a search sees it."""

    folder: Path
    records: tuple[Record, ...]
    chances: Mapping[Order, float]  # of being best, most probable first; empty where nothing was recommended

    @classmethod
    def of(cls, folder: Path, task: Task) -> "Handover":
        """Read a folder of `discover`. Raises ValueError if it is none, or of another task."""
        try:
            file = read_law(read_json(folder / "law.json"), str(folder / "law.json"))
        except FileNotFoundError:
            raise ValueError(
                f"from must be a folder that discover wrote, got {folder} without law.json"
            ) from None
        records = RecordLog(folder / "records.jsonl", task=task).records
        asked = None if file.answer is None else file.answer.asked
        best = [] if asked is None else asked.best_set
        chances = {order: max(asked.probability_best[order], LEAST_CHANCE) for order in best} if asked else {}
        return cls(folder, tuple(records), chances)

    def tell(self, study: Study, space: Space, objectives: Objectives, *, seed: int) -> int:
        """Tell a study what the race measured at a seed, once; return how many networks are new there."""
        measured = {str(sequence) for sequence, at in measured_nodes(study) if at == seed}
        new = [
            (sequence, record)
            for record in self.records
            if record.seed == seed and record.points and record.sequence not in measured
            for sequence in [StageSequence.parse(record.sequence)]
            if space.contains(sequence)
        ]
        for sequence, record in new:
            add_prefix_trial(study, space, objectives, sequence, record)
        return len(new)

    def first(self, space: Space) -> list[StageSequence]:
        """The orders that may be best, at every knob setting at which the race ran them at some seed."""
        orders = list(self.chances)[:MOST_ORDERS]
        ran = sorted({record.sequence for record in self.records if record.order in orders and record.points})
        return [sequence for text in ran if space.contains(sequence := StageSequence.parse(text))]


# The search itself


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """The knobs of this experiment. Raises ValueError for what cannot be."""

    task: Task
    out: Path  # gets study.db, records.jsonl, search.json, report.html, store/ and networks/
    stages: Order = ""  # letters to choose from; empty: those of the task
    trials: int = 100  # in the study, earlier runs included
    sampler: str = "neighbors"
    storage: str | Path | None = None  # None: study.db in `out`
    study: str = "search"  # name in the storage
    seed: int = 0  # of trainings and sampler
    optional: bool = True  # stages may be left out
    repeats: int = 0  # extra steps of repeatable stages
    cost: CostOptions | None = None  # weigh the expected gain against the seconds of the untrained suffix
    objectives: Objectives = field(default_factory=Objectives)
    abandonment: Abandonment | None = None
    workers: int = 2
    store_url: str = ""  # where results are shared with other machines; `out` holds copies
    budget_seconds: float | None = None
    source: Path | None = (
        None  # folder of a `discover`, whose networks, records and best orders it goes on with
    )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        if self.trials < self.workers:
            raise ValueError(f"trials must not be fewer than the {self.workers} workers, got {self.trials}")
        if not self.study:
            raise ValueError("study must be a name, got an empty one")

    @property
    def measures_latency(self) -> bool:
        """Whether the task or an objective asks for it; the task alone need not."""
        return self.task.latency or any("latency" in name for name in self.objectives.names)

    @property
    def spec(self) -> StudySpec:
        """What the study tries and is told."""
        return StudySpec(
            space=self.space, objectives=self.objectives, seed=self.seed, abandonment=self.abandonment
        )

    @property
    def space(self) -> Space:
        """What may be tried."""
        space = task_space(self.task, self.stages, optional=self.optional, repeats=self.repeats)
        return replace(space, dense=self.sampler in DENSE_SAMPLERS and not space.fixed_parameters)


def search(
    task: Task | str,
    stages: Order = "",
    *,
    trials: int = 100,
    sampler: str = "neighbors",
    storage: str | Path | None = None,
    out: Path | str = "search",
) -> SearchResult:
    """Search for the best compressed networks of a task and return the study and its front.

    `task` may be a built-in name or a TOML file; `stages` are the letters to choose from (default: the
    task's); `storage` is a path or URL (default: study.db in `out`). Running the same search again
    continues it, and trains nothing twice. More is set by a `SearchPlan`, for `run_search`. Raises
    ValueError for bad input.
    """
    task = load_task(task) if isinstance(task, str) else task
    plan = SearchPlan(
        task=task, out=Path(out), stages=stages, trials=trials, sampler=sampler, storage=storage
    )
    return run_search(plan)


@naming_the_storage("the search")
@one_thread()
def run_search(
    plan: SearchPlan,
    *,
    runner: RunsRequests | None = None,
    executor: Executor | None = None,
    on_finished: Callable[[Finished], None] = lambda finished: None,
    on_trials: Callable[[int], None] = lambda ended: None,
) -> SearchResult:
    """Run `plan` and return what the study holds then.

    For progress, `on_finished` hears of every node and `on_trials` of how many trials have ended.

    Without `runner` it makes one, on `executor` or on local processes, with a store in `plan.out`,
    settles the precision of the task as all experiments do, leaves out knobs that make no difference to
    the network, and lets a new study try a few sensible sequences first (not for the grid, which tries
    everything). An interrupt or a spent budget ends the search with what is there. Raises ValueError
    for bad input, also if `plan.out` holds records of another task; OSError if it cannot be written."""
    refuse_unguarded("search")
    refuse_link(plan.out / "networks")
    spec, before = plan.spec, _handover(plan)
    if runner is None:
        check_task(replace(plan.task, stages=spec.space.stages, latency=plan.measures_latency))
        network = create_network(plan.task, seed=0)
        spec = replace(spec, space=useful_space(spec.space, network))
    sampler = make_sampler(
        plan.sampler,
        spec.space,
        seed=plan.seed,
        trials=plan.trials,
        objectives=plan.objectives,
        cost=plan.cost,
        loss=plan.task.loss,
        chances=before.chances if before else None,
    )
    storage = _open_storage(plan)
    task = plan.task if runner else settle_precision(plan.task, _store(plan))
    task = replace(task, latency=plan.measures_latency)
    log = RecordLog(plan.out / "records.jsonl", task=task, same_digest=runner is None)
    study = open_study(
        storage,
        name=plan.study,
        space=spec.space,
        objectives=plan.objectives,
        sampler=sampler,
        task=f"{task.name} {task.digest}",
    )
    if runner is None and plan.sampler != "grid":
        first = (before.first(spec.space) if before else []) or first_sequences(plan.task, spec.space)
        enqueue_first(study, spec.space, first[: plan.trials // 4], seed=plan.seed)
    if before:
        before.tell(study, spec.space, plan.objectives, seed=plan.seed)
    with contextlib.ExitStack() as stack:
        used = runner or stack.enter_context(_make_runner(plan, task, executor))
        lost = _lost_nodes(study, log)
        trials = run_study(study, used, spec, trials=plan.trials)
        for finished in _recorded(itertools.chain(used.run(lost) if lost else (), trials), study, log):
            on_finished(finished)
            on_trials(count_ended(study))
        return _write_result(plan, study, log, used)


def _write_result(plan: SearchPlan, study: Study, log: RecordLog, runner: RunsRequests) -> SearchResult:
    """What the study holds, written into the folder of the search."""
    result = SearchResult(
        study=study,
        records=tuple(records_from_study(study)),
        task=plan.task,
        out=plan.out,
        objectives=plan.objectives,
        seconds={(record.sequence, record.seed): record.seconds for record in log.records},
        interrupted=isinstance(runner, Runner) and runner.interrupted,
        storage=str(plan.storage or plan.out / "study.db"),
    )
    # a runner without a store has no networks
    network_of = runner.whole_network if isinstance(runner, Runner) else lambda _: None
    write_search_outcome(result, network_of=network_of)
    return result


def task_space(task: Task, stages: Order = "", *, optional: bool = True, repeats: int = 0) -> Space:
    """The space of a task: all knobs that its stages declare for searching.

    What the task sets stays there if it is not for searching or lies off the declared grid.

    Raises ValueError for an unknown stage letter.
    """
    letters = stages or task.stages
    available = known_stages()
    declared = {letter: dict(stage.knobs) for letter, stage in available.items()}
    held: dict[str, dict[str, KnobValue]] = {
        letter: {name: value for name, value in values.items() if not _on_grid(declared[letter][name], value)}
        for letter, values in task.knobs.items()
    }
    again = "".join(letter for letter in letters if letter in available and available[letter].repeatable)
    return Space(letters, declared, optional, again, repeats, fixed=held, final=final_stages())


def _on_grid(knob: Knob, value: KnobValue) -> bool:
    """Whether a search over `knob` can reach `value`."""
    if not knob.searched or knob.choices or knob.step is None or knob.low is None:
        return knob.searched
    places = (float(value) - knob.low) / knob.step
    return abs(places - round(places)) < 1e-9


def _open_storage(plan: SearchPlan) -> Storage:
    """Open the study's storage, which may lie in `plan.out`; one that is refused leaves no new folder."""
    fresh = not plan.out.exists()
    make_folder(plan.out, "out")
    try:
        return open_storage(plan.storage or plan.out / "study.db")
    except ValueError:
        if fresh:
            with contextlib.suppress(OSError):  # another process has written into it meanwhile
                plan.out.rmdir()
        raise


def _store(plan: SearchPlan) -> Store:
    return open_store((plan.source or plan.out) / "store", plan.store_url)


def _handover(plan: SearchPlan) -> Handover | None:
    """What the race in the source folder gives; its store knows the precision that it was trained in."""
    if plan.source is None:
        return None
    if not (plan.source / "law.json").is_file():  # told before a store is made there
        raise ValueError(f"from must be a folder that discover wrote, got {plan.source} without law.json")
    task = settle_precision(plan.task, _store(plan))
    return Handover.of(plan.source, replace(task, latency=plan.measures_latency))


def _make_runner(plan: SearchPlan, task: Task, executor: Executor | None) -> Runner:
    return Runner(
        task,
        _store(plan),
        workers=plan.workers,
        executor=executor,
        budget_seconds=plan.budget_seconds,
        work=train_node,
    )


def _lost_nodes(study: Study, file: RecordLog) -> list[Request]:
    """What the study was told and the file lacks: a run was killed in between, or lost the file.

    The store has most of it.
    """
    return file.lacks([Request(sequence, seed) for sequence, seed in measured_nodes(study)])


def _recorded(nodes: Iterable[Finished], study: Study, file: RecordLog) -> Iterator[Finished]:
    """Pass nodes on, and add them to the file, marked by who chose them."""
    designed = designed_nodes(study.get_trials(deepcopy=False))
    for finished in nodes:
        record = finished.record
        design = PAIRED if (record.sequence, record.seed) in designed else ADAPTIVE
        file.add(replace(finished, record=replace(record, extra={**record.extra, "design": design})))
        yield finished
