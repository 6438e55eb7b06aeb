"""The paper's experiments by name, and how one is run: plan, train what the store lacks, judge, draw."""

import datetime
import difflib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar, get_args

import torch

from ordercomp.analysis.report.tables import Column, Table, failure_table
from ordercomp.codec import Plain, decode, encode, format_json, read_json
from ordercomp.files import replace_file
from ordercomp.jobs.check import StepTimes, check_task, probe_steps
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.records import Record, TrainingCount, read_records
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.node import train_node
from ordercomp.running.record_log import RecordLog
from ordercomp.running.runner import Runner, Work
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import Task
from ordercomp.running.versions import code_version
from ordercomp.sequence import StageSequence
from ordercomp.studies import (
    combination,
    exhaustive,
    insertion,
    pairwise,
    repetition,
    rivals,
    robustness,
    single,
    stagewise,
    versus,
    zoo,
)
from ordercomp.studies.experiment import (
    Experiment,
    Judgement,
    Outcome,
    OutcomeFile,
    Part,
    Verdict,
    table_markdown,
)
from ordercomp.studies.preset import Preset, load_preset
from ordercomp.training.device import choose_device, describe_hardware

# The folder of an experiment's results: `<date>_<experiment>` with records that are only ever added to.


T = TypeVar("T", "Marker", OutcomeFile)


_KIND = ("experiment", "preset", "tasks")  # what a marker says of results that belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What identifies results, and their provenance. Each record holds its own versions beside."""

    experiment: str
    preset: str = ""
    tasks: Mapping[str, str]  # digests by name
    recipes: Mapping[str, Plain] = field(default_factory=dict)  # by task
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # model and data by task
    started: str = ""
    code: str = ""
    python: str = ""
    hardware: str = ""


class ResultFolder:
    """Records of one experiment on one task at one preset; a later run adds to them."""

    def __init__(self, path: Path, marker: Marker) -> None:
        """Open or start the folder, which `marker` is to say what it holds.

        Raises ValueError if it holds results of another experiment, task or preset: nothing is written then.
        """
        self.path = path
        self._marker = marker
        if self._marker_path.exists():
            _check(path, _read(self._marker_path, Marker), marker)
        elif path.exists() and not _is_ours(path, marker):
            raise ValueError(f"{path} holds other files, without an experiment.json; choose another --out")
        self._mark()
        self._file = RecordLog(path / "records.jsonl")

    @property
    def records(self) -> list[Record]:
        """All records in the folder."""
        return self._file.records

    def add(self, finished: Finished) -> None:
        """Write the record of a finished node, as a `RecordLog` does."""
        self._mark()
        self._file.add(finished)

    def write(self, outcome: Outcome, figures: Mapping[str, str]) -> None:
        """Write outcome.json, outcome.md and the figures, all of which come from the records alone."""
        self._mark()
        replace_file(self.path / "outcome.json", format_json(outcome.file, indent=2))
        replace_file(self.path / "outcome.md", outcome.to_markdown())
        for name, svg in figures.items():
            replace_file(self.path / f"{name}.svg", svg)

    @property
    def _marker_path(self) -> Path:
        return self.path / "experiment.json"

    def _mark(self) -> None:
        """Say whose folder it is, unless it says so: it may be new, or somebody has removed it meanwhile."""
        if not self._marker_path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self._marker_path, format_json(self._marker, indent=2))


def describe(experiment: str, preset: str, parts: Sequence[Part]) -> Marker:
    """What identifies the results of an experiment that starts now."""
    return Marker(
        experiment=experiment,
        preset=preset,
        tasks={part.task.name: part.task.digest for part in parts},
        recipes={part.task.name: encode(part.task.recipe) for part in parts},
        models={part.task.name: (part.task.model, part.task.data) for part in parts},
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        code=code_version(),
        python=sys.version.split()[0],
        hardware=describe_hardware(choose_device()),
    )


