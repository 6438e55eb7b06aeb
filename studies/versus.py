"""Experiment: how do the methods of Table 3 that our stages express fare on one task, beside the law?"""

from collections.abc import Sequence
from dataclasses import replace

from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence, Step
from ordercomp.stages.catalog import complete, known_stages
from ordercomp.studies.claims import Claim, judge_claims, latest, measured_table, short_name
from ordercomp.studies.experiment import (
    Experiment,
    Judgement,
    Part,
    one_part,
    restrict,
    share_epochs,
    totaled,
)
from ordercomp.studies.facts import (
    BASELINE_BITS,
    LAW,
    TABLE_3,
    TABLE_3_NOTE,
    TABLE_3_OWN,
    CitedMethod,
    Compressed,
)
from ordercomp.studies.preset import Preset

TAUGHT = "j"  # the method whose quantized student goes on learning from the teacher


def parts(task: Task, preset: Preset) -> list[Part]:
    """The law and the nearest order of every method, at as many epochs in all."""
    prepared = preset.prepare(task)
    law = restrict(LAW, task.stages)
    wanted = share_epochs(prepared, preset, [law])
    for method in _expressible(task):
        assert method.order is not None
        wanted += [_with_knobs(one, method) for one in share_epochs(prepared, preset, [method.order])]
        if method.key == TAUGHT:
            wanted += [_taught(one) for one in share_epochs(prepared, preset, [method.order])]
    return [one_part(totaled(prepared), preset, list(dict.fromkeys(wanted)), controlled=False)]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge whether the law does better than each method on this task, under equal epochs."""
    found = [record for record in latest(records) if record.order]
    law = "".join(letter for letter in LAW if any(letter in record.order for record in found))
    ours = _longest([record for record in found if record.order == law])
    claims = []
    for text, names in _methods(found).items():
        some = [record for record in found if record.sequence == text]
        claims.append(
            Claim(
                text=f"{law} does better than {', '.join(names)} as {short_name(text)}",
                first=ours,
                second=some,
            )
        )
    groups = [ours, *(list(claim.second) for claim in claims)]
    return Judgement(
        findings=tuple(judge_claims(claims)),
        tables=(measured_table("On this task, equal epochs in all", groups), _cited_table()),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """One panel with the law and every method."""
    found = [record for record in latest(records) if record.order]
    law = "".join(letter for letter in LAW if any(letter in record.order for record in found))
    series = {law: _longest([record for record in found if record.order == law])}
    for text, names in _methods(found).items():
        some = [record for record in found if record.sequence == text]
        series[f"{short_name(text)} ({', '.join(names)})"] = some
    return {"fronts": to_svg(panels_plot([Panel(title="Cited methods as our sequences", series=series)]))}


def _expressible(task: Task) -> list[CitedMethod]:
    return [one for one in TABLE_3 if one.order is not None and set(one.order) <= set(task.stages)]


def _with_knobs(sequence: StageSequence, method: CitedMethod) -> StageSequence:
    """The sequence at the knobs that the method is known for."""
    steps = [
        Step.of(step.stage, {**step.settings, **method.knobs.get(step.stage, {})}) for step in sequence.steps
    ]
    return complete(StageSequence(tuple(steps)))


def _shows(record: Record, method: CitedMethod) -> bool:
    """Whether a record has the order and the knobs of a method."""
    if record.order != method.order:
        return False
    sequence = StageSequence.parse(record.sequence)
    return sequence == _with_knobs(sequence, method)


def _taught(sequence: StageSequence) -> StageSequence:
    """The sequence whose Q learns from the baseline."""
    if "teacher" not in known_stages()["Q"].knobs:
        return sequence
    steps = [
        replace(step, knobs=(*step.knobs, ("teacher", "baseline"))) if step.stage == "Q" else step
        for step in sequence.steps
    ]
    return complete(StageSequence(tuple(steps)))


def _methods(records: Sequence[Record]) -> dict[str, list[str]]:
    """Sequence texts of the methods with the names of the methods that they stand for."""
    found: dict[str, list[str]] = {}
    for method in TABLE_3:
        some = _longest([record for record in records if _shows(record, method)])
        taught = [record for record in some if "teacher=" in record.sequence]
        chosen = taught if method.key == TAUGHT and taught else [r for r in some if r not in taught]
        for text in dict.fromkeys(record.sequence for record in chosen):
            found.setdefault(text, []).append(method.name)
    return found


def _longest(records: Sequence[Record]) -> list[Record]:
    """Those with the most epochs: prefixes of others train shorter."""
    most = max((record.epochs for record in records), default=0.0)
    return [record for record in records if record.epochs == most]


def _cited_table() -> Table:
    names = (
        "",
        "method",
        "data",
        "model",
        "accuracy",
        "BitOpsCR",
        "CR",
        "against",
        "our sequence",
        "how near",
    )
    right = {"accuracy", "BitOpsCR", "CR"}
    return Table(
        title="The paper, Table 3: a row for each method with its own baseline, and the paper's own rows",
        columns=tuple(Column(name, "right" if name in right else "left") for name in names),
        rows=(*(_cited_row(method) for method in TABLE_3), *(_own_row(row) for row in TABLE_3_OWN)),
        note=TABLE_3_NOTE,
    )


def _cited_row(method: CitedMethod) -> tuple[str, ...]:
    return (
        method.key,
        method.name,
        method.data,
        method.model,
        f"{method.accuracy:.2f} ({method.change:+.2f})",
        "–" if method.bitops_cr is None else f"{method.bitops_cr:g}×",
        "–" if method.cr is None else f"{method.cr:g}×",
        f"the same model at {method.baseline_bits} bits",
        method.order or "none",
        f"{method.fidelity}; {method.note}" if method.note else method.fidelity,
    )


def _own_row(row: Compressed) -> tuple[str, ...]:
    return (
        "",
        "DPQE, the paper's own",
        row.data,
        row.model,
        f"{row.accuracy:.2f} ({row.change:+.2f})",
        f"{row.bitops_cr:g}×",
        f"{row.cr:g}×",
        f"the same model at {BASELINE_BITS} bits",
        LAW,
        "exact",
    )


EXPERIMENT = Experiment(
    name="versus",
    section="section 7, Table 3",
    question="how do other combined methods fare on this task?",
    parts=parts,
    judge=judge,
    figures=figures,
)
