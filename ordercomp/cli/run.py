"""The commands that train: discover, search, compress, study and rerun."""

import functools
import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ordercomp.cli.output import (
    ConventionOption,
    CostOption,
    DaskOption,
    OutcomeJsonFlag,
    StagesOption,
    StoreUrlOption,
    TaskArgument,
    TaskOption,
    TrustOption,
    WorkersOption,
    console,
    next_steps,
    parse_convention,
    parse_duration,
    parse_loss,
    print_json,
    print_lines,
    print_next,
    print_pairs,
)
from ordercomp.errors import FailedRunError
from ordercomp.objectives import SEEDS
from ordercomp.records import check_cost
from ordercomp.sequence import StageSequence

LossOption = Annotated[
    str | None, typer.Option(help="tolerated loss of accuracy, e.g. 2%; default the task's")
]
GuaranteeFlag = Annotated[
    bool, typer.Option("--guarantee", help="take only networks whose loss holds with 95 % confidence")
]
TuneOption = Annotated[
    str | None, typer.Option(help="then search for so long for the knobs of the best chains, e.g. 4m")
]
ProxyOption = Annotated[
    str | None,
    typer.Option(help="race on a cheaper copy first: auto, or shares such as epochs=0.25,width=0.5"),
]
FirstSeedOption = Annotated[int, typer.Option(min=0, help="another one repeats a race with other chance")]
PriorOption = Annotated[
    str | None,
    typer.Option(help="recorded: what the recorded tasks of other data say of each chain is a hint"),
]
SamplerOption = Annotated[str, typer.Option(help="tpe, neighbors, nsga2, nsga3, gp, random or grid")]
ObjectiveOption = Annotated[
    list[str] | None,
    typer.Option(
        help="accuracy, log2_bitops_cr, log2_cr, latency_ms or log2_latency_cr; several times for several; "
        "default the first two"
    ),
]

_NETWORK = re.compile(r"loss-(\d[\d.]*(?:e-\d+)?)\.safetensors")  # percent; other files are left alone
_MOST_DIFFERENCES = 5  # that are told of a node trained again
_ENDLESS = 100_000  # trials of a search that ends with its time
_DASHBOARD = "look at every trial (pip install 'ordercomp[dashboard]')"


def discover(
    out: Annotated[Path, typer.Option(help="folder for records, law, report and networks")],
    task_file: TaskArgument = None,
    task: TaskOption = "digits",
    stages: StagesOption = None,
    loss: LossOption = None,
    cost: CostOption = None,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 8m; none: until the race ends")] = "8m",
    seeds: Annotated[int, typer.Option(min=1, help="seeds of the race, at most")] = SEEDS,
    first_seed: FirstSeedOption = 0,
    workers: WorkersOption = None,
    guarantee: GuaranteeFlag = False,
    tune: TuneOption = None,
    proxy: ProxyOption = None,
    prior: PriorOption = None,
    store: StoreUrlOption = None,
    dask: DaskOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print law.json on stdout")] = False,
) -> None:
    """Find out in which order to apply the stages, what that may cost, and keep the networks to take."""
    from ordercomp.analysis.report.terminal import law_lines
    from ordercomp.analysis.report.text import answer_words
    from ordercomp.cli.progress import watching
    from ordercomp.jobs import discover as job
    from ordercomp.running.task import load_task
    from ordercomp.running.workers import executor_at

    loaded = _with_options(load_task(task_file or task), stages, loss, cost)
    seconds, tuning = parse_duration(budget), None if tune is None else parse_duration(tune, "--tune")
    with executor_at(dask, workers=workers) as (executor, many), watching(budget_seconds=seconds) as view:

        def answered(so_far: job.SoFar) -> None:
            words = answer_words(so_far.answer, so_far.stages)
            view.note(f"so far: {words.headline}", *filter(None, (words.cost, words.out, so_far.ladder)))

        done = _race_by(proxy, prior, loaded, told=view.note)(
            loaded,
            out=out,
            seeds=seeds,
            first_seed=first_seed,
            budget_seconds=seconds,
            workers=many,
            executor=executor,
            store_url=store or "",
            guarantee=guarantee,
            report=view,
            answered=answered,
        )
    if done.failures:
        print_lines(f"ordercomp: {done.failures}", stderr=True)
    steps = _network_steps(done.folder, loaded.model, loaded.loss)
    lines = itertools.chain(law_lines(done.file), [Text(done.ladder)] if done.ladder else [])
    _tell(done.file, lines, done.folder, steps, interrupted=done.interrupted, as_json=as_json)
    if done.failures:
        raise typer.Exit(1)
    if tune is not None:
        _tuned(loaded, out, seconds=tuning, dask=dask, workers=workers, store=store, as_json=as_json)


