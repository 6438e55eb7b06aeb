"""`ordercomp init`: a task file to start from, with a model and a data function."""

from pathlib import Path
from typing import Annotated

import typer

from ordercomp.cli.output import print_next
from ordercomp.jobs.templates import write_templates


def command(
    folder: Annotated[Path, typer.Argument(help="for the files, made if need be")] = Path(),
) -> None:
    """Write a commented task file and templates of the functions that give a model and images."""
    for path in write_templates(folder):
        typer.echo(path)
    where = [("go there", ("cd", folder))] if folder.resolve() != Path.cwd() else []
    print_next(
        [
            *where,
            ("try every stage, without training", ("ordercomp", "check", "task.toml")),
            ("find the order", ("ordercomp", "discover", "--task", "task.toml", "--out", "out/mine")),
        ]
    )
