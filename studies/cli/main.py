"""The program `ordercomp`. Commands load when called, so that those that need no torch start at once."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ordercomp.failures import FailedRunError, is_out_of_disk, is_out_of_memory

__all__ = ["main"]

COMMANDS: Mapping[str, str] = {
    "discover": "ordercomp.studies.cli.commands.discover",
    "plan": "ordercomp.studies.cli.commands.plan",
    "cost": "ordercomp.studies.cli.commands.cost",
    "law": "ordercomp.studies.cli.commands.law",
    "report": "ordercomp.studies.cli.commands.report",
    "compress": "ordercomp.studies.cli.commands.compress",
    "export": "ordercomp.studies.cli.commands.export",
    "bench": "ordercomp.studies.cli.commands.bench",
    "search": "ordercomp.studies.cli.commands.search",
    "study": "ordercomp.studies.cli.commands.study",
}
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
        return name, command if name is None else _load(name), rest


def _load(name: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name)(importlib.import_module(COMMANDS[name]).command)
    return typer.main.get_command(app)


def _summary(module: str) -> str:
    """The first line of what a module's `command` says it does, read without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "command"]
    return (ast.get_docstring(functions[0]) or "").partition("\n")[0]


app = typer.Typer(cls=_LazyGroup, add_completion=False, no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Measure in which order a CNN should be distilled, pruned, quantized and given early exits."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted with partial results."""
    try:
        status = app(args=None if arguments is None else list(arguments), standalone_mode=False)
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


def _is_failure(error: BaseException) -> bool:
    """Whether the input was right and the run failed all the same."""
    return isinstance(error, FailedRunError) or is_out_of_memory(error) or is_out_of_disk(error)


if __name__ == "__main__":
    main()
