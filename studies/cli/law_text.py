"""The answer and the law as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ordercomp.analysis.answer.answer import Answer
from ordercomp.analysis.showing.answer_words import answer_words, where_it_changes
from ordercomp.analysis.showing.tables import pair_table
from ordercomp.analysis.showing.words import read_verdict
from ordercomp.codec import decode

__all__ = ["ADAPTIVE_LABEL", "print_answer", "print_law", "sorts_text"]

ADAPTIVE_LABEL = "Adaptive evidence: a sampler chose these networks, which biases the comparison."


def print_answer(law: Mapping[str, Any]) -> None:
    """Print the answer on stdout: the order, its cost, what is out, what holds anyway, and the command."""
    console, answer = Console(), decode(law["answer"], Answer, "answer", strict=False)
    headline, *rest = answer_words(answer, law["stages"]).lines
    console.print(headline, style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in rest:
        _print(console, line)
    network = next((one for one in law.get("networks", ()) if one["loss"] == answer.asked.loss), None)
    if network is not None and network["order"] == answer.recommended:
        _print(console, f"The network: {network['command']}")
    if changes := where_it_changes(answer.by_loss):
        _print(console, changes)


def print_law(law: Mapping[str, Any]) -> None:
    """Print the answer, then the verdict on the pairs and the check against all orders, on stdout.

    What rests on networks that a sampler chose is labelled so; beside a paired law it comes last.
    """
    console = Console()
    if law.get("evidence") == "adaptive":
        _print(console, ADAPTIVE_LABEL)
    if "answer" in law:
        print_answer(law)
        console.print()
    verdict = read_verdict(law)
    console.print(f"By pairs of stages. {verdict.headline}", markup=False, highlight=False, soft_wrap=True)
    _print(console, verdict.detail)
    if "answer" in law and law["answer"]["recommended"] is not None:
        _print(console, sorts_text(law))
    console.print()
    console.print(
        pair_table(law).about(law.get("metric", "accuracy")).to_text(),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if law["verification"] is not None:
        console.print()
        _print(console, law["verification"]["sentence"])
    if law.get("adaptive") is not None:
        console.print()
        print_law(law["adaptive"])


def sorts_text(law: Mapping[str, Any]) -> str:
    """Say whether the orders that satisfy the decided pairs are among those that may be the best."""
    sorts = law["answer"]["topological_sorts"]
    number, inside = sorts["number"], sorts["in_best_set"]
    if number == 0:
        return "A cycle of pairs has no topological sort to be compared with the orders that may be the best."
    if number == 1:
        verb = "is among" if inside else "is not among"
        return f"Its topological sort {law['orders'][0]} {verb} the orders that may be the best."
    return f"Of its {number} topological sorts {inside or 'none'} may be the best order."


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
