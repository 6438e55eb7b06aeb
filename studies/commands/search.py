"""`ordercomp search`: an Optuna study over orders and knobs for the best compressed network."""

from pathlib import Path
from typing import Annotated

import typer

from ordercomp.search.abandonment import Abandonment
from ordercomp.search.cost_aware import CostOptions
from ordercomp.search.objective import Objectives
from ordercomp.studies.output import console, parse_convention, parse_duration, print_json
from ordercomp.studies.progress import watching
from ordercomp.studies.search import SearchPlan, run_search
from ordercomp.studies.search_result import SearchResult
from ordercomp.task import load_task

__all__ = ["command"]


def command(
    out: Annotated[Path, typer.Option(help="folder for records, study.db and networks")],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    stages: Annotated[str, typer.Option(help="letters to choose from, default the task's")] = "",
    sampler: Annotated[str, typer.Option(help="tpe, nsga2, nsga3, gp, random or grid")] = "tpe",
    trials: Annotated[int, typer.Option(help="in the study, earlier runs included")] = 100,
    storage: Annotated[str | None, typer.Option(help="path or URL, default study.db in --out")] = None,
    study: Annotated[str, typer.Option(help="name in the storage")] = "search",
    seed: Annotated[int, typer.Option(min=0, help="of trainings and sampler")] = 0,
    repeats: Annotated[int, typer.Option(min=0, help="extra steps of repeatable stages")] = 0,
    max_loss: Annotated[float | None, typer.Option(help="constraint: accuracy lost, a fraction")] = None,
    max_bytes: Annotated[float | None, typer.Option(help="constraint: storage of the network")] = None,
    convention: Annotated[str, typer.Option(help="paper, honest or apot")] = "paper",
    weigh_cost: Annotated[bool, typer.Option(help="prefer proposals with cheap untrained suffixes")] = False,
    abandon: Annotated[bool, typer.Option(help="end pipelines that are beyond repair early")] = False,
    workers: Annotated[int, typer.Option(min=1, help="processes, one thread each")] = 2,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 30m, or none")] = "none",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Search jointly over stages, their order and their knobs for the best compressed networks."""
    plan = SearchPlan(
        task=load_task(task),
        out=out,
        stages=stages,
        trials=trials,
        sampler=sampler,
        storage=storage,
        study=study,
        seed=seed,
        repeats=repeats,
        cost=CostOptions() if weigh_cost else None,
        objectives=Objectives(
            convention=parse_convention(convention), max_loss=max_loss, max_bytes=max_bytes
        ),
        abandonment=Abandonment() if abandon else None,
        workers=workers,
        budget_seconds=parse_duration(budget),
    )
    with watching(None) as report:
        result = run_search(plan, on_finished=report)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)


def _print(result: SearchResult) -> None:
    out = typer.echo
    out(f"{len(result.records)} networks measured, {len(result.front)} operating points on the front")
    for tolerance, best in result.best_by_tolerance.items():
        if best is None:
            out(f"loss up to {100 * tolerance:g} %: none")
            continue
        out(
            f"loss up to {100 * tolerance:g} %: {best.bitops_cr:.0f}x fewer BitOps, {best.cr:.0f}x smaller, "
            f"test accuracy {best.point.test_accuracy:.4f}\n  {result.compress_line(tolerance)}"
        )
    if result.winner is not None:
        console.print(f"best full order: {result.winner} (a sampler's favorites are no evidence for a law)")
