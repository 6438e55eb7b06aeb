"""The program `ordercomp`: its commands with examples, exit statuses, and where results and errors go.

A command loads what it needs when it runs, so that help, and what needs no torch, start at once.
"""

import importlib.metadata
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, TextIO, get_args, get_type_hints

import typer
from rich.markup import escape

from ordercomp.cli import inspect, run, ship
from ordercomp.cli.output import print_lines
from ordercomp.errors import FailedRunError, is_out_of_disk, is_out_of_memory

COMMANDS: Mapping[Callable[..., None], Sequence[str]] = {  # with examples
    inspect.init: ("ordercomp init mine",),
    inspect.check: ("ordercomp check task.toml",),
    run.discover: (
        "ordercomp discover --out out/digits",
        "ordercomp discover --task mine.toml --out out/mine --budget 30m --workers 4",
    ),
    inspect.plan: ("ordercomp plan --task mine.toml --workers 4",),
    inspect.cost: ('ordercomp cost resnet34 "P(ratio=0.4) Q(weights=1,activations=8)"',),
    inspect.law: (
        "ordercomp law out/digits/records.jsonl --json",
        "ordercomp law --storage out/digits/study.db",
    ),
    inspect.report: ("ordercomp report out/digits",),
    run.compress: (
        "ordercomp compress DPQE --task digits --loss 2% --out small.safetensors",
        'ordercomp compress "P(ratio=0.4) Q(weights=4,activations=8)" --store out/digits/store',
    ),
    ship.export: (
        "ordercomp export small.safetensors --onnx small.onnx",
        "ordercomp export small.safetensors --packed small.packed",
    ),
    ship.bench: (
        "ordercomp bench small.safetensors",
        "ordercomp bench small.safetensors --shares 0.7,0.2,0.1",
    ),
    run.search: (
        "ordercomp search --out out/search --trials 50",
        "ordercomp search --task mine.toml --out out/search --budget 30m --max-loss 0.02",
    ),
    run.study: ("ordercomp study exhaustive --out out/studies --budget 10m",),
    inspect.store: (
        "ordercomp store ls out/digits",
        "ordercomp store verify out/digits",
        "ordercomp store gc out/digits --cap 500MiB",
    ),
    run.rerun: (
        "ordercomp rerun out/digits --line 12",
        'ordercomp rerun out/digits --sequence "D(depth=0.5) P(ratio=0.4)" --seed 1',
    ),
}
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of any option; typer gives it no name
NO_ARGUMENTS = "NoArgsIsHelp"  # in the name of the error that holds the help


app = typer.Typer(no_args_is_help=True, epilog=f"Start with: {COMMANDS[run.discover][0]}")
for _command, _examples in COMMANDS.items():
    for _hint in get_type_hints(_command, include_extras=True).values():
        if get_args(_hint)[:1] == (bool,):
            get_args(_hint)[1].metavar = ""  # a flag takes no <bool>
    app.command(epilog=escape("\n\n".join(("Examples:", *_examples))))(_command)


def _tell_version(asked: bool) -> None:
    if asked:
        print_lines(f"ordercomp {importlib.metadata.version('ordercomp')}")
        raise typer.Exit


@app.callback()
def _describe(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="tell it")
    ] = False,
) -> None:
    """Measure in which order a CNN should be distilled, pruned, quantized and given early exits."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted with partial results."""
    logging.lastResort = _LastResort(logging.WARNING)
    argv = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with redirect_stdout(_Aside(sys.stdout)) if "--json" in argv else nullcontext():
            status = app(args=argv, standalone_mode=False)
    except USAGE_ERROR as error:
        message = error.format_message()  # type: ignore[attr-defined]
        print(message, file=sys.stderr) if NO_ARGUMENTS in type(error).__name__ else _tell(message)
        status = BAD_INPUT
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        # the input was right, and the run failed all the same
        failed = isinstance(error, FailedRunError) or is_out_of_memory(error) or is_out_of_disk(error)
        if not failed and isinstance(error, RuntimeError):
            raise
        _tell(str(error) or type(error).__name__)
        status = FAILED if failed else BAD_INPUT
    if status == INTERRUPTED:
        _tell("interrupted")
    sys.exit(status or 0)


def _tell(text: str) -> None:
    try:
        print_lines(f"ordercomp: {text}", stderr=True)
    except MemoryError:  # what is left does for this
        os.write(2, f"ordercomp: {text}\n".encode())


class _LastResort(logging.Handler):
    """Tells what is logged where no view listens."""

    def emit(self, record: logging.LogRecord) -> None:
        print_lines(self.format(record), stderr=True)


class _Aside(io.TextIOBase):
    """Stands for stdout where `--json` is asked for: what a model prints goes to stderr."""

    def __init__(self, results: TextIO) -> None:
        self.results = results  # where `print_json` writes

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


if __name__ == "__main__":
    main()