def place_of(out: Path, date: str, marker: Marker) -> Path:
    """Where results of this kind lie in `out`: in the latest folder that holds some, or in one of this date.

    Results of other code are of another kind, except on the day itself.
    """
    for path in sorted(out.glob(f"*_{marker.experiment}/experiment.json"), reverse=True):
        with suppress(OSError, ValueError):  # a damaged one is told where it is to be used
            held = _read(path, Marker)
            if all(getattr(held, name) == getattr(marker, name) for name in (*_KIND, "code")):
                return path.parent
    return out / f"{date}_{marker.experiment}"


def read_results(path: Path | str) -> tuple[str, list[Record]]:
    """Name of the experiment and records of a result folder. Raises ValueError if it is none."""
    marker, records = Path(path) / "experiment.json", Path(path) / "records.jsonl"
    if not marker.is_file() or not records.is_file():
        raise ValueError(f"{path} must hold experiment.json and records.jsonl, as an experiment leaves them")
    return _read(marker, Marker).experiment, read_records(records)


def read_outcomes(out: Path) -> dict[str, OutcomeFile]:
    """Content of outcome.json of every result folder in `out`, by the folder's name, in order of names."""
    folders = sorted(marker.parent for marker in out.glob("*/experiment.json"))
    return {
        folder.name: _read(folder / "outcome.json", OutcomeFile)
        for folder in folders
        if (folder / "outcome.json").exists()
    }


def _read(path: Path, kind: type[T]) -> T:
    return decode(read_json(path), kind, str(path), strict=False)


def _is_ours(path: Path, marker: Marker) -> bool:
    """Whether a folder that lost its marker holds nothing but what an experiment on these tasks leaves."""
    names, suffixes = ("records.jsonl", "outcome.json", "outcome.md"), (".svg", ".lock", ".part")
    known = all(one.name in names or one.suffix in suffixes for one in path.iterdir())
    records = path / "records.jsonl"
    return known and (not records.exists() or all(one.task in marker.tasks for one in read_records(records)))


def _check(path: Path, held: Marker, marker: Marker) -> None:
    for name in _KIND:
        there, here = getattr(held, name), getattr(marker, name)
        if there != here:
            what = f"results of {_named(name, there)}, not {_named(name, here)}"
            raise ValueError(f"{path} holds {what}; choose another --out")


def _named(name: str, value: str | Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "task " + ", ".join(f"{task} ({digest[:8]})" for task, digest in value.items())
    return f"{name} {value}"


# The index of a folder of results: each experiment with its verdicts, and the claims that were decided.


_VERDICTS: tuple[str, ...] = get_args(Verdict)


_COLUMNS = (
    *map(Column, ("experiment", "paper", "asks", "task", "preset")),
    *(Column(name, "right") for name in ("trainings", *_VERDICTS)),
)


def write_index(out: Path) -> None:
    """Write `out`/index.md anew from the outcomes in `out`; nothing is judged again."""
    outcomes = read_outcomes(out)
    table = Table(
        title="Results in this folder",
        columns=_COLUMNS,
        rows=tuple(_row(folder, outcome) for folder, outcome in outcomes.items()),
        note="Columns of verdicts count claims. Those that agree or disagree:",
    )
    lines = [*table_markdown(table), ""]
    for folder, outcome in outcomes.items():
        lines += [f"- [{folder}]({folder}/outcome.md). {sentence}" for sentence in _decided(outcome)]
    replace_file(out / "index.md", "\n".join(lines) + "\n")


def _row(folder: str, outcome: OutcomeFile) -> tuple[str, ...]:
    verdicts: list[str] = [finding.verdict for finding in outcome.findings]
    part = "" if outcome.complete else f" of {outcome.planned}"
    return (
        f"[{outcome.experiment}]({folder}/outcome.md)",
        *(outcome.section, outcome.question, outcome.task, outcome.preset),
        f"{outcome.measured}{part}",
        *(str(verdicts.count(verdict)) for verdict in _VERDICTS),
    )


def _decided(outcome: OutcomeFile) -> list[str]:
    return [finding.sentence for finding in outcome.findings if finding.verdict in ("agree", "disagree")]


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
    records, trainings, seconds, interrupted = _train(parts, folder, store, options)
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
        seconds=seconds,
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
) -> tuple[list[Record], TrainingCount, float, bool]:
    """Run all parts one after the other within one budget; return the records that belong to them."""
    found: list[Record] = []
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
        ) as runner:
            for finished in runner.run(part.requests):
                folder.add(finished)
                if finished.kept:
                    found.append(finished.record)
                options.report(finished)
            total += runner.trainings
            seconds += runner.seconds
            if runner.interrupted:
                return found, total, seconds, True
    return found, total, seconds, False


