"""`ordercomp compress`: train one sequence and save the network."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ordercomp.cli.output import console, next_steps, parse_loss, print_json, print_next, print_pairs
from ordercomp.cli.progress import watching
from ordercomp.jobs.compress import Compressed, compress
from ordercomp.running.task import load_task
from ordercomp.sequence import StageSequence

_NO_THRESHOLD = "; no exit threshold is stored, so every image takes the last exit"


def command(
    sequence: Annotated[
        str, typer.Argument(help='"D(depth=0.5) P(ratio=0.4)", or DP for the knobs of the task')
    ],
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
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
    chosen, tolerated = load_task(task), parse_loss(loss)
    wanted = StageSequence.parse(sequence)
    with watching(len(wanted)) as view:
        done = compress(
            wanted,
            chosen,
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
    metric = done.record.metric
    print_pairs(
        f"{done.record.sequence} → {out}",
        {
            f"validation {metric}": done.point.accuracy,
            f"test {metric}": done.point.test_accuracy,
            f"baseline test {metric}": done.record.baseline.test_accuracy,
            "BitOpsCR": done.point.bitops_cr,
            "CR": done.point.cr,
        },
    )
    for line in _remarks(done, loss):
        console.print(line, markup=False)
    print_next(next_steps(out))


def _parse_threshold(text: str) -> float:
    """A confidence, or infinity for `none`. Raises ValueError."""
    try:
        return math.inf if text == "none" else float(text)
    except ValueError:
        raise ValueError(f"--threshold must be a confidence from 0 to 1, or none, got {text!r}") from None


def _remarks(done: Compressed, loss: str) -> list[str]:
    """What a user should know of the threshold."""
    if not done.keeps_loss:
        lost = 100 * (done.record.baseline.accuracy - max(one.accuracy for one in done.record.points))
        ending = _NO_THRESHOLD if "E" in done.record.order else ""
        told = f"the best one loses {lost:.2f} % on validation images"
        return [f"no operating point is one standard error within a loss of {loss}: {told}{ending}"]
    if done.threshold is None:
        return []
    return [f"{done.path} lets images leave early at a confidence of {done.threshold:.3g}"]
