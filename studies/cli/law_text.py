"""The law as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ordercomp.analysis.showing.tables import pair_table
from ordercomp.analysis.showing.words import read_verdict

__all__ = ["ADAPTIVE_LABEL", "print_law"]

ADAPTIVE_LABEL = "Adaptive evidence: a sampler chose these networks, which biases the comparison."


def print_law(law: Mapping[str, Any]) -> None:
    """Print the verdict, the pairs and the check against all orders on stdout.

    What rests on networks that a sampler chose is labelled so; beside a paired law it comes last.
    """
    console = Console()
    if law.get("evidence") == "adaptive":
        _print(console, ADAPTIVE_LABEL)
    verdict = read_verdict(law)
    console.print(verdict.headline, style="bold", markup=False, highlight=False)
    _print(console, verdict.detail)
    console.print()
    console.print(pair_table(law).to_text(), markup=False, highlight=False, soft_wrap=True)
    if law["verification"] is not None:
        console.print()
        _print(console, law["verification"]["sentence"])
    if law.get("adaptive") is not None:
        console.print()
        print_law(law["adaptive"])


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)
