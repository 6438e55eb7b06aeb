"""Experiment: what does each stage of the law contribute? Accuracy and cost after each of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ordercomp.analysis.report.plots import Path, paths_plot, to_svg
from ordercomp.analysis.report.tables import Table
from ordercomp.analysis.statistics import RULES, Effect, Rules, decide_every, estimate_all, shifted
from ordercomp.records import OperatingPoint, Record
from ordercomp.sequence import Order, StageSequence
from ordercomp.studies.claims import cheapest, measured_table, stages_of
from ordercomp.studies.experiment import (
    ClaimVerdict,
    Conclusion,
    Design,
    Experiment,
    Finding,
    Workload,
    by_order,
    by_sequence,
    interval_of,
    words_table,
)
from ordercomp.studies.facts import PAPER

CRUCIAL = 1.05  # factor on the reduction that a stage must bring at least


@dataclass(frozen=True, slots=True)
class Added:
    """What the last stage of a prefix of the law adds, over the seeds."""

    cut: Effect  # log2 of the further reduction
    gain: Effect  # of accuracy, a fraction
    seeds: int


def _plan(design: Design) -> list[Workload]:
    """The law at its grid of knob settings; its prefixes are measured on the way."""
    return [design.part(design.sequences([design.law]))]


def _decide(records: Sequence[Record]) -> Conclusion:
    """Whether every stage cuts the cost, and whether a later stage makes up for an earlier loss."""
    chains = _chains(records)
    added = _added(list(chains.values()))
    measured = by_sequence(record for chain in chains.values() for record in chain)
    return Conclusion(
        findings=tuple(_findings(added)) if added else (),
        tables=(
            measured_table("After each stage", measured.values()),
            _added_table(added),
            words_table(
                "The paper, figure 6 (VGG19, ResNet34, MobileNetV2; CIFAR-10; no numbers are printed)",
                ("in its words",),
                ((words,) for words in PAPER.stages),
            ),
        ),
    )


def _draw(records: Sequence[Record]) -> dict[str, str]:
    """Figure 6: a path from the baseline from stage to stage, for every knob setting."""
    settings: dict[str, list[Record]] = {}
    for (text, _), chain in _chains(records).items():
        settings.setdefault(text, []).extend(chain)
    paths = []
    for text, measured in settings.items():
        prefixes = by_order(measured)
        first = next(iter(prefixes.values()))
        paths.append(Path(name=text, steps=(("baseline", _baselines(first)), *prefixes.items())))
    return {"path": to_svg(paths_plot(paths))}


def _baselines(records: Sequence[Record]) -> list[Record]:
    """The uncompressed networks of the records, as records."""
    return [
        replace(
            record,
            order="",
            sequence="",
            points=(
                OperatingPoint(
                    threshold=None,
                    accuracy=record.baseline.accuracy,
                    test_accuracy=record.baseline.test_accuracy,
                    bitops_cr=1.0,
                    cr=1.0,
                ),
            ),
        )
        for record in records
    ]


def _chains(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """For every whole sequence of the law and seed the records of its prefixes, all of them measured."""
    measured = {(record.sequence, record.seed): record for record in records if record.points}
    law = stages_of(measured.values())
    chains = {}
    for (text, seed), record in measured.items():
        if record.order == law:
            nodes = [(str(prefix), seed) for prefix in StageSequence.parse(text).prefixes]
            if all(node in measured for node in nodes):
                chains[text, seed] = [measured[node] for node in nodes]
    return chains


def _added(chains: Sequence[Sequence[Record]]) -> dict[Order, Added]:
    """What each prefix of the law adds to the one before, at the cheapest point within a point of accuracy.

    A mean over knob settings at each seed, then over seeds.
    """
    steps: dict[Order, dict[int, list[tuple[float, float]]]] = {}
    for chain in chains:
        before = (0.0, chain[0].baseline.test_accuracy)
        for record in chain:
            best = cheapest(record)
            after = (best.log2_reduction, best.reported_accuracy)
            seeds = steps.setdefault(record.order, {})
            seeds.setdefault(record.seed, []).append((after[0] - before[0], after[1] - before[1]))
            before = after
    added = {}
    for order, seeds in steps.items():
        cuts, gains = np.array([np.mean(pairs, axis=0) for pairs in seeds.values()]).T
        (cut,) = estimate_all([cuts], rules=RULES, bound=20.0)
        (gain,) = estimate_all([gains], rules=RULES, bound=1.0)
        added[order] = Added(cut, gain, len(seeds))
    return added


def _findings(added: Mapping[Order, Added]) -> list[Finding]:
    later = [addition for order, addition in added.items() if len(order) > 1]
    crucial = decide_every(
        "better",
        [shifted(addition.cut, -math.log2(CRUCIAL)) for addition in added.values()],
        [addition.seeds for addition in added.values()],
        rules=Rules(margin=0.0),
    )
    none_rises = decide_every(
        "not better",
        [addition.gain for addition in later],
        [addition.seeds for addition in later],
        rules=Rules(margin=1e-9),  # no change at all is no rise
    )
    turned: Mapping[ClaimVerdict, ClaimVerdict] = {"agree": "disagree", "disagree": "agree"}
    cuts = ", ".join(f"{order[-1]} {2**addition.cut.mean:.2f}×" for order, addition in added.items())
    gains = (
        f"{order[-1]} {100 * addition.gain.mean:+.2f}" for order, addition in added.items() if len(order) > 1
    )
    seeds = max(addition.seeds for addition in added.values())
    return [
        Finding(
            claim="each stage of the law plays a crucial role in reducing the computation",
            measured=f"further reduction by {cuts} (crucial from {CRUCIAL}× on)",
            verdict=crucial,
            seeds=seeds,
        ),
        Finding(
            claim="a later stage may make up for the accuracy that an earlier one lost",
            measured=f"change of accuracy by {', '.join(gains)} points",
            verdict=turned.get(none_rises, "undecided"),
            seeds=seeds,
        ),
    ]


def _added_table(added: Mapping[Order, Added]) -> Table:
    rows = [
        (
            order,
            f"{2**addition.cut.mean:.2f}×",
            f"{100 * addition.gain.mean:+.2f}",
            f"{100 * addition.gain.low:+.2f} to {100 * addition.gain.high:+.2f}"
            if interval_of(addition.gain)
            else "",
            str(addition.seeds),
        )
        for order, addition in added.items()
    ]
    return Table.of(
        "What each stage adds",
        ("after", "further reduction", "change of accuracy", "interval", "seeds"),
        rows,
        left=("after",),
        note="Accuracy in points on test data; with exits at the cheapest threshold within a point.",
    )


EXPERIMENT = Experiment(
    name="stagewise",
    section="section 7, figure 6",
    question="what does each stage of the law contribute?",
    plan=_plan,
    rule=_decide,
    draw=_draw,
)
