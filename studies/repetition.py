"""Experiment: is a stage worth applying twice? Twice against once but harder, and once more after the law."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ordercomp.analysis.checks import closest_harder
from ordercomp.analysis.report.plots import Path, paths_plot, to_svg
from ordercomp.jobs.race import as_hard_at_once
from ordercomp.records import Record
from ordercomp.sequence import Order, StageSequence, Step
from ordercomp.stages.catalog import known_stages
from ordercomp.studies.claims import Claim, Kind, decide_claims, law_of, measured_table, short_name
from ordercomp.studies.experiment import Conclusion, Design, Experiment, Workload, by_sequence, words_table
from ordercomp.studies.facts import PAPER

LEAST_CUT = 0.05  # doublings that a further stage must save to count as a repetition

# What the paper's words mean as a comparison of values.
TWICE: Mapping[str, Kind] = {"D": "alike", "P": "worse", "Q": "better"}
AFTER: Mapping[str, Kind] = {"D": "not worse", "P": "not worse", "Q": "not better"}


def _plan(design: Design) -> list[Workload]:
    """XX and the ladder of X for every stage that may come twice; the law, and the law followed by each.

    XX applies the usual knobs twice, and X alone the square of what they leave, which is as hard; but Q goes
    from its most bits to the usual ones; after the law Q goes to its fewest bits.
    """
    law = design.sequences([design.law])
    wanted = [*law]
    for letter in design.task.stages:
        if not known_stages()[letter].repeatable:
            continue
        usual, steps = design.sequences([letter])[0], design.ladder(letter)
        first = max(steps, key=_bits) if letter == "Q" else usual
        last = min(steps, key=_bits) if letter == "Q" else usual
        wanted += [*steps, *as_hard_at_once(usual), first + usual.steps[0]]
        wanted += [sequence + last.steps[0] for sequence in law]
    return [design.part(wanted, controlled=False)]


def _decide(records: Sequence[Record]) -> Conclusion:
    """What the paper says on DD, PP, QQ and on one more stage after the law."""
    runs = by_sequence(records)
    claims = [*_twice_claims(runs), *_after_claims(runs, law_of(records))]
    return Conclusion(
        findings=tuple(decide_claims(claims)),
        tables=(
            measured_table(
                "Without and with the repetition",
                [side for claim in claims for side in (claim.second, claim.first)],
            ),
            words_table(
                "The paper, figure 5 (in words; no numbers are printed)",
                ("stage", "twice", "after the law"),
                ((stage, quote.twice, quote.after_law) for stage, quote in PAPER.repetitions.items()),
            ),
        ),
        notes=(
            "XX stands against the single X whose reduction of bit operations comes closest. A repeated "
            "stage also trains longer, by the length of one stage: what it gains may be that.",
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """Figure 5: paths from the once to the twice compressed network and on from the law; once but harder."""
    measured = [record for record in records if record.points]
    runs, law = by_sequence(measured), law_of(measured)
    harder = {claim.second[0].sequence: claim.second for claim in _twice_claims(runs)}
    paths = [Path(name=text, steps=((own[0].order, own),)) for text, own in harder.items()]
    for text, own in runs.items():
        order, before = own[0].order, _before(text)
        if before not in runs:
            continue
        if _is_double(order):
            paths.append(Path(name=text, steps=((order[0], runs[before]), (order, own))))
        elif order[:-1] == law and order[-1] in law:
            name = f"{short_name(before)}, then {StageSequence.parse(text).steps[-1]}"
            paths.append(Path(name=name, steps=((law, runs[before]), (order, own))))
    return {"paths": to_svg(paths_plot(paths))}


def _bits(sequence: StageSequence) -> float:
    step: Step = sequence.steps[-1]
    return float(step.settings["weights"]) * float(step.settings["activations"])


def _before(text: str) -> str:
    """The sequence without its last stage."""
    return str(StageSequence(StageSequence.parse(text).steps[:-1]))


def _is_double(order: Order) -> bool:
    return len(order) == 2 and order[0] == order[1]


def _twice_claims(runs: Mapping[str, Sequence[Record]]) -> list[Claim]:
    """XX against the harder X, as the law's own check chooses it."""
    reductions = {text: _log2_reduction(own) for text, own in runs.items()}
    claims = []
    for text, own in runs.items():
        if not _is_double(own[0].order) or math.isnan(reductions[text]):
            continue
        stage, before = own[0].order[0], _before(text)
        singles = {
            other: reduction
            for other, reduction in reductions.items()
            if runs[other][0].order == stage and other != before and not math.isnan(reduction)
        }
        last = str(StageSequence.parse(text).steps[-1])
        once = closest_harder(reductions[text], reductions.get(before, math.nan), singles, last=last)
        if once is not None:
            quote = PAPER.repetitions.get(stage)
            words = quote.twice if quote else "no better than once but harder"
            claim = f"{2 * stage} is {words} ({text} against {once})"
            kind = TWICE.get(stage, "not better")
            claims.append(Claim(text=claim, first=own, second=runs[once], kind=kind))
    return claims


def _after_claims(runs: Mapping[str, Sequence[Record]], law: Order) -> list[Claim]:
    """The law and one more stage against the law, where the stage saves something and not only trains on."""
    claims = []
    for text, own in runs.items():
        stage, before = own[0].order[-1], _before(text)
        quote = PAPER.repetitions.get(stage)
        if own[0].order[:-1] != law or quote is None or before not in runs:
            continue
        if _log2_reduction(own) > _log2_reduction(runs[before]) + LEAST_CUT:  # not so where one is NaN
            kind = AFTER[stage]
            claim = (
                f"{StageSequence.parse(text).steps[-1]} after {short_name(before)}: {quote.after_law}, "
                f"so {kind.replace('not ', 'no ')} in value than without it"
            )
            claims.append(Claim(text=claim, first=own, second=runs[before], kind=kind))
    return claims


def _log2_reduction(records: Iterable[Record]) -> float:
    """Mean over the seeds at the end of the network; NaN if nothing was measured."""
    ends = [math.log2(record.points[0].bitops_cr) for record in records if record.points]
    return sum(ends) / len(ends) if ends else math.nan


EXPERIMENT = Experiment(
    name="repetition",
    section="section 6, figure 5",
    question="is a stage worth applying twice?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
