"""The answer and the law of a law.json, and the outcome of a search, as lines for a terminal."""

import itertools
from collections.abc import Iterator, Sequence

from rich.text import Text

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.convergence import Control
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.report.result_files import BestPoint, LawFile, SearchFile
from ordercomp.analysis.report.search_words import (
    front_table,
    importance_table,
    law_sentence,
    order_table,
    progress_table,
    search_headline,
)
from ordercomp.analysis.report.tables import loss_text, pair_table, times_text
from ordercomp.analysis.report.text import (
    answer_words,
    baseline_words,
    is_near_guessing,
    named_stages,
    network_words,
    other_network,
    read_verdict,
    training_caveat,
    where_costs_differ,
    where_it_changes,
)
from ordercomp.sequence import Order

ADAPTIVE_LABEL = "Adaptive evidence: a sampler chose these networks, which biases the comparison."
MOST_ORDERS = 10


def answer_lines(
    answer: Answer, stages: Order, networks: Sequence[Pick] = (), controls: Sequence[Control] = ()
) -> Iterator[Text]:
    """The answer: order, in bold, cost, what is out, what holds anyway, network and command."""
    headline, *lines = answer_words(answer, stages).lines
    yield Text(headline, "bold")
    baseline, near_guessing = baseline_words(answer), is_near_guessing(answer)
    if near_guessing:
        lines.insert(0, baseline)
    if answer.recommended is not None:
        picks = [pick for pick in networks if pick.loss == answer.asked.loss]
        lines += [training_caveat(controls), named_stages(stages)]
        for pick in picks[:1]:
            words = network_words(pick, metric=answer.metric, cost=answer.cost)
            lines += [f"The network: {words}", f"Make it: {pick.command}"]
        lines += [other_network(picks, cost=answer.cost)]
    lines += ["" if near_guessing else baseline, where_it_changes(answer.by_loss), where_costs_differ(answer)]
    yield from (Text(line) for line in lines if line)


def law_lines(file: LawFile) -> Iterator[Text]:
    """The answer, then the verdict on the pairs at the same loss and the check against all orders.

    What rests on networks that a sampler chose is labelled so; beside a paired law it comes last.
    """
    law = file.law
    if law.evidence == "adaptive":
        yield Text(ADAPTIVE_LABEL)
    if file.answer is not None:
        yield from answer_lines(file.answer, law.stages, file.networks or (), law.convergence)
        yield Text()
    verdict = read_verdict(law)
    yield Text(verdict.headline)
    if verdict.detail:
        yield Text(verdict.detail)
    yield Text()
    yield Text(pair_table(law.pairs).about(file.metric).to_text())
    if law.verification is not None:
        yield Text()
        yield Text(law.verification.sentence)
    if file.adaptive is not None:
        yield Text()
        yield from law_lines(LawFile(law=file.adaptive, metric=file.metric))


def search_lines(search: SearchFile) -> Iterator[Text]:
    """The outcome of a search: its headline in bold, the best network at each loss, and tables."""
    yield Text(search_headline(search), "bold")
    yield Text(f"{search.networks} networks measured; their front is worth {search.value:.2f} doublings.")
    for best, within in itertools.groupby(search.best, key=search.best.__getitem__):
        losses = ", ".join(loss_text(float(tolerance)) for tolerance in within)
        yield Text(f"\nloss up to {losses}: {'none' if best is None else _network_text(best)}")
    tables = [front_table(search), order_table(search, most=MOST_ORDERS), importance_table(search)]
    for table in (*tables, progress_table(search)):
        if table.rows:
            yield Text(f"\n{table.to_text()}")
    if sentence := law_sentence(search):
        yield Text(f"\n{sentence}")


def _network_text(best: BestPoint) -> str:
    point = best.point
    numbers = [
        f"{times_text(point.bitops_cr)} fewer bit operations",
        f"{times_text(point.cr)} less storage",
        *([] if point.latency_ms is None else [f"{point.latency_ms:.3g} ms"]),
        f"test {point.metric} {point.test_accuracy:.4f}",
    ]
    return f"{', '.join(numbers)}\n  {best.compress}"
