"""What commands share: options, reading their values, results on stdout and the rest on stderr."""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ordercomp.codec import format_json, parse_share
from ordercomp.records import Convention

TaskOption = Annotated[str, typer.Option(help="a built-in task or a TOML file")]
TaskArgument = Annotated[str | None, typer.Argument(metavar="[TASK]", help="the same as --task")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="processes, one thread each; default one a core")
]
DaskOption = Annotated[str | None, typer.Option(help="address of a Dask scheduler to train on")]
StoreUrlOption = Annotated[
    str | None, typer.Option(help="address of results to share, e.g. s3://bucket/folder")
]
StagesOption = Annotated[str | None, typer.Option(help="letters to order, default the task's")]
ConventionOption = Annotated[str, typer.Option(help="paper, honest, apot or nonzero")]
NetworkArgument = Annotated[Path, typer.Argument(help="a file that compress, discover or search left")]
TrustOption = Annotated[
    list[str] | None,
    typer.Option("--trust-model", help="module:function that the file may call; several times for several"),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON on stdout")]
CostOption = Annotated[
    str | None,
    typer.Option(
        help="whose reduction counts: bitops, storage, macs or latency; default bitops or the task's"
    ),
]
OutcomeJsonFlag = Annotated[bool, typer.Option("--json", help="print the outcome as JSON on stdout")]

_SPACES = "\n\t\u00a0\u202f"
_MOST_PIXELS = 10_000_000
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class _Plain(Console):
    """A console on which no text can steer the terminal: it may come from a stranger's file."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def visible(text: str) -> str:
    """The text with what would steer a terminal, or cannot be seen, written as Python writes it: \\x1b."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _SPACES else repr(char)[1:-1] for char in text)


console = _Plain(stderr=True)  # progress, logs and errors; stdout is for results


def parse_convention(text: str) -> Convention:
    """One of the names of cost conventions. Raises ValueError."""
    if text in get_args(Convention):
        return cast("Convention", text)
    raise ValueError(f"--convention must be one of {', '.join(get_args(Convention))}, got {text!r}")


def parse_duration(text: str, option: str = "--budget") -> float | None:
    """Seconds in `90s`, `8m`, `1.5h`; None for `none`. Raises ValueError on behalf of the option."""
    if text == "none":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{option} must be a time such as 90s, 8m or 1.5h, or none, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def parse_loss(text: str, option: str = "--loss") -> float:
    """A fraction in `2%` or `0.02`. Raises ValueError, on behalf of the option, outside of 0 to 100 %."""
    return parse_share(text, option)


def parse_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width in `3x32x32`. Raises ValueError."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if not 0 < channels * height * width <= _MOST_PIXELS:
        raise ValueError(
            f"--input must be channels x height x width such as 3x32x32, ten million at most, got {text!r}"
        )
    return channels, height, width


def parse_size(text: str) -> int:
    """Bytes in `500MiB` or `2GiB`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]iB|B|)", text.strip())
    if match is None:
        raise ValueError(f"--cap must be a size such as 500MiB or 2GiB, got {text!r}")
    return round(float(match[1]) * _BYTES[match[2]])


def size_text(size: int) -> str:
    """Bytes as people say them: 3.2 MiB."""
    unit = next((name for name in ("TiB", "GiB", "MiB", "KiB") if size >= _BYTES[name]), "B")
    return f"{size} B" if unit == "B" else f"{size / _BYTES[unit]:.1f} {unit}"


def number_text(value: float) -> str:
    """Shares with four decimals, other fractions with two, whole numbers with commas."""
    if not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"


def print_json(data: Any) -> None:
    """One JSON document on stdout, also where stdout is kept clear of what models print."""
    results = getattr(sys.stdout, "results", sys.stdout)
    results.write(format_json(data, indent=2))


def print_lines(*lines: str | Text, stderr: bool = False) -> None:
    """Lines on stdout, or on stderr, each whole, so that it can be copied."""
    shown = _Plain(stderr=stderr)
    for line in lines:
        shown.print(line, soft_wrap=True)


def print_shown(renderable: RenderableType) -> None:
    """A table or a tree on stdout, as wide as the terminal."""
    _Plain().print(renderable)


def print_pairs(title: str, values: Mapping[str, float]) -> None:
    """Names and numbers as a small table on stdout."""
    table = Table(title=Text(title), show_header=False)
    for name, value in values.items():
        table.add_row(name, number_text(value))
    print_shown(table)


def next_steps(network: Path, model: str) -> list[tuple[str, Sequence[object]]]:
    """What can be done with the file of a network of that model, with the commands and what they may lack."""
    from ordercomp.plugins import is_function

    needs = "" if find_spec("onnx") else " (pip install 'ordercomp[export]')"
    trust = ("--trust-model", model.partition("(")[0]) if is_function(model) else ()
    return [
        (f"use it{needs}", ("ordercomp", "export", network, "--onnx", network.with_suffix(".onnx"), *trust)),
        ("how fast it is here", ("ordercomp", "bench", network, *trust)),
    ]


def print_next(steps: Iterable[tuple[str, Sequence[object]]]) -> None:
    """Say on stderr what to do next: a purpose, and the words of the command, on a line to be copied."""
    for purpose, words in steps:
        print_lines(f"{purpose}:", Text(f"  {shlex.join(map(str, words))}", "bold"), stderr=True)