def _race_by(
    proxy: str | None, prior: str | None, task: Any, *, told: Callable[..., None]
) -> Callable[..., Any]:
    """What runs a race: on a cheaper copy first, or told what was recorded, where that is asked for."""
    from ordercomp.jobs.discover import discover as race
    from ordercomp.jobs.proxy import Proxy, discover_by_proxy
    from ordercomp.jobs.recordings import raced_elsewhere, recorded_hints

    if prior is not None:
        if prior != "recorded" or proxy is not None:
            got = repr(prior) if proxy is None else f"--proxy {proxy}, whose copy tells more"
            raise ValueError(f"--prior must be recorded, and without --proxy, got {got}")
        names = raced_elsewhere(task.data)
        return functools.partial(race, hints=recorded_hints(names, task.ordered, cost=task.cost))
    if proxy is None:
        return race
    copy = None if proxy == "auto" else Proxy.parse(proxy)
    return functools.partial(discover_by_proxy, proxy=copy, told=told)


def _with_options(task: Any, stages: str | None, loss: str | None, cost: str | None) -> Any:
    """The task with what the options say."""
    if stages is not None:
        task = replace(task, stages=stages)
    if loss is not None:
        task = replace(task, loss=parse_loss(loss))
    return task if cost is None else replace(task, cost=check_cost(cost))


