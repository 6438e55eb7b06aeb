"""`ordercomp rerun RECORDS`: train one record's node again and compare it bit for bit."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ordercomp.cli.output import print_json
from ordercomp.cli.progress import watching
from ordercomp.errors import FailedRunError
from ordercomp.jobs.rerun import choose_record, rerun
from ordercomp.running.task import load_task
from ordercomp.sequence import StageSequence

_MOST = 5  # differences that are told


def command(
    records: Annotated[Path, typer.Argument(help="records.jsonl, or the folder that holds it")],
    line: Annotated[int | None, typer.Option(min=1, help="number of the record, from 1")] = None,
    sequence: Annotated[str, typer.Option(help="in place of a line: DP, or with its knobs")] = "",
    seed: Annotated[int, typer.Option(min=0, help="of that sequence")] = 0,
    task: Annotated[str, typer.Option(help="default: the one that the record names")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON on stdout")] = False,
) -> None:
    """Train the node of one record again, from the baseline on, and compare what was measured bit for bit."""
    if (line is None) == (not sequence):
        raise ValueError("--line or --sequence must say which record to repeat, one of them")
    path = records / "records.jsonl" if records.is_dir() else records
    record = choose_record(path, line=line, sequence=sequence, seed=seed)
    chosen = load_task(task or str(record.extra.get("task_source", record.task)))
    with watching(len(StageSequence.parse(record.sequence))) as view:
        done = rerun(record, chosen, report=view)
    if as_json:
        told = {"equal": not done.differences, "differences": done.differences}
        print_json({**told, "same_setting": done.same_setting, "record": done.again.to_json()})
    elif not done.differences:
        words = f"{record.sequence} at seed {record.seed}: equal, bit for bit, {len(record.points)} points"
        Console().print(words, markup=False, highlight=False, soft_wrap=True)
    if done.differences:
        where = "the same code and hardware" if done.same_setting else "other code or hardware than then"
        more = f" and {len(done.differences) - _MOST} more" if len(done.differences) > _MOST else ""
        told_here = "; ".join(done.differences[:_MOST])
        raise FailedRunError(f"{record.sequence} at seed {record.seed} differs on {where}: {told_here}{more}")
