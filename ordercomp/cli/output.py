"""What commands share: reading options, and printing results on stdout and progress on stderr."""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.pairs import Control
from ordercomp.analysis.report.result_files import AdaptiveFile, LawFile
from ordercomp.analysis.report.tables import pair_table
from ordercomp.analysis.report.text import (
    ANOTHER_QUESTION,
    answer_words,
    named_stages,
    network_words,
    other_network,
    read_verdict,
    training_caveat,
    where_it_changes,
)
from ordercomp.codec import format_json
from ordercomp.records import Convention
from ordercomp.sequence import Order

console = Console(stderr=True)  # progress and logs; stdout is for results


_MOST_PIXELS = 10_000_000


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_convention(text: str) -> Convention:
    """One of the names of cost conventions. Raises ValueError."""
    for known in get_args(Convention):
        if text == known:
            return cast("Convention", known)
    raise ValueError(f"--convention must be one of {', '.join(get_args(Convention))}, got {text!r}")


def parse_duration(text: str) -> float | None:
    """Seconds in `90s`, `8m`, `1.5h`; None for `none`. Raises ValueError."""
    if text == "none":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"--budget must be a time such as 90s, 8m or 1.5h, or none, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def parse_loss(text: str) -> float:
    """A fraction in `2%` or `0.02`. Raises ValueError outside of 0 to 100 %."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    loss = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= loss <= 1:
        raise ValueError(
            f"--loss must be a share of the images in (0, 100 %], such as 2% or 0.02, got {text!r}"
        )
    return loss


def parse_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width in `3x32x32`. Raises ValueError."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if not 0 < channels * height * width <= _MOST_PIXELS:
        raise ValueError(
            f"--input must be channels x height x width such as 3x32x32, ten million at most, got {text!r}"
        )
    return channels, height, width


def print_json(data: Any) -> None:
    """One JSON document on stdout, also where stdout is kept clear of what models print."""
    results = getattr(sys.stdout, "results", sys.stdout)
    results.write(format_json(data, indent=2))


def next_steps(network: Path) -> list[tuple[str, Sequence[object]]]:
    """What can be done with a network file, with the command for it, and with the extra that it may lack."""
    needs = "" if find_spec("onnx") else " (pip install 'ordercomp[export]')"
    return [
        (f"use it{needs}", ("ordercomp", "export", network, "--onnx", network.with_suffix(".onnx"))),
        ("how fast it is here", ("ordercomp", "bench", network)),
    ]


def print_next(steps: Iterable[tuple[str, Sequence[object]]]) -> None:
    """Say on stderr what to do next: a purpose, and the words of the command, on a line to be copied."""
    for purpose, words in steps:
        console.print(f"{purpose}:", markup=False, highlight=False)
        line = f"  {shlex.join(map(str, words))}"
        console.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)


def number_text(value: float) -> str:
    """Shares with four decimals, other fractions with two, whole numbers with commas."""
    if not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"


def print_pairs(title: str, values: Mapping[str, float]) -> None:
    """Names and numbers as a small table on stdout."""
    table = Table(title=Text(title), show_header=False)
    for name, value in values.items():
        table.add_row(name, number_text(value))
    Console().print(table)


# The answer and the law as text for a terminal.


ADAPTIVE_LABEL = "Adaptive evidence: a sampler chose these networks, which biases the comparison."


def print_answer(
    answer: Answer, stages: Order, networks: Sequence[Pick] = (), controls: Sequence[Control] = ()
) -> None:
    """Print the answer on stdout: order, cost, what is out, what holds anyway, network and command."""
    console = Console()
    headline, *rest = answer_words(answer, stages).lines
    console.print(headline, style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in rest:
        _print(console, line)
    if answer.recommended is not None:
        _print(console, training_caveat(controls))
        _print(console, named_stages(stages))
        picks = [one for one in networks if one.loss == answer.asked.loss]
        for pick in picks[:1]:
            _print(console, f"The network: {network_words(pick, metric=answer.metric)}")
            _print(console, f"Make it: {pick.command}")
        _print(console, other_network(picks))
    if changes := where_it_changes(answer.by_loss):
        _print(console, changes)


def print_law(file: LawFile | AdaptiveFile) -> None:
    """Print the answer, then the verdict on the pairs and the check against all orders, on stdout.

    What rests on networks that a sampler chose is labelled so; beside a paired law it comes last.
    """
    console, law = Console(), file.law
    if isinstance(file, AdaptiveFile):
        _print(console, ADAPTIVE_LABEL)
    if file.answer is not None:
        controls = file.law.convergence if isinstance(file, LawFile) else ()
        print_answer(file.answer, law.stages, file.networks or (), controls)
        console.print()
    verdict = read_verdict(law)
    _print(console, f"{ANOTHER_QUESTION} {verdict.headline}")
    _print(console, verdict.detail)
    if file.answer is not None and file.answer.recommended is not None:
        _print(console, sorts_text(file.answer, law.orders))
    console.print()
    _print(console, pair_table(law.pairs).about(file.metric).to_text())
    if law.verification is not None:
        console.print()
        _print(console, f"On that scale, order by order: {law.verification.sentence}")
    if file.adaptive is not None:
        console.print()
        print_law(AdaptiveFile(law=file.adaptive, metric=file.metric))


def sorts_text(answer: Answer, orders: Sequence[Order]) -> str:
    """Say whether the orders that satisfy the decided pairs are among those that may be the best."""
    sorts = answer.topological_sorts
    if sorts is None or sorts.number == 0:
        return "A cycle of pairs has no topological sort to be compared with the orders that may be the best."
    if sorts.number == 1:
        verb = "is among" if sorts.in_best_set else "is not among"
        return f"Its topological sort {orders[0]} {verb} the orders that may be the best."
    return f"Of its {sorts.number} topological sorts {sorts.in_best_set or 'none'} may be the best order."


def _print(console: Console, text: str) -> None:
    if text:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
