"""The program `ordercomp`. Commands load when called, so that those that need no torch start at once."""

import ast
import importlib
import importlib.util
import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from ordercomp.errors import FailedRunError, is_out_of_disk, is_out_of_memory

COMMANDS: Mapping[str, str] = {
    "init": "ordercomp.studies.cli.commands.init",
    "check": "ordercomp.studies.cli.commands.check",
    "discover": "ordercomp.cli.run",
    "plan": "ordercomp.studies.cli.commands.plan",
    "cost": "ordercomp.studies.cli.commands.cost",
    "law": "ordercomp.cli.inspect",
    "report": "ordercomp.studies.cli.commands.report",
    "compress": "ordercomp.studies.cli.commands.compress",
    "export": "ordercomp.cli.ship",
    "bench": "ordercomp.studies.cli.commands.bench",
    "search": "ordercomp.studies.cli.commands.search",
    "study": "ordercomp.studies.cli.commands.study",
    "store": "ordercomp.studies.cli.commands.store",
    "rerun": "ordercomp.studies.cli.commands.rerun",
}
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": ("ordercomp init mine",),
    "check": ("ordercomp check task.toml",),
    "discover": (
        "ordercomp discover --out out/digits",
        "ordercomp discover --task mine.toml --out out/mine --budget 30m --workers 4",
    ),
    "plan": ("ordercomp plan --task mine.toml --workers 4",),
    "cost": ('ordercomp cost resnet34 "P(ratio=0.4) Q(weights=1,activations=8)"',),
    "law": (
        "ordercomp law out/digits/records.jsonl --json",
        "ordercomp law --storage out/digits/study.db",
    ),
    "report": ("ordercomp report out/digits",),
    "compress": (
        "ordercomp compress DPQE --task digits --loss 2% --out small.safetensors",
        'ordercomp compress "P(ratio=0.4) Q(weights=4,activations=8)" --store out/digits/store',
    ),
    "export": (
        "ordercomp export small.safetensors --onnx small.onnx",
        "ordercomp export small.safetensors --packed small.packed",
    ),
    "bench": ("ordercomp bench small.safetensors", "ordercomp bench small.safetensors --shares 0.7,0.2,0.1"),
    "search": (
        "ordercomp search --out out/search --trials 50",
        "ordercomp search --task mine.toml --out out/search --budget 30m --max-loss 0.02",
    ),
    "study": ("ordercomp study exhaustive --out out/studies --budget 10m",),
    "store": (
        "ordercomp store ls out/digits",
        "ordercomp store verify out/digits",
        "ordercomp store gc out/digits --cap 500MiB",
    ),
    "rerun": (
        "ordercomp rerun out/digits --line 12",
        'ordercomp rerun out/digits --sequence "D(depth=0.5) P(ratio=0.4)" --seed 1',
    ),
}
LIGHT = frozenset(  # imported to read what a command takes
    {"typing", "pathlib", "collections.abc", "typer", "ordercomp.jobs.defaults"}
)
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of any option; typer gives it no name
NO_ARGUMENTS = "NoArgsIsHelp"  # in the name of the error that holds the help


class _LazyGroup(TyperGroup):
    """A group whose commands are functions called `command` in modules of their own.

    The help of the group names all of them and loads none.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command with its summary alone; `resolve_command` gives the one that runs."""
        return TyperCommand(cmd_name, help=_summary(COMMANDS[cmd_name])) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        shows = ctx.resilient_parsing or "--help" in rest  # the shell completes, or somebody reads
        return name, command if name is None else _load(name, runs=not shows), rest


def _load(name: str, *, runs: bool) -> Any:
    """The command, which does nothing unless it `runs`: what it takes is then read without its imports."""
    function = None if runs else _signature(COMMANDS[name])
    app = typer.Typer(add_completion=False)
    examples = escape("\n\n".join(("Examples:", *EXAMPLES[name]))) if name in EXAMPLES else None
    app.command(name, epilog=examples)(function or importlib.import_module(COMMANDS[name]).command)
    return typer.main.get_command(app)


def _signature(module: str) -> Any:
    """A module's `command` without its body; None if its options need more than light modules to be read."""
    tree = _parse(module)
    kept: list[ast.stmt] = [
        one for one in tree.body if isinstance(one, ast.ImportFrom | ast.Import) and _modules(one) <= LIGHT
    ]
    function = _command(tree)
    function.body = function.body[:1]
    names: dict[str, Any] = {}
    try:
        exec(compile(ast.Module([*kept, function], []), module, "exec"), names)
    except NameError:
        return None
    return names["command"]


def _modules(one: ast.ImportFrom | ast.Import) -> set[str | None]:
    return {one.module} if isinstance(one, ast.ImportFrom) else {alias.name for alias in one.names}


def _summary(module: str) -> str:
    """The first line of what a module's `command` says it does, read without importing it."""
    return (ast.get_docstring(_command(_parse(module))) or "").partition("\n")[0]


def _parse(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _command(tree: ast.Module) -> ast.FunctionDef:
    return next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "command")


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, epilog=f"Start with: {EXAMPLES['discover'][0]}")


@app.callback()
def _describe() -> None:
    """Measure in which order a CNN should be distilled, pruned, quantized and given early exits."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted with partial results."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with redirect_stdout(_Aside(sys.stdout)) if "--json" in given else nullcontext():
            status = app(args=given, standalone_mode=False)
    except USAGE_ERROR as error:
        message = error.format_message()  # type: ignore[attr-defined]
        print(message if NO_ARGUMENTS in type(error).__name__ else f"ordercomp: {message}", file=sys.stderr)
        status = BAD_INPUT
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        failed = _is_failure(error)
        if not failed and isinstance(error, RuntimeError):
            raise
        print(f"ordercomp: {str(error) or type(error).__name__}", file=sys.stderr)
        status = FAILED if failed else BAD_INPUT
    if status == INTERRUPTED:
        print("ordercomp: interrupted", file=sys.stderr)
    sys.exit(status or 0)


class _Aside(io.TextIOBase):
    """Stands for stdout where `--json` is asked for: what a model prints goes to stderr."""

    def __init__(self, results: TextIO) -> None:
        self.results = results  # where `print_json` writes

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _is_failure(error: BaseException) -> bool:
    """Whether the input was right and the run failed all the same."""
    return isinstance(error, FailedRunError) or is_out_of_memory(error) or is_out_of_disk(error)


if __name__ == "__main__":
    main()
