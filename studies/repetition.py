"""Experiment: is a stage worth applying twice? Twice against once but harder, and once more after the law."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ordercomp.analysis.checks import closest_harder
from ordercomp.analysis.report.plots import Path, paths_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import Order, StageSequence, Step
from ordercomp.stages.catalog import complete, known_stages
from ordercomp.studies.claims import Claim, Kind, judge_claims, latest, measured_table, short_name
from ordercomp.studies.experiment import Experiment, Judgement, Part, one_part, restrict, rungs, sequences
from ordercomp.studies.facts import LAW, REPETITIONS
from ordercomp.studies.preset import Preset

LEAST_CUT = 0.05  # doublings that a further stage must save to count as a repetition

# What the paper's words mean as a comparison of values.
TWICE: Mapping[str, Kind] = {"D": "alike", "P": "worse", "Q": "better"}
AFTER: Mapping[str, Kind] = {"D": "not worse", "P": "not worse", "Q": "not better"}


def parts(task: Task, preset: Preset) -> list[Part]:
    """XX and the ladder of X for every stage that may come twice; the law, and the law followed by each.

    XX applies the usual knobs twice, and X alone the square of what they leave, which is as hard; but Q goes
    from its most bits to the usual ones; after the law Q goes to its fewest bits.
    """
    prepared = preset.prepare(task)
    repeatable = [letter for letter in task.stages if known_stages()[letter].repeatable]
    law = sequences(prepared, preset, [restrict(LAW, task.stages)])
    wanted: list[StageSequence] = [*law]
    for letter in repeatable:
        usual = sequences(prepared, preset, [letter])[0].steps[0]
        ladder = [rung.steps[0] for rung in rungs(prepared, preset, letter)]
        first = max(ladder, key=_bits) if letter == "Q" else usual
        last = min(ladder, key=_bits) if letter == "Q" else usual
        wanted += [StageSequence((step,)) for step in (*ladder, *_once(usual))]
        wanted += [StageSequence((first, usual)), *(sequence + last for sequence in law)]
    return [one_part(prepared, preset, list(dict.fromkeys(wanted)), controlled=False)]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge what the paper says on DD, PP, QQ and on one more stage after the law."""
    found = [record for record in latest(records) if record.order]
    texts = _by_text(found)
    claims = [*_twice_claims(texts), *_after_claims(texts, _law(found))]
    return Judgement(
        findings=tuple(judge_claims(claims)),
        tables=(
            measured_table(
                "Without and with the repetition",
                [some for claim in claims for some in (claim.second, claim.first)],
            ),
            _paper_table(),
        ),
        notes=(
            "XX stands against the single X whose reduction of bit operations comes closest. A repeated "
            "stage also trains longer, by the length of one stage: what it gains may be that.",
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Figure 5: paths from the once to the twice compressed network and on from the law; once but harder."""
    found = [record for record in latest(records) if record.points and record.order]
    texts = _by_text(found)
    law = _law(found)
    harder = {claim.second[0].sequence: claim.second for claim in _twice_claims(texts)}
    paths = [Path(name=text, steps=((some[0].order, some),)) for text, some in harder.items()]
    for text, some in texts.items():
        steps = StageSequence.parse(text).steps
        before = str(StageSequence(steps[:-1]))
        if before in texts and _is_double(steps):
            paths.append(Path(name=text, steps=((steps[0].stage, texts[before]), (some[0].order, some))))
        elif before in texts and some[0].order[:-1] == law and steps[-1].stage in law:
            name = f"{short_name(before)}, then {steps[-1]}"
            paths.append(Path(name=name, steps=((law, texts[before]), (some[0].order, some))))
    return {"paths": to_svg(paths_plot(paths))}


def _once(usual: Step) -> list[Step]:
    """The stage at knobs that cut at once as much as the usual ones do twice; none for other stages."""
    settings = usual.settings
    if usual.stage == "P":
        changed = {"ratio": round(1 - (1 - float(settings["ratio"])) ** 2, 6)}
    elif usual.stage == "D":
        changed = {"depth": max(0.1, round(float(settings["depth"]) ** 2, 6))}
    else:
        return []
    return [complete(StageSequence((Step.of(usual.stage, {**settings, **changed}),))).steps[0]]


def _bits(step: Step) -> float:
    return float(step.settings["weights"]) * float(step.settings["activations"])


def _law(records: Sequence[Record]) -> Order:
    return restrict(LAW, "".join({letter for record in records for letter in record.order}))


def _by_text(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.sequence].append(record)
    return dict(found)


def _is_double(steps: Sequence[Step]) -> bool:
    return len(steps) == 2 and steps[0].stage == steps[1].stage


def _twice_claims(texts: Mapping[str, Sequence[Record]]) -> list[Claim]:
    """XX against the harder X, as the law's own check chooses it."""
    said = {claim.stage: claim.twice for claim in REPETITIONS}
    claims = []
    for text, some in texts.items():
        steps = StageSequence.parse(text).steps
        if not _is_double(steps) or not _is_measured(some):
            continue
        stage = steps[1].stage
        singles = {
            other: _log2_reduction(measured)
            for other, measured in texts.items()
            if measured[0].order == stage and other != str(steps[0]) and _is_measured(measured)
        }
        first = _log2_reduction(texts.get(str(steps[0]), []))
        once = closest_harder(_log2_reduction(some), first, singles, last=str(steps[1]))
        if once is not None:
            words = said.get(stage, "no better than once but harder")
            kind = TWICE.get(stage, "not better")
            claim = f"{2 * stage} is {words} ({text} against {once})"
            claims.append(Claim(text=claim, first=some, second=texts[once], kind=kind))
    return claims


def _is_measured(records: Sequence[Record]) -> bool:
    return any(record.points for record in records)


def _log2_reduction(records: Sequence[Record]) -> float:
    """Mean over the seeds at the end of the network; NaN if nothing was measured."""
    ends = [math.log2(record.points[0].bitops_cr) for record in records if record.points]
    return sum(ends) / len(ends) if ends else math.nan


def _after_claims(texts: Mapping[str, Sequence[Record]], law: Order) -> list[Claim]:
    said = {claim.stage: claim.after_law for claim in REPETITIONS}
    claims = []
    for text, some in texts.items():
        steps = StageSequence.parse(text).steps
        before = str(StageSequence(steps[:-1]))
        if some[0].order[:-1] != law or steps[-1].stage not in said or before not in texts:
            continue
        if not _is_measured(some) or not _is_measured(texts[before]):
            continue
        if _log2_reduction(some) > _log2_reduction(texts[before]) + LEAST_CUT:  # else it only trains on
            kind = AFTER[steps[-1].stage]
            words = f"{steps[-1]} after {short_name(before)}: {said[steps[-1].stage]}"
            held = kind.replace("not ", "no ")
            claims.append(
                Claim(
                    text=f"{words}, so {held} in value than without it",
                    first=some,
                    second=texts[before],
                    kind=kind,
                )
            )
    return claims


def _paper_table() -> Table:
    return Table(
        title="The paper, figure 5 (in words; no numbers are printed)",
        columns=(Column("stage"), Column("twice"), Column("after the law")),
        rows=tuple((claim.stage, claim.twice, claim.after_law) for claim in REPETITIONS),
    )


EXPERIMENT = Experiment(
    name="repetition",
    section="section 6, figure 5",
    question="is a stage worth applying twice?",
    parts=parts,
    judge=judge,
    figures=figures,
)
