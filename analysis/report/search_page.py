"""Assembly of the page of a search: the networks to take first, then how they were found."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.report.elements import Fact, Picture, inline, notices_of, provenance_of, render
from ordercomp.analysis.report.plots import progress_plot, search_plot, to_svg
from ordercomp.analysis.report.result_files import SearchFile
from ordercomp.analysis.report.search_words import (
    front_table,
    importance_table,
    law_sentence,
    network_table,
    order_table,
    progress_table,
    search_headline,
)
from ordercomp.analysis.report.tables import duration_text, loss_text
from ordercomp.codec import encode
from ordercomp.files import replace_file
from ordercomp.records import Record, metric_of
from ordercomp.sequence import Order

MOST_ORDERS = 25
MOST_LOSS = 0.06  # of accuracy, beyond which nothing is drawn if there is something within


def write_search_report(path: Path | str, search: SearchFile, records: Iterable[Record]) -> None:
    """Write one self-contained HTML page about `search`, the content of a search.json, and its records.

    The records are drawn as they are: leave out the operating points that break a constraint. The same input
    gives the same bytes. The file is replaced at once. Raises OSError if it cannot be written, ValueError if
    records lack the cost convention of the search.
    """
    replace_file(Path(path), render("search_page.html.j2", _content(search, list(records))))


def _content(search: SearchFile, records: Sequence[Record]) -> dict[str, object]:
    metric = metric_of(records)
    return {
        "search": search,
        "headline": search_headline(search),
        "asked": _asked(search).replace("accuracy", metric),
        "facts": _facts(search),
        "law": law_sentence(search),
        "pictures": _pictures(search, records),
        "network_table": network_table(search).about(metric),
        "front_table": front_table(search).about(metric),
        "progress_table": progress_table(search),
        "order_table": order_table(search, most=MOST_ORDERS),
        "importance_table": importance_table(search),
        "notes": notices_of(records),
        "provenance": _provenance(search, records),
    }


def _asked(search: SearchFile) -> str:
    """The question in a sentence."""
    objectives = search.objectives
    asked = f"Searched for {' and '.join(objectives.names)}"
    limits = []
    if objectives.max_loss is not None:
        limits.append(f"a loss of at most {loss_text(objectives.max_loss)}")
    if objectives.max_bytes is not None:
        limits.append(f"at most {objectives.max_bytes:g} bytes")
    return f"{asked}{' within ' + ' and '.join(limits) if limits else ''}, on validation data."


def _facts(search: SearchFile) -> list[Fact]:
    facts = [
        Fact(str(search.networks), "networks measured"),
        Fact(str(len(search.front)), "operating points on the front"),
        Fact(f"{search.value:.2f}", "value of the front, in doublings"),
    ]
    if search.progress:
        last = search.progress[-1]
        facts.append(Fact(str(last.trainings), f"stage trainings, {duration_text(last.seconds)}"))
    return facts


def _pictures(search: SearchFile, records: Sequence[Record]) -> dict[str, Picture]:
    """Draw what there are data for; the progress only where its value is that of bit operations."""
    if not any(record.points for record in records):
        return {}
    metric = metric_of(records)
    scale = Scale(split="validation", convention=search.objectives.convention)
    pictures = {
        "fronts": inline(
            to_svg(search_plot(records, highlights=_highlights(search), scale=scale, most_loss=MOST_LOSS)),
            f"{metric[0].upper()}{metric[1:]} against reduction of bit operations. Orange: the front of the "
            "whole search; grey: the fronts of the other orders. Up and to the right is better. What loses "
            f"more than {loss_text(MOST_LOSS)} is left out.",
        )
    }
    if search.cost != "log2_cr":
        pictures["progress"] = inline(
            to_svg(progress_plot(records, scale=scale)),
            "Value of the best networks pictures, network by network.",
        )
    return pictures


def _highlights(search: SearchFile) -> dict[Order, str]:
    """The law's order, and the best among those with the most stages."""
    roles = {search.law.order: search.law.role} if search.law else {}
    if winner := search.winner:
        best = f"best, of {len(winner)} stages"
        roles[winner] = f"{roles[winner]}, {best}" if winner in roles else best
    return roles


def _provenance(search: SearchFile, records: Sequence[Record]) -> list[tuple[str, str]]:
    trials = ", ".join(f"{count} {state}" for state, count in encode(search.trials).items() if count)
    return [
        ("task", search.task),
        ("study", search.study),
        ("trials", trials),
        ("seeds", ", ".join(map(str, sorted({record.seed for record in records})))),
        *provenance_of(records),
    ]