def _tuned(
    task: Any,  # the module of tasks is heavy to import
    folder: Path,
    *,
    seconds: float | None,
    dask: str | None,
    workers: int | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Tune the knobs of the best chains of a race for so long, and end with the network to take."""
    from ordercomp.analysis.report.terminal import search_lines
    from ordercomp.jobs.search import SearchPlan

    plan = SearchPlan(
        task=task,
        out=folder / "tuned",
        source=folder,
        trials=_ENDLESS,
        workers=workers or 1,
        store_url=store or "",
        budget_seconds=seconds,
    )
    done = _watched_search(plan, dask=dask, workers=workers)
    steps = _network_steps(plan.out, task.model, task.loss)
    if as_json:  # law.json was printed
        return
    _tell(done.file, search_lines(done.file), plan.out, steps, interrupted=done.interrupted, as_json=False)


def within_loss(folder: Path, loss: float) -> Path | None:
    """The network to take at `loss`, a fraction; where there is none, the one of the next smaller loss."""
    named = {path: _NETWORK.fullmatch(path.name) for path in folder.glob("*.safetensors")}
    by_percent = {float(match[1]): path for path, match in named.items() if match}
    allowed = [percent for percent in by_percent if percent <= 100 * loss + 1e-9]
    return by_percent[max(allowed)] if allowed else None


def search(
    out: Annotated[Path, typer.Option(help="folder for records, study.db, report and networks")],
    task_file: TaskArgument = None,
    task: TaskOption = "digits",
    stages: Annotated[str, typer.Option(help="letters to choose from, default the task's")] = "",
    all_stages: Annotated[bool, typer.Option("--all-stages", help="leave no stage out")] = False,
    sampler: SamplerOption = "neighbors",
    trials: Annotated[int, typer.Option(help="in the study, earlier runs included")] = 100,
    storage: Annotated[str | None, typer.Option(help="path or URL, default study.db in --out")] = None,
    study: Annotated[str, typer.Option(help="name in the storage")] = "search",
    seed: Annotated[int, typer.Option(min=0, help="of trainings and sampler")] = 0,
    repeats: Annotated[int, typer.Option(min=0, help="extra steps of repeatable stages")] = 0,
    objective: ObjectiveOption = None,
    max_loss: Annotated[str | None, typer.Option(help="constraint: accuracy lost, e.g. 2%")] = None,
    max_bytes: Annotated[float | None, typer.Option(help="constraint: storage of the network")] = None,
    convention: ConventionOption = "paper",
    weigh_cost: Annotated[bool, typer.Option(help="prefer proposals with cheap untrained suffixes")] = False,
    abandon: Annotated[bool, typer.Option(help="end pipelines that are beyond repair early")] = False,
    workers: WorkersOption = None,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 30m, or none")] = "none",
    source: Annotated[
        Path | None, typer.Option("--from", help="folder of a discover: go on with its networks and orders")
    ] = None,
    store: StoreUrlOption = None,
    dask: DaskOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Search jointly over stages, their order and their knobs for the best compressed networks."""
    from ordercomp.analysis.report.terminal import search_lines
    from ordercomp.jobs.search import SearchPlan
    from ordercomp.running.task import load_task
    from ordercomp.search.drive import Abandonment
    from ordercomp.search.samplers import CostOptions

    plan = SearchPlan(
        task=load_task(task_file or task),
        out=out,
        source=source,
        stages=stages,
        optional=not all_stages,
        trials=trials,
        sampler=sampler,
        storage=storage,
        study=study,
        seed=seed,
        repeats=repeats,
        cost=CostOptions() if weigh_cost else None,
        objectives=_objectives(objective, convention, max_loss, max_bytes),
        workers=workers or 1,
        store_url=store or "",
        abandonment=Abandonment() if abandon else None,
        budget_seconds=parse_duration(budget),
    )
    done = _watched_search(plan, dask=dask, workers=workers)
    dashboard = [(_DASHBOARD, shlex.split(done.dashboard_line))] if done.dashboard_line else []
    steps = _network_steps(out, plan.task.model, plan.task.loss) + dashboard
    _tell(done.file, search_lines(done.file), out, steps, interrupted=done.interrupted, as_json=as_json)


def _watched_search(plan: Any, *, dask: str | None, workers: int | None) -> Any:
    """Run a `SearchPlan` on `workers` processes, or on a Dask scheduler; None: as many as are good for it."""
    from ordercomp.cli.progress import BestSoFar, watching
    from ordercomp.jobs.search import run_search
    from ordercomp.jobs.search_folder import Ranking
    from ordercomp.running.workers import executor_at

    with (
        executor_at(dask, workers=workers) as (executor, many),
        watching(budget_seconds=plan.budget_seconds) as view,
    ):
        view.count(0, plan.trials, "trials")
        return run_search(
            replace(plan, workers=many if workers else min(many, plan.trials)),
            executor=executor,
            on_finished=BestSoFar(view, Ranking(plan.objectives)),
            on_trials=lambda ended: view.count(ended, plan.trials, "trials"),
        )


def _objectives(
    names: Sequence[str] | None, convention: str, max_loss: str | None, max_bytes: float | None
) -> Any:
    """What a search optimizes and keeps to, as the options say."""
    from ordercomp.objectives import DEFAULT_OBJECTIVES, Objectives

    return Objectives(
        names=tuple(names or DEFAULT_OBJECTIVES.names),
        convention=parse_convention(convention),
        max_loss=None if max_loss is None else parse_loss(max_loss, "--max-loss"),
        max_bytes=max_bytes,
    )


def _network_steps(out: Path, model: str, loss: float) -> list[tuple[str, Sequence[object]]]:
    """What to do next with the network to take at `loss`, if there is one."""
    network = within_loss(out / "networks", loss)
    return next_steps(network, model) if network else []


def _tell(
    file: object,
    lines: Iterable[Text],
    out: Path,
    steps: Sequence[tuple[str, Sequence[object]]],
    *,
    interrupted: bool,
    as_json: bool,
) -> None:
    """Print an outcome, and what to do next; raise KeyboardInterrupt if it is a part."""
    if as_json:
        print_json(file)
    else:
        print_lines(*lines)
        console.print(f"records, networks and report are in {out}; open {out / 'report.html'}")
        print_next(steps)
    if interrupted:
        console.print("interrupted: this is what was measured until then; the same command goes on from here")
        raise KeyboardInterrupt


def compress(
    sequence: Annotated[
        str, typer.Argument(help='"D(depth=0.5) P(ratio=0.4)", or DP for the knobs of the task')
    ],
    task: TaskOption = "digits",
    out: Annotated[Path, typer.Option(help="the file to write, *.safetensors")] = Path(
        "compressed.safetensors"
    ),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    loss: Annotated[
        str, typer.Option(help="loss on validation data that leaving early may cost: 2%, 0.02")
    ] = "2%",
    threshold: Annotated[
        str | None, typer.Option(help="confidence to leave early at instead: 0 to 1, or none")
    ] = None,
    guarantee: Annotated[
        bool, typer.Option("--guarantee", help="choose it so that the loss holds with 95 % confidence")
    ] = False,
    store: Annotated[Path | None, typer.Option(help="folder of finished trainings")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the record as JSON on stdout")] = False,
) -> None:
    """Apply the stages of a sequence, one after the other, and save the compressed network."""
    from ordercomp.cli.progress import watching
    from ordercomp.jobs import compress as job
    from ordercomp.running.task import load_task

    loaded, tolerated = load_task(task), parse_loss(loss)
    wanted = StageSequence.parse(sequence)
    with watching(len(wanted)) as view:
        done = job.compress(
            wanted,
            loaded,
            out=out,
            seed=seed,
            loss=tolerated,
            threshold=None if threshold is None else _parse_threshold(threshold),
            guarantee=guarantee,
            store=store,
            report=view,
        )
    if as_json:
        print_json(done.record.to_json())
        return
    print_pairs(f"{done.record.sequence} → {out}", done.numbers)
    for line in done.remarks(loss):
        console.print(line)
    print_next(next_steps(out, loaded.model))


def _parse_threshold(text: str) -> float:
    """A confidence, or infinity for `none`. Raises ValueError."""
    try:
        return math.inf if text == "none" else float(text)
    except ValueError:
        raise ValueError(f"--threshold must be a confidence from 0 to 1, or none, got {text!r}") from None


def study(
    name: Annotated[str, typer.Argument(help="pairwise, exhaustive, insertion, …; another name lists them")],
    out: Annotated[Path, typer.Option(help="folder of result folders and of the shared store")],
    task: TaskOption = "digits",
    preset: Annotated[str, typer.Option(help="minutes, hours, paper or a TOML file")] = "minutes",
    budget: Annotated[str, typer.Option(help="time to train, e.g. 10m, or none")] = "none",
    store: Annotated[
        str | None, typer.Option(help="folder or address of finished trainings to share")
    ] = None,
    workers: WorkersOption = None,
    dask: DaskOption = None,
    as_json: OutcomeJsonFlag = False,
) -> None:
    """Run an experiment of the paper on any task and set its claims beside what was measured."""
    from ordercomp.cli.progress import watching
    from ordercomp.running.task import load_task
    from ordercomp.running.workers import executor_at
    from ordercomp.studies.run import RunOptions, run_experiment

    loaded = load_task(task)
    seconds = parse_duration(budget)
    with executor_at(dask, workers=workers) as (executor, many), watching(budget_seconds=seconds) as view:
        options = RunOptions(
            workers=many,
            budget_seconds=seconds,
            store=None if store is None or "://" in store else Path(store),
            store_url=store if store is not None and "://" in store else "",
            report=view,
            planned=view.plan,
            executor=executor,
        )
        outcome = run_experiment(name, task=loaded, preset=preset, out=out, options=options)
    if as_json:
        print_json(outcome)
    else:
        print_lines(
            Text(f"{outcome.question} ({outcome.section})", "bold"),
            *(table.to_text() for table in outcome.tables),
            *(finding.sentence for finding in outcome.findings),
            *outcome.notes,
            Text(outcome.verdict, "bold"),
        )
        console.print(f"records, figures and verdict are in {outcome.folder}")
    if outcome.interrupted:
        raise KeyboardInterrupt


def rerun(
    records: Annotated[Path, typer.Argument(help="records.jsonl, or the folder that holds it")],
    line: Annotated[int | None, typer.Option(min=1, help="number of the record, from 1")] = None,
    sequence: Annotated[str, typer.Option(help="in place of a line: DP, or with its knobs")] = "",
    seed: Annotated[int, typer.Option(min=0, help="of that sequence")] = 0,
    task: Annotated[str, typer.Option(help="default: the one that the record names")] = "",
    trust_model: TrustOption = None,
    as_json: OutcomeJsonFlag = False,
) -> None:
    """Train the node of one record again, from the baseline on, and compare what was measured bit for bit."""
    from ordercomp.cli.progress import watching
    from ordercomp.jobs import rerun as job
    from ordercomp.running.task import load_task

    if (line is None) == (not sequence):
        raise ValueError("--line or --sequence must say which record to repeat, one of them")
    path = records / "records.jsonl" if records.is_dir() else records
    record = job.choose_record(path, line=line, sequence=sequence, seed=seed)
    loaded = load_task(task) if task else job.named_task(record, trust=trust_model or ())
    with watching(len(StageSequence.parse(record.sequence))) as view:
        done = job.rerun(record, loaded, report=view)
    if as_json:
        outcome = {"equal": not done.differences, "differences": done.differences}
        print_json({**outcome, "same_setting": done.same_setting, "record": done.again.to_json()})
    elif not done.differences:
        points = f"{len(record.points)} points"
        print_lines(f"{record.sequence} at seed {record.seed}: equal, bit for bit, {points}")
    if done.differences:
        raise FailedRunError(
            f"{record.sequence} at seed {record.seed} differs on "
            f"{_setting_words(same_setting=done.same_setting, same_hardware=done.same_hardware)}: "
            f"{_first_differences(done.differences)}"
        )


def _setting_words(*, same_setting: bool, same_hardware: bool) -> str:
    if same_setting:
        return "the same code and hardware"
    return "other code than then" if same_hardware else "other hardware, where bits may differ"


def _first_differences(differences: Sequence[str]) -> str:
    more = len(differences) - _MOST_DIFFERENCES
    text = "; ".join(differences[:_MOST_DIFFERENCES])
    return f"{text} and {more} more" if more > 0 else text
