"""Experiment: what does each stage of the law contribute? Accuracy and cost after each of them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ordercomp.analysis.fronts import DEFAULT_SCALE, candidates
from ordercomp.analysis.report.plots import Path, paths_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.analysis.statistics import RULES, Estimate, Rules, decide_every, estimate_all, shifted
from ordercomp.records import OperatingPoint, Record
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.studies.claims import latest, measured_table, stages_of
from ordercomp.studies.experiment import (
    Experiment,
    Finding,
    Judgement,
    Part,
    Verdict,
    one_part,
    restrict,
    sequences,
)
from ordercomp.studies.facts import LAW
from ordercomp.studies.preset import Preset

CRUCIAL = 1.05  # factor on the reduction that a stage must bring at least
TOLERATED = 0.01  # validation accuracy, a fraction, that leaving early may cost


def parts(task: Task, preset: Preset) -> list[Part]:
    """The law at its grid of knob settings; its prefixes are measured on the way."""
    prepared = preset.prepare(task)
    return [one_part(prepared, preset, sequences(prepared, preset, [restrict(LAW, task.stages)]))]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge whether every stage cuts the cost, and whether a later stage makes up for an earlier loss."""
    chains = _chains(records)
    steps: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for (_, seed), chain in chains.items():
        spots = [(0.0, chain[0].baseline.test_accuracy), *(_spot(record) for record in chain)]
        for record, before, after in zip(chain, spots[:-1], spots[1:], strict=True):
            steps[record.order].append((seed, after[0] - before[0], after[1] - before[1]))
    groups: dict[str, list[Record]] = defaultdict(list)
    for chain in chains.values():
        for record in chain:
            groups[record.sequence].append(record)
    return Judgement(
        findings=tuple(_findings(steps)),
        tables=(
            measured_table("After each stage", list(groups.values())),
            _step_table(steps),
            _paper_table(),
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """Figure 6: a path from the baseline from stage to stage, for every knob setting."""
    settings: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for (text, _), chain in _chains(records).items():
        for record in chain:
            settings[text][record.order].append(record)
    paths = [
        Path(name=text, steps=(("baseline", _baselines(by_order)), *by_order.items()))
        for text, by_order in settings.items()
    ]
    return {"path": to_svg(paths_plot(paths))}


def _baselines(by_order: Mapping[str, Sequence[Record]]) -> list[Record]:
    """The uncompressed networks of the seeds, as records."""
    first = next(iter(by_order.values()))
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
        for record in first
    ]


def _chains(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """For every whole sequence of the law and seed the records of its prefixes, all of them measured."""
    found = {(record.sequence, record.seed): record for record in latest(records) if record.points}
    law = stages_of(list(found.values()))
    chains = {}
    for (text, seed), record in found.items():
        if record.order == law:
            nodes = [(str(prefix), seed) for prefix in StageSequence.parse(text).prefixes]
            if all(node in found for node in nodes):
                chains[text, seed] = [found[node] for node in nodes]
    return chains


def _spot(record: Record) -> tuple[float, float]:
    """Log2 reduction and test accuracy at the cheapest threshold within a point of the full run."""
    every = candidates([record], scale=DEFAULT_SCALE)
    full = next((one.accuracy for one in every if one.point.threshold is None), every[0].accuracy)
    within = [one for one in every if one.accuracy >= full - TOLERATED - 1e-12]
    chosen = max(within, key=lambda one: one.bitops_cr)
    return chosen.log2_reduction, chosen.reported_accuracy


def _over_seeds(values: Sequence[tuple[int, float]], bound: float) -> Estimate:
    """Mean over knob settings at each seed, then over seeds."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        by_seed[seed].append(value)
    means = np.array([np.mean(some) for some in by_seed.values()])
    return estimate_all([means], rules=RULES, bound=bound)[0]


def _findings(steps: Mapping[str, Sequence[tuple[int, float, float]]]) -> list[Finding]:
    if not steps:
        return []
    counts = {order: len({seed for seed, *_ in some}) for order, some in steps.items()}
    seeds = max(counts.values())
    cuts = {order: _over_seeds([(seed, cut) for seed, cut, _ in some], 20.0) for order, some in steps.items()}
    gains = {
        order: _over_seeds([(seed, gain) for seed, _, gain in some], 1.0)
        for order, some in steps.items()
        if len(order) > 1
    }
    crucial = decide_every(
        "better",
        [shifted(cut, -math.log2(CRUCIAL)) for cut in cuts.values()],
        list(counts.values()),
        rules=Rules(margin=0.0),
    )
    none_rises = decide_every(
        "not better",
        list(gains.values()),
        [counts[order] for order in gains],
        rules=Rules(margin=1e-9),  # no change at all is no rise
    )
    turned: Mapping[Verdict, Verdict] = {"agree": "disagree", "disagree": "agree"}
    told = ", ".join(f"{order[-1]} {2**cut.mean:.2f}×" for order, cut in cuts.items())
    rises = ", ".join(f"{order[-1]} {100 * gain.mean:+.2f}" for order, gain in gains.items())
    return [
        Finding(
            claim="each stage of the law plays a crucial role in reducing the computation",
            measured=f"further reduction by {told} (crucial from {CRUCIAL}× on)",
            verdict=crucial,
            seeds=seeds,
        ),
        Finding(
            claim="a later stage may make up for the accuracy that an earlier one lost",
            measured=f"change of accuracy by {rises} points",
            verdict=turned.get(none_rises, "undecided"),
            seeds=seeds,
        ),
    ]


def _step_table(steps: Mapping[str, Sequence[tuple[int, float, float]]]) -> Table:
    rows = []
    for order, some in steps.items():
        cut = _over_seeds([(seed, cut) for seed, cut, _ in some], 20.0)
        gain = _over_seeds([(seed, gain) for seed, _, gain in some], 1.0)
        rows.append(
            (
                order,
                f"{2**cut.mean:.2f}×",
                f"{100 * gain.mean:+.2f}",
                f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}" if math.isfinite(gain.error) else "",
                str(len({seed for seed, *_ in some})),
            )
        )
    names = ("after", "further reduction", "change of accuracy", "interval", "seeds")
    return Table(
        title="What each stage adds",
        columns=tuple(Column(name, "left" if name == "after" else "right") for name in names),
        rows=tuple(rows),
        note="Accuracy in points on test data; with exits at the cheapest threshold within a point.",
    )


def _paper_table() -> Table:
    return Table(
        title="The paper, figure 6 (VGG19, ResNet34, MobileNetV2; CIFAR-10; no numbers are printed)",
        columns=(Column("in its words"),),
        rows=(
            ("each compression technique plays a crucial role in reducing the computation cost",),
            ("the following techniques may compensate for a slight loss of accuracy of one",),
        ),
    )


EXPERIMENT = Experiment(
    name="stagewise",
    section="section 7, figure 6",
    question="what does each stage of the law contribute?",
    parts=parts,
    judge=judge,
    figures=figures,
)
