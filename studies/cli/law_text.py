"""The answer and the law as text for a terminal."""

from collections.abc import Sequence

from rich.console import Console

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
from ordercomp.sequence import Order

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
