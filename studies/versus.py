"""Experiment: how do the methods of Table 3, as sequences of stages, fare on one task, beside the law?"""

from collections.abc import Mapping, Sequence
from itertools import product

from ordercomp.analysis.fronts import group_by_seed
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.records import Record
from ordercomp.sequence import StageSequence
from ordercomp.studies.claims import (
    TOLERATED,
    Claim,
    decide_claims,
    law_of,
    longest,
    measured_row,
    measured_table,
    short_name,
)
from ordercomp.studies.experiment import (
    Conclusion,
    Design,
    Experiment,
    Workload,
    by_order,
    by_sequence,
    with_knobs,
)
from ordercomp.studies.facts import LAW, PAPER, CitedMethod, LawResult


def _plan(design: Design) -> list[Workload]:
    """The law and the nearest sequences of every method, at as many epochs in all."""
    wanted = design.share_epochs([design.law])
    for method in PAPER.table_3.methods:
        if set(method.order) & set(LAW) <= set(design.task.stages):
            wanted += _sequences(design, method)
    return [design.part(wanted, controlled=False, total=True)]


def _sequences(design: Design, method: CitedMethod) -> list[StageSequence]:
    """The order of a method at its knobs, and at each point of the grid that stands for its search."""
    (plain,) = design.share_epochs([method.order])
    choices = [
        (stage, knob, values) for stage, knobs in method.grid.items() for knob, values in knobs.items()
    ]
    sequences = []
    for point in product(*(values for *_, values in choices)):
        sequence = with_knobs(plain, method.knobs)
        for (stage, knob, _), value in zip(choices, point, strict=True):
            sequence = with_knobs(sequence, {stage: {knob: value}})
        sequences.append(sequence)
    return sequences


def _decide(records: Sequence[Record]) -> Conclusion:
    """Whether the law does better than each method on this task, under equal epochs."""
    law, ours = _law(records)
    runs = _runs(records)
    claims = [
        Claim(text=f"{law} does better than {', '.join(names)} as {_short(own)}", first=ours, second=own)
        for names, own in _together(runs)
    ]
    groups = [ours, *(group for _, own in _together(runs) for group in by_sequence(own).values())]
    return Conclusion(
        findings=tuple(decide_claims(claims)),
        tables=(
            _methods_table(law, ours, runs),
            _cited_table(),
            measured_table("The sequences, equal epochs in all", groups),
        ),
        notes=(
            "A grid stands for the search of a method: at each seed the network of the largest reduction "
            "that loses at most a point on validation images, else the most accurate one. Each of its "
            "networks has those epochs, so that a method that searches has more of them.",
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the law and every method."""
    law, ours = _law(records)
    methods = {f"{_short(own)} ({', '.join(names)})": own for names, own in _together(_runs(records))}
    panel = Panel(title="Cited methods as our sequences", series={law: ours, **methods})
    return {"fronts": to_svg(panels_plot([panel]))}


def _law(records: Sequence[Record]) -> tuple[str, list[Record]]:
    """The law on the stages at hand, and its records."""
    law = law_of(records)
    return law, longest(by_order(records).get(law, []))


def _runs(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """By the letter of a method its measured network at each seed, those that were not run left out."""
    runs = {}
    for method in PAPER.table_3.methods:
        own = longest([record for record in records if record.points and _is_of(record, method)])
        if own:
            runs[method.key] = [max(same_seed, key=_worth) for same_seed in group_by_seed(own).values()]
    return runs


def _is_of(record: Record, method: CitedMethod) -> bool:
    """Whether a record has the order and the knobs of a method."""
    if record.order != method.order:
        return False
    sequence = StageSequence.parse(record.sequence)
    return sequence == with_knobs(sequence, method.knobs)


def _worth(record: Record) -> tuple[bool, float]:
    """What the search of a method goes by, on validation images and without early leaving."""
    end = record.points[0]
    keeps = end.accuracy >= record.baseline.accuracy - TOLERATED - 1e-12
    return keeps, end.bitops_cr if keeps else end.accuracy


def _together(runs: Mapping[str, list[Record]]) -> list[tuple[list[str], list[Record]]]:
    """Names of the methods that the same records stand for, with these."""
    groups: list[tuple[list[str], list[Record]]] = []
    for method in PAPER.table_3.methods:
        own = runs.get(method.key)
        if own is None:
            continue
        same = next((names for names, others in groups if others == own), None)
        if same is None:
            groups.append(([method.name], own))
        else:
            same.append(method.name)
    return groups


def _short(records: Sequence[Record]) -> str:
    return short_name(records[0].sequence)


def _methods_table(law: str, ours: Sequence[Record], runs: Mapping[str, Sequence[Record]]) -> Table:
    rows = [("", f"{law}, the law", "", *_measured(ours), "", "", "")] if ours else []
    for method in PAPER.table_3.methods:
        own = runs.get(method.key, ())
        measured = _measured(own) if own else (method.order, *["not run"] * 6)
        rows.append((method.key, method.name, method.kind, *measured, *_numbers(method)))
    return Table.of(
        "Every method of Table 3 on this task, equal epochs in all, and what the paper prints of it",
        (
            *("", "method", "is run as", "sequence", "test accuracy", "change", "BitOpsCR", "CR"),
            *("with exits", "seeds", "printed accuracy", "printed BitOpsCR", "printed CR"),
        ),
        rows,
        left=("", "method", "is run as", "sequence"),
        note="Means over seeds, of reductions geometric ones, without early leaving; with exits or gates: "
        "the BitOpsCR at the cheapest point that costs at most a point of validation accuracy.",
    )


def _measured(records: Sequence[Record]) -> tuple[str, ...]:
    _, *numbers, _epochs, seeds = measured_row(records)
    return _short(records), *numbers, seeds


def _cited_table() -> Table:
    table = PAPER.table_3
    return Table.of(
        "The paper, Table 3: a row for each method with its own baseline, and the paper's own rows",
        (
            *("", "method", "data", "model", "accuracy", "BitOpsCR", "CR"),
            *("against", "our sequence", "which is", "what is lost"),
        ),
        [*map(_cited_row, table.methods), *map(_own_row, table.own)],
        left=("", "method", "data", "model", "against", "our sequence", "which is", "what is lost"),
        note=table.note,
    )


def _cited_row(method: CitedMethod) -> tuple[str, ...]:
    return (
        *(method.key, method.name, method.data, method.model, *_numbers(method)),
        _against(method.baseline_bits),
        *(method.order, method.kind, "; ".join(filter(None, (method.lost, method.note)))),
    )


def _own_row(row: LawResult) -> tuple[str, ...]:
    own = ("", "DPQE, the paper's own", row.data, row.model)
    return *own, *_numbers(row), _against(PAPER.baseline_bits), LAW, "the method", "nothing"


def _numbers(row: CitedMethod | LawResult) -> tuple[str, ...]:
    return (
        f"{row.accuracy:.2f} ({row.change:+.2f})",
        *("–" if factor is None else f"{factor:g}×" for factor in (row.bitops_cr, row.cr)),
    )


def _against(bits: int) -> str:
    return f"the same model at {bits} bits"


EXPERIMENT = Experiment(
    name="versus",
    section="section 7, Table 3",
    question="how do other combined methods fare on this task?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
