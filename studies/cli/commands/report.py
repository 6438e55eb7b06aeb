"""`ordercomp report`: the page of a finished folder, written again."""

from pathlib import Path
from typing import Annotated

import typer

from ordercomp.jobs.search_folder import write_report_again


def command(
    folder: Annotated[Path, typer.Argument(help="where discover or search left records and law or search")],
) -> None:
    """Write report.html of a folder of discover or search again, from its records alone."""
    typer.echo(write_report_again(folder))
