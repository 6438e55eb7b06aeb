"""The law as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ordercomp.analysis.tables import pair_table
from ordercomp.analysis.verdict import read_verdict

__all__ = ["print_law"]


def print_law(law: Mapping[str, Any]) -> None:
    """Print the verdict, the pairs and the check against all orders on stdout."""
    console = Console()
    verdict = read_verdict(law)
    console.print(verdict.headline, style="bold", markup=False, highlight=False)
    console.print(verdict.detail, markup=False, highlight=False)
    console.print()
    console.print(pair_table(law).to_text(), markup=False, highlight=False, soft_wrap=True)
    if law["verification"] is not None:
        console.print()
        console.print(law["verification"]["sentence"], markup=False, highlight=False)
