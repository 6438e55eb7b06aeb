"""`ordercomp discover`: the main experiment, from a task to its law."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ordercomp.studies.cli.law_text import print_law
from ordercomp.studies.cli.output import console, next_steps, parse_duration, print_json, print_next
from ordercomp.studies.cli.progress import watching
from ordercomp.studies.folders.law_folder import law_json
from ordercomp.studies.main.discover import Design, discover
from ordercomp.task import load_task

__all__ = ["command"]


def command(
    out: Annotated[Path, typer.Option(help="folder for records, law, report and networks")],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    stages: Annotated[str | None, typer.Option(help="letters to order, default the task's")] = None,
    budget: Annotated[str, typer.Option(help="time to train, e.g. 8m; none: the whole design")] = "8m",
    seeds: Annotated[int, typer.Option(min=1, help="seeds at which the whole design runs")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="processes, one thread each")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print law.json on stdout")] = False,
) -> None:
    """Find out in which order to apply the stages, how sure that is, and keep the best networks."""
    chosen = load_task(task)
    if stages is not None:
        chosen = replace(chosen, stages=stages)
    seconds = parse_duration(budget)
    design = Design(task=chosen, seeds=tuple(range(seeds)))
    with watching(design.size, budget_seconds=seconds) as view:
        found = discover(chosen, out=out, seeds=seeds, budget_seconds=seconds, workers=workers, report=view)
    data = law_json(found.law, found.trainings)
    if as_json:
        print_json(data)
    else:
        print_law(data)
        console.print(f"records, networks and report are in {out}; open {out / 'report.html'}", markup=False)
        if networks := sorted((out / "networks").glob("*.safetensors")):
            print_next(next_steps(networks[-1]))
    if found.interrupted:
        console.print("interrupted: this is what was measured until then; the same command goes on from here")
        raise KeyboardInterrupt
