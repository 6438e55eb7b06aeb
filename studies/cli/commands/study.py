"""`ordercomp study NAME`: one of the paper's experiments, with its figure, table and verdict."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ordercomp.cli.output import console, parse_duration, print_json
from ordercomp.cli.progress import watching
from ordercomp.running.task import load_task
from ordercomp.running.workers import executor_at
from ordercomp.studies.experiment import Outcome
from ordercomp.studies.run import RunOptions, run_experiment


def command(
    name: Annotated[str, typer.Argument(help="pairwise, exhaustive, insertion, …; another name lists them")],
    out: Annotated[Path, typer.Option(help="folder of result folders and of the shared store")],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    preset: Annotated[str, typer.Option(help="minutes, hours, paper or a TOML file")] = "minutes",
    budget: Annotated[str, typer.Option(help="time to train, e.g. 10m, or none")] = "none",
    store: Annotated[
        str | None, typer.Option(help="folder or address of finished trainings to share")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes, one thread each; default one a core")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="address of a Dask scheduler to train on")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON on stdout")] = False,
) -> None:
    """Run an experiment of the paper on any task and set its claims beside what was measured."""
    chosen = load_task(task)
    seconds = parse_duration(budget)
    with (
        executor_at(dask, workers=workers) as (executor, many),
        watching(budget_seconds=seconds) as view,
    ):
        options = RunOptions(
            workers=many,
            budget_seconds=seconds,
            store=None if store is None or "://" in store else Path(store),
            store_url=store if store is not None and "://" in store else "",
            report=view,
            planned=view.plan,
            executor=executor,
        )
        outcome = run_experiment(name, task=chosen, preset=preset, out=out, options=options)
    if as_json:
        print_json(outcome.file)
    else:
        _print(outcome)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _print(outcome: Outcome) -> None:
    result = Console()
    result.print(f"{outcome.question} ({outcome.section})", style="bold", markup=False, highlight=False)
    for table in outcome.judgement.tables:
        result.print(table.to_text(), markup=False, highlight=False, soft_wrap=True)
    for finding in outcome.judgement.findings:
        result.print(finding.sentence, markup=False, highlight=False)
    for note in outcome.judgement.notes:
        result.print(note, markup=False, highlight=False)
    result.print(outcome.verdict, style="bold", markup=False, highlight=False)
    console.print(f"records, figures and verdict are in {outcome.folder}", markup=False)
