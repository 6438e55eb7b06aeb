"""`ordercomp discover`: the main experiment, from a task to the order to take."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ordercomp.analysis.report.text import answer_words
from ordercomp.cli.output import (
    console,
    next_steps,
    parse_duration,
    parse_loss,
    print_json,
    print_law,
    print_next,
)
from ordercomp.cli.progress import View, watching
from ordercomp.jobs.defaults import SEEDS
from ordercomp.jobs.discover import Discovery, discover
from ordercomp.jobs.race import Race, plan_race
from ordercomp.running.task import load_task
from ordercomp.running.workers import executor_at


def command(
    out: Annotated[Path, typer.Option(help="folder for records, law, report and networks")],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    stages: Annotated[str | None, typer.Option(help="letters to order, default the task's")] = None,
    loss: Annotated[
        str | None, typer.Option(help="tolerated loss of accuracy, e.g. 2%; default the task's")
    ] = None,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 8m; none: until the race ends")] = "8m",
    seeds: Annotated[int, typer.Option(min=1, help="seeds of the race, at most")] = SEEDS,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes, one thread each; default one a core")
    ] = None,
    guarantee: Annotated[
        bool, typer.Option("--guarantee", help="take only networks whose loss holds with 95 % confidence")
    ] = False,
    store: Annotated[
        str | None, typer.Option(help="address of results to share, e.g. s3://bucket/folder")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="address of a Dask scheduler to train on")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print law.json on stdout")] = False,
) -> None:
    """Find out in which order to apply the stages, what that may cost, and keep the networks to take."""
    chosen = load_task(task)
    if stages is not None:
        chosen = replace(chosen, stages=stages)
    if loss is not None:
        chosen = replace(chosen, loss=parse_loss(loss))
    seconds = parse_duration(budget)
    planned = len(plan_race(Race(task=chosen, seeds=seeds), losing=True).nodes)
    with (
        executor_at(dask, workers=workers) as (executor, many),
        watching(planned, budget_seconds=seconds) as view,
    ):

        def answered(found: Discovery) -> None:
            _note(view, found)

        found = discover(
            chosen,
            out=out,
            seeds=seeds,
            budget_seconds=seconds,
            workers=many,
            executor=executor,
            store_url=store or "",
            guarantee=guarantee,
            report=view,
            answered=answered,
        )
    if found.failures:
        print(f"ordercomp: {found.failures}", file=sys.stderr)
    if as_json:
        print_json(found.file)
    else:
        print_law(found.file)
        console.print(f"records, networks and report are in {out}; open {out / 'report.html'}", markup=False)
        if network := within_loss(out / "networks", chosen.loss):
            print_next(next_steps(network))
    if found.interrupted:
        console.print("interrupted: this is what was measured until then; the same command goes on from here")
        raise KeyboardInterrupt
    if found.failures:
        raise typer.Exit(1)


def within_loss(folder: Path, loss: float) -> Path | None:
    """The network to take at `loss`, a fraction; where there is none, the one of the next smaller loss."""
    by_percent = {float(path.stem.removeprefix("loss-")): path for path in folder.glob("loss-*.safetensors")}
    kept = [percent for percent in by_percent if percent <= 100 * loss + 1e-9]
    return by_percent[max(kept)] if kept else None


def _note(view: View, found: Discovery) -> None:
    """Show the answer so far beside the progress."""
    words = answer_words(found.answer, found.law.stages)
    view.note(f"so far: {words.headline}", *(line for line in (words.cost, words.out) if line))
