"""Experiment: how do the methods of Table 3 that our stages express fare on one task, beside the law?"""

from collections.abc import Mapping, Sequence

from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.records import Record
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import known_stages
from ordercomp.studies.claims import Claim, decide_claims, law_of, longest, measured_table, short_name
from ordercomp.studies.experiment import (
    Conclusion,
    Design,
    Experiment,
    Part,
    by_order,
    by_sequence,
    make_table,
    with_knobs,
)
from ordercomp.studies.facts import LAW, PAPER, CitedMethod, LawResult

TAUGHT = "j"  # the method whose quantized student goes on learning from the teacher


def _plan(design: Design) -> list[Part]:
    """The law and the nearest order of every method, at as many epochs in all."""
    wanted = design.share_epochs([design.law])
    for method in PAPER.table_3.methods:
        if method.order is None or not set(method.order) <= set(design.task.stages):
            continue
        nearest = design.share_epochs([method.order])
        wanted += [with_knobs(sequence, method.knobs) for sequence in nearest]
        if method.key == TAUGHT and "teacher" in known_stages()["Q"].knobs:
            wanted += [with_knobs(sequence, {"Q": {"teacher": "baseline"}}) for sequence in nearest]
    return [design.part(wanted, controlled=False, total=True)]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Whether the law does better than each method on this task, under equal epochs."""
    law, ours = _law(records)
    runs = by_sequence(records)
    claims = [
        Claim(
            text=f"{law} does better than {', '.join(names)} as {short_name(text)}",
            first=ours,
            second=runs[text],
        )
        for text, names in _methods(records).items()
    ]
    groups = [ours, *(claim.second for claim in claims)]
    return Conclusion(
        findings=tuple(decide_claims(claims)),
        tables=(measured_table("On this task, equal epochs in all", groups), _cited_table()),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the law and every method."""
    law, ours = _law(records)
    runs = by_sequence(records)
    methods = {
        f"{short_name(text)} ({', '.join(names)})": runs[text] for text, names in _methods(records).items()
    }
    panel = Panel(title="Cited methods as our sequences", series={law: ours, **methods})
    return {"fronts": to_svg(panels_plot([panel]))}


def _law(records: Sequence[Record]) -> tuple[str, list[Record]]:
    """The law on the stages at hand, and its records."""
    law = law_of(records)
    return law, longest(by_order(records).get(law, []))


def _methods(records: Sequence[Record]) -> Mapping[str, list[str]]:
    """Sequence texts of the methods with the names of the methods that they stand for."""
    names: dict[str, list[str]] = {}
    for method in PAPER.table_3.methods:
        own = longest([record for record in records if _shows(record, method)])
        taught = [record for record in own if "teacher=" in record.sequence]
        plain = [record for record in own if record not in taught]
        for text in by_sequence(taught if method.key == TAUGHT and taught else plain):
            names.setdefault(text, []).append(method.name)
    return names


def _shows(record: Record, method: CitedMethod) -> bool:
    """Whether a record has the order and the knobs of a method."""
    if record.order != method.order:
        return False
    sequence = StageSequence.parse(record.sequence)
    return sequence == with_knobs(sequence, method.knobs)


def _cited_table() -> Table:
    table = PAPER.table_3
    return make_table(
        "The paper, Table 3: a row for each method with its own baseline, and the paper's own rows",
        (
            *("", "method", "data", "model", "accuracy", "BitOpsCR", "CR"),
            *("against", "our sequence", "how near"),
        ),
        [*map(_cited_row, table.methods), *map(_own_row, table.own)],
        left=("", "method", "data", "model", "against", "our sequence", "how near"),
        note=table.note,
    )


def _cited_row(method: CitedMethod) -> tuple[str, ...]:
    return (
        *(method.key, method.name, method.data, method.model, *_numbers(method, method.baseline_bits)),
        method.order or "none",
        f"{method.fidelity}; {method.note}" if method.note else method.fidelity,
    )


def _own_row(row: LawResult) -> tuple[str, ...]:
    own = ("", "DPQE, the paper's own", row.data, row.model)
    return *own, *_numbers(row, PAPER.baseline_bits), LAW, "exact"


def _numbers(row: CitedMethod | LawResult, bits: int) -> tuple[str, ...]:
    return (
        f"{row.accuracy:.2f} ({row.change:+.2f})",
        *("–" if factor is None else f"{factor:g}×" for factor in (row.bitops_cr, row.cr)),
        f"the same model at {bits} bits",
    )


EXPERIMENT = Experiment(
    name="versus",
    section="section 7, Table 3",
    question="how do other combined methods fare on this task?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
