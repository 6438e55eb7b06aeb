"""`ordercomp search`: an Optuna study over orders and knobs for the best compressed network."""

import itertools
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.report.result_files import BestPoint, SearchFile
from ordercomp.analysis.report.search_page import (
    front_table,
    importance_table,
    law_sentence,
    order_table,
    progress_table,
    search_headline,
)
from ordercomp.analysis.report.tables import loss_text, times_text
from ordercomp.cli.output import console, next_steps, parse_convention, parse_duration, print_json, print_next
from ordercomp.cli.progress import View, watching
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.jobs.search_folder import Ranking
from ordercomp.objectives import DEFAULT_OBJECTIVES, Objectives
from ordercomp.running.jobs import Finished
from ordercomp.running.task import load_task
from ordercomp.running.workers import executor_at
from ordercomp.search.abandonment import Abandonment
from ordercomp.search.samplers import CostOptions

MOST_ORDERS = 10
NOTED_LOSSES = (0.01, 0.02)  # whose best network is shown while the search goes on


def command(
    out: Annotated[Path, typer.Option(help="folder for records, study.db, report and networks")],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    stages: Annotated[str, typer.Option(help="letters to choose from, default the task's")] = "",
    all_stages: Annotated[bool, typer.Option("--all-stages", help="leave no stage out")] = False,
    sampler: Annotated[
        str, typer.Option(help="tpe, neighbors, nsga2, nsga3, gp, random or grid")
    ] = "neighbors",
    trials: Annotated[int, typer.Option(help="in the study, earlier runs included")] = 100,
    storage: Annotated[str | None, typer.Option(help="path or URL, default study.db in --out")] = None,
    study: Annotated[str, typer.Option(help="name in the storage")] = "search",
    seed: Annotated[int, typer.Option(min=0, help="of trainings and sampler")] = 0,
    repeats: Annotated[int, typer.Option(min=0, help="extra steps of repeatable stages")] = 0,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="accuracy, log2_bitops_cr, log2_cr or latency_ms; several times for several; "
            "default the first two"
        ),
    ] = None,
    max_loss: Annotated[float | None, typer.Option(help="constraint: accuracy lost, a fraction")] = None,
    max_bytes: Annotated[float | None, typer.Option(help="constraint: storage of the network")] = None,
    convention: Annotated[str, typer.Option(help="paper, honest or apot")] = "paper",
    weigh_cost: Annotated[bool, typer.Option(help="prefer proposals with cheap untrained suffixes")] = False,
    abandon: Annotated[bool, typer.Option(help="end pipelines that are beyond repair early")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes, one thread each; default one a core")
    ] = None,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 30m, or none")] = "none",
    store: Annotated[
        str | None, typer.Option(help="address of results to share, e.g. s3://bucket/folder")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="address of a Dask scheduler to train on")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Search jointly over stages, their order and their knobs for the best compressed networks."""
    plan = SearchPlan(
        task=load_task(task),
        out=out,
        stages=stages,
        optional=not all_stages,
        trials=trials,
        sampler=sampler,
        storage=storage,
        study=study,
        seed=seed,
        repeats=repeats,
        cost=CostOptions() if weigh_cost else None,
        objectives=Objectives(
            names=tuple(objective or DEFAULT_OBJECTIVES.names),
            convention=parse_convention(convention),
            max_loss=max_loss,
            max_bytes=max_bytes,
        ),
        workers=workers or 1,
        store_url=store or "",
        abandonment=Abandonment() if abandon else None,
        budget_seconds=parse_duration(budget),
    )
    with (
        executor_at(dask, workers=workers) as (executor, many),
        watching(budget_seconds=plan.budget_seconds) as view,
    ):
        view.count(0, trials, "trials")
        best = _BestSoFar(view, plan.objectives)
        result = run_search(
            replace(plan, workers=many if workers else min(many, plan.trials)),
            executor=executor,
            on_finished=best,
            on_trials=lambda ended: view.count(ended, trials, "trials"),
        )
    if as_json:
        print_json(result.file)
    else:
        _print(result.file)
        console.print(f"records, networks and report are in {out}; open {out / 'report.html'}", markup=False)
        networks = sorted((out / "networks").glob("*.safetensors"))
        steps = next_steps(networks[-1]) if networks else []
        if line := result.dashboard_line:
            steps.append(("look at every trial (pip install 'ordercomp[dashboard]')", shlex.split(line)))
        print_next(steps)
    if result.interrupted:
        console.print("interrupted: this is what was measured until then; the same command goes on from here")
        raise KeyboardInterrupt


class _BestSoFar:
    """Passes nodes on to the view, and notes there the best network of this run."""

    def __init__(self, view: View, objectives: Objectives) -> None:
        self._view = view
        self._ranking = Ranking(objectives)
        self._best: dict[float, Candidate] = {}

    def __call__(self, finished: Finished) -> None:
        self._view(finished)
        points = self._ranking.candidates([finished.record])
        for loss in NOTED_LOSSES:
            known = [self._best[loss]] if loss in self._best else []
            if (best := self._ranking.best([*known, *points], loss)) is not None:
                self._best[loss] = best
        lines = []
        for best, losses in itertools.groupby(self._best, key=lambda loss: self._best[loss]):
            within = ", ".join(map(loss_text, losses))
            lines.append(
                f"best so far, losing up to {within}: {times_text(best.bitops_cr)} fewer bit operations, "
                f"{times_text(best.cr)} less storage, {best.record.sequence}"
            )
        self._view.note(*lines)


def _print(search: SearchFile) -> None:
    """The outcome on stdout; each command on a line of its own, so that it can be copied whole."""
    stdout = Console()

    def show(text: str, style: str | None = None) -> None:
        stdout.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    show(search_headline(search), "bold")
    show(f"{search.networks} networks measured; their front is worth {search.value:.2f} doublings.")
    for best, within in itertools.groupby(search.best, key=search.best.__getitem__):
        losses = ", ".join(loss_text(float(tolerance)) for tolerance in within)
        show(f"\nloss up to {losses}: {'none' if best is None else _network_text(best)}")
    tables = [front_table(search), order_table(search, most=MOST_ORDERS), importance_table(search)]
    for table in (*tables, progress_table(search)):
        if table.rows:
            show(f"\n{table.to_text()}")
    if sentence := law_sentence(search):
        show(f"\n{sentence}")


def _network_text(best: BestPoint) -> str:
    point = best.point
    numbers = [
        f"{times_text(point.bitops_cr)} fewer bit operations",
        f"{times_text(point.cr)} less storage",
        *([] if point.latency_ms is None else [f"{point.latency_ms:.3g} ms"]),
        f"test {point.metric} {point.test_accuracy:.4f}",
    ]
    return f"{', '.join(numbers)}\n  {best.compress}"