def _nodes(part: Part) -> set[tuple[str, int]]:
    """Sequence text and seed of every node of a part."""
    return {(str(prefix), request.seed) for request in part.requests for prefix in _prefixes(request)}


def _prefixes(request: Request) -> tuple[object, ...]:
    return request.sequence.prefixes


# What experiments would train at a preset, shared and unshared, and how long that takes on this machine.


Node = tuple[str, str, int]  # digest of the task, sequence text, seed


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
        return round(sum(one.seconds for one in self.experiments), 1)

    @property
    def table(self) -> Table:
        """The plan as a table, with a row for all of them."""
        rows = [
            (
                one.name,
                str(one.trainings),
                str(one.new),
                str(one.unshared),
                duration(one.seconds),
                duration(one.seconds_alone),
            )
            for one in self.experiments
        ]
        trainings, new, unshared = (
            str(sum(getattr(one, name) for one in self.experiments))
            for name in ("trainings", "new", "unshared")
        )
        rows.append(("all", trainings, new, unshared, duration(self.seconds), ""))
        names = ("experiment", "trainings", "new", "unshared", "time", "time alone")
        return Table(
            title=f"{self.task} at preset {self.preset}, {self.workers} workers",
            columns=tuple(Column(name, "left" if name == "experiment" else "right") for name in names),
            rows=tuple(rows),
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
    chosen = load_preset(preset) if isinstance(preset, str) else preset
    known = dict(times or {})
    done: set[Node] = set()
    planned = []
    for name in list(names) or list(EXPERIMENTS):
        nodes: dict[Node, tuple[Part, StageSequence]] = {}
        unshared = 0
        for part in find_experiment(name).parts(task, chosen):
            if part.task.digest not in known:
                known[part.task.digest] = _probe(part.task)
            for request in part.requests:
                for prefix in request.sequence.prefixes:
                    nodes[part.task.digest, str(prefix), request.seed] = (part, prefix)
            unshared += part.trie.unshared_trainings
        seconds = {node: _seconds(*nodes[node], known) / workers for node in nodes}
        new = [node for node in nodes if node not in done]
        planned.append(
            PlannedExperiment(
                name=name,
                trainings=len(nodes),
                new=len(new),
                unshared=unshared,
                seconds=round(sum(seconds[node] for node in new), 1),
                seconds_alone=round(sum(seconds.values()), 1),
            )
        )
        done.update(new)
    return ExperimentPlan(task=task.name, preset=chosen.name, workers=workers, experiments=tuple(planned))


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days with two digits: 45 s, 3.5 min, 12 h, 8.1 days."""
    for size, name, upper in ((1.0, "s", 90.0), (60.0, "min", 5400.0), (3600.0, "h", 172_800.0)):
        if seconds < upper:
            return f"{seconds / size:.2g} {name}" if seconds / size < 10 else f"{seconds / size:.0f} {name}"
    days = seconds / 86_400
    return f"{days:.2g} days" if days < 10 else f"{days:,.0f} days"


def _probe(task: Task) -> StepTimes:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers do
    try:
        return probe_steps(task)
    finally:
        torch.set_num_threads(threads)


def _seconds(part: Part, node: StageSequence, times: Mapping[str, StepTimes]) -> float:
    """Expected seconds of a node's last stage, with the epochs that it sets itself."""
    own = float(node.steps[-1].settings.get("epochs", 0.0))
    share = own / part.task.recipe.epochs if own > 0 else 1.0
    return share * times[part.task.digest].of(node)
