"""`ordercomp compress`: train one sequence and save the network."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ordercomp.analysis.fronts.front import best_reductions
from ordercomp.measuring.untrained import apply_untrained
from ordercomp.running.jobs import Request
from ordercomp.running.node import start_network, train_node
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.sequence import StageSequence
from ordercomp.shipping.stamp import copy_with_threshold
from ordercomp.stages import complete
from ordercomp.studies.cli.output import (
    console,
    next_steps,
    parse_loss,
    print_json,
    print_next,
    print_pairs,
)
from ordercomp.studies.cli.progress import watching
from ordercomp.studies.folders.law_folder import settle_precision
from ordercomp.task import load_task

__all__ = ["command"]

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
        str, typer.Option(help="validation accuracy that leaving early may cost: 2%, 0.02")
    ] = "2%",
    store: Annotated[Path | None, typer.Option(help="folder of finished trainings")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the record as JSON on stdout")] = False,
) -> None:
    """Apply the stages of a sequence, one after the other, and save the compressed network."""
    chosen, tolerated = load_task(task), parse_loss(loss)
    wanted = StageSequence.parse(sequence)
    if not wanted.steps:
        raise ValueError("SEQUENCE must hold at least one stage, got an empty one")
    wanted = (
        chosen.sequence(wanted.order) if not any(step.knobs for step in wanted.steps) else complete(wanted)
    )
    _check_writable(out)
    apply_untrained(start_network(chosen, seed=seed)[0], wanted)  # what cannot be applied is told at once
    with tempfile.TemporaryDirectory(prefix="ordercomp-") as temporary:
        results = Store(store or Path(temporary))
        chosen = settle_precision(chosen, results)
        with Runner(chosen, results, workers=1, work=train_node) as runner, watching(len(wanted)) as view:
            last = None
            for finished in runner.run([Request(wanted, seed)]):
                view(finished)
                last = finished.record
            if runner.interrupted:
                raise KeyboardInterrupt
        assert last is not None
        if last.error is not None:
            print(f"ordercomp: {last.error}", file=sys.stderr)
            raise typer.Exit(1)
        chosen_point = best_reductions([last], tolerances=(tolerated,))[tolerated]
        threshold = None if chosen_point is None else chosen_point.point.threshold
        copy_with_threshold(results.network_path(str(last.extra["digest"])), out, threshold)
    if as_json:
        print_json(last.to_json())
    else:
        point = last.points[0]
        print_pairs(
            f"{last.sequence} → {out}",
            {
                "validation accuracy": point.accuracy,
                "test accuracy": point.test_accuracy,
                "baseline test accuracy": last.baseline.test_accuracy,
                "BitOpsCR": point.bitops_cr,
                "CR": point.cr,
            },
        )
        if chosen_point is None:
            lost = 100 * (last.baseline.accuracy - max(one.accuracy for one in last.points))
            console.print(
                f"no operating point keeps the loss within {loss}: the best one loses {lost:.2f} %"
                f"{_NO_THRESHOLD if 'E' in last.order else ''}",
                markup=False,
            )
        elif threshold is not None:
            console.print(f"{out} lets images leave early at a confidence of {threshold:.3g}", markup=False)
        print_next(next_steps(out))


def _check_writable(out: Path) -> None:
    """Raise ValueError unless a file can be written there."""
    if not out.parent.is_dir():
        raise ValueError(f"--out must lie in an existing folder, got {out}")
    if out.is_dir():
        raise ValueError(f"--out must be a file, got the folder {out}")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ValueError(f"--out must be a file that can be written, got {out}: {error.strerror}") from None
