"""The program `ordercomp`. Commands load when called, so that those that need no torch start at once."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["main"]

COMMANDS: Mapping[str, str] = {
    "discover": "ordercomp.studies.cli.commands.discover",
    "plan": "ordercomp.studies.cli.commands.plan",
    "cost": "ordercomp.studies.cli.commands.cost",
    "law": "ordercomp.studies.cli.commands.law",
    "compress": "ordercomp.studies.cli.commands.compress",
    "export": "ordercomp.studies.cli.commands.export",
    "bench": "ordercomp.studies.cli.commands.bench",
    "search": "ordercomp.studies.cli.commands.search",
    "study": "ordercomp.studies.cli.commands.study",
}
BAD_INPUT, INTERRUPTED = 2, 130
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of any option; typer gives it no name
NO_ARGUMENTS = "NoArgsIsHelp"  # in the name of the error that holds the help


class _LazyGroup(TyperGroup):
    """A group whose commands are functions called `command` in modules of their own."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False)
        app.command(cmd_name)(importlib.import_module(COMMANDS[cmd_name]).command)
        return typer.main.get_command(app)


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
    except (ValueError, OSError) as error:
        print(f"ordercomp: {error}", file=sys.stderr)
        status = BAD_INPUT
    if status == INTERRUPTED:
        print("ordercomp: interrupted", file=sys.stderr)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
