"""`ordercomp check`: whether every stage works on a task's network, and what it finds there."""

from collections.abc import Iterable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from ordercomp.cli.output import number_text, print_json, print_next
from ordercomp.codec import Plain
from ordercomp.jobs.check import TaskSurvey, survey_task
from ordercomp.jobs.defaults import SEEDS
from ordercomp.running.task import load_task

_MOST_NAMES = 6


def command(
    task: Annotated[str, typer.Argument(help="a TOML file or a built-in task")],
    seeds: Annotated[int, typer.Option(min=1, help="of the race whose time is estimated")] = SEEDS,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Try every stage on the untrained network: blocks, exits, what is reached, and the time."""
    torch.set_num_threads(1)  # as workers do
    survey = survey_task(load_task(task), seeds=seeds)
    if as_json:
        print_json(survey)
        return
    console = Console()
    for line in _lines(survey):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(survey))
    console.print(
        f"{survey.trainings:,} trainings expected for {seeds} seeds: very roughly "
        f"{_time_text(survey.seconds)} with one worker",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    print_next([("measure the time", ("ordercomp", "plan", "--task", task))])


def _lines(survey: TaskSurvey) -> list[str]:
    parts = ", ".join(f"{count:,} for {name}" for name, count in survey.images.items())
    shape = "x".join(map(str, survey.shape))
    return [
        f"{survey.task}: {survey.model} on {survey.data}",
        f"images: {parts}; {survey.classes} classes, {shape}",
        f"blocks: {len(survey.blocks)}; D may drop {_names(survey.droppable)}",
        f"exits: E may put them after {_names(survey.exits)}",
        f"multiply-accumulates of an image: {survey.macs:,}, as torch's FlopCounterMode counts them",
    ]


def _names(names: Iterable[str]) -> str:
    given = list(names)
    shown = ", ".join(given[:_MOST_NAMES]) + (", …" if len(given) > _MOST_NAMES else "")
    return f"{len(given)}: {shown}" if given else "none"


def _table(survey: TaskSurvey) -> Table:
    table = Table(title="how many times less than the network as it is, untrained")
    for name in ("sequence", "BitOps", "first exit", "storage", "reached"):
        table.add_column(name, overflow="fold")
    for one in survey.reached:
        table.add_row(
            one.sequence,
            number_text(one.bitops_cr),
            number_text(one.first_exit_cr),
            number_text(one.cr),
            _facts(one.achieved[-1]) if len(one.achieved) == 1 else "",
        )
    return table


def _facts(achieved: Plain) -> str:
    words = []
    for name, value in achieved.items():
        if name != "stage":
            text = _names(value) if isinstance(value, list) else str(value)
            words.append(f"{name} {text}")
    return "; ".join(words)


def _time_text(seconds: float) -> str:
    """In the unit that keeps it above one: seconds, minutes, hours."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
