"""Experiment: what does the law reach on the paper's models and data sets, and on the task at hand?"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ordercomp.analysis.fronts import Candidate, best_reductions
from ordercomp.analysis.report.plots import Panel, panels_plot, to_svg
from ordercomp.analysis.report.tables import Column, Table
from ordercomp.analysis.statistics import RULES, Rules, decide_alone, estimate_all
from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError
from ordercomp.records import Record
from ordercomp.running.task import Task
from ordercomp.sequence import KnobValue
from ordercomp.studies.claims import latest
from ordercomp.studies.experiment import Experiment, Finding, Judgement, Part, one_part, restrict, sequences
from ordercomp.studies.facts import LAW, TABLE_2, TABLE_2_NOTE, Compressed
from ordercomp.studies.preset import Preset
from ordercomp.training.recipe import Recipe

Knobs = Mapping[str, Mapping[str, KnobValue]]

# Students, ratios and bits that the paper's numbers imply for the rows of a model, and where a row differs.
KNOBS: Mapping[str, Knobs] = {
    "resnet34": {"D": {"depth": 0.5}, "P": {"ratio": 0.25}, "Q": {"weights": 1, "activations": 8}},
    "vgg19": {"D": {"depth": 0.6}, "P": {"ratio": 0.2}, "Q": {"weights": 1, "activations": 8}},
    "mobilenetv2": {
        "D": {"depth": 1.0, "width": 0.5},
        "P": {"ratio": 0.15},
        "Q": {"weights": 4, "activations": 8},
    },
}
EIGHT_BITS: Mapping[str, KnobValue] = {"weights": 8, "activations": 8}
EXCEPTIONS: Mapping[tuple[str, str], Knobs] = {
    ("resnet34", "cifar100"): {
        "D": {"depth": 0.6},
        "P": {"ratio": 0.05},
        "Q": {"weights": 4, "activations": 8},
    },
    ("resnet34", "imagenet"): {"P": {"ratio": 0.05}, "Q": EIGHT_BITS},
    ("vgg19", "svhn"): {"P": {"ratio": 0.4}},
    # torchvision's VGG is one flat chain of layers, without blocks to drop: its student is narrower.
    ("vgg19", "imagenet"): {"D": {"depth": 1.0, "width": 0.7}, "P": {"ratio": 0.05}, "Q": EIGHT_BITS},
    ("mobilenetv2", "cifar100"): {"P": {"ratio": 0.05}},
    ("mobilenetv2", "imagenet"): {
        "D": {"depth": 1.0, "width": 0.95},
        "P": {"ratio": 0.05},
        "Q": EIGHT_BITS,
    },
}
MODELS: Mapping[str, str] = {"resnet34": "resnet34", "vgg19": "vgg19", "mobilenetv2": "mobilenet_v2"}
LARGE_MODELS: Mapping[str, str] = {  # ImageNet forms
    "resnet34": "torchvision:resnet34",
    "vgg19": "torchvision:vgg19_bn",
    "mobilenetv2": "torchvision:mobilenet_v2",
}
RECIPE = Recipe(epochs=20.0, batch_size=128, learning_rate=0.1, augment=True)
HUNDREDS = 100.0  # "hundreds to over 1000 times", of a task that the paper does not have
NEGLIGIBLE = 0.01  # loss, a fraction


def parts(task: Task, preset: Preset) -> list[Part]:
    """The law on the task at hand, and on the rows of Table 2 if the preset asks and their data are there."""
    rows = _present_rows() if preset.zoo else []
    prepared = [preset.prepare(one) for one in (task, *map(zoo_task, rows))]
    return [
        one_part(one, preset, sequences(one, preset, [restrict(LAW, one.stages)])[:1], controlled=False)
        if one.name == task.name
        else one_part(one, preset, [one.sequence(LAW)], controlled=False)
        for one in prepared
    ]


def judge(records: Sequence[Record]) -> Judgement:
    """Judge each row of Table 2 that was measured, and the paper's general claim on any other task."""
    by_task = _by_task(records)
    rows = {_name(row): row for row in TABLE_2}
    findings = [
        _against_row(rows[name], some) if name in rows else _in_general(name, some)
        for name, some in by_task.items()
    ]
    absent = [name for name in rows if name not in by_task]
    return Judgement(
        findings=tuple(findings),
        tables=(_measured(by_task), _paper_table()),
        notes=(
            "Not measured, as their data are not here or the preset is too small for them: "
            f"{', '.join(absent)}."
            if absent
            else "All rows of Table 2 were measured.",
        ),
    )


def figures(records: Sequence[Record]) -> dict[str, str]:
    """A panel per task with the networks after each stage of the law."""
    panels = []
    for name, some in _by_task(records, whole=False).items():
        longest = max((record.order for record in some), key=len)
        orders = [longest[:length] for length in range(1, len(longest) + 1)]
        series = {order: [record for record in some if record.order == order] for order in orders}
        panels.append(Panel(title=name, series=series))
    return {"fronts": to_svg(panels_plot(panels))}


def zoo_task(row: Compressed) -> Task:
    """The task of a row of Table 2. The paper's own length of training comes from its preset."""
    large = row.data == "imagenet"
    knobs = {**KNOBS[row.model], **EXCEPTIONS.get((row.model, row.data), {})}
    return Task(
        name=_name(row),
        model=(LARGE_MODELS if large else MODELS)[row.model],
        data=row.data,
        stages=LAW,
        knobs={**knobs, "E": {"exits": 3}},
        recipe=RECIPE,
    )


def _present_rows() -> list[Compressed]:
    present: dict[str, bool] = {}
    for row in TABLE_2:
        if row.data not in present:
            present[row.data] = _is_present(row.data)
    return [row for row in TABLE_2 if present[row.data]]


def _is_present(data: str) -> bool:
    try:
        load_data(data)
    except DataError:
        return False
    return True


def _name(row: Compressed) -> str:
    return f"{row.model}-{row.data}"


def _by_task(records: Sequence[Record], *, whole: bool = True) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in latest(records):
        if record.order:
            found[record.task].append(record)
    if not whole:
        return dict(found)
    longest = {task: max(len(record.order) for record in some) for task, some in found.items()}
    return {task: [r for r in some if len(r.order) == longest[task]] for task, some in found.items()}


def _best(records: Sequence[Record], tolerance: float) -> list[Candidate | None]:
    """At every seed the largest reduction within the tolerated validation loss."""
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_seed[record.seed].append(record)
    return [best_reductions(some, tolerances=[tolerance])[tolerance] for some in by_seed.values()]


def _against_row(row: Compressed, records: Sequence[Record]) -> Finding:
    return _finding(
        f"{row.model} on {row.data}: {row.bitops_cr:g}× at {row.change:+.2f} points",
        records,
        wanted=row.bitops_cr,
        tolerance=max(0.0, -row.change / 100),
    )


def _in_general(task: str, records: Sequence[Record]) -> Finding:
    return _finding(
        f"{task}: the law reaches reductions of hundreds with negligible loss",
        records,
        wanted=HUNDREDS,
        tolerance=NEGLIGIBLE,
    )


def _finding(claim: str, records: Sequence[Record], *, wanted: float, tolerance: float) -> Finding:
    """Agree if the reduction within the loss is at least the wanted one at 95 %, over seeds."""
    best = _best(records, tolerance)
    logs = np.array([0.0 if one is None else max(0.0, one.log2_reduction) for one in best])
    (effect,) = estimate_all([logs - math.log2(wanted)], rules=RULES, bound=20.0)
    decision = decide_alone("better", effect, len(best), rules=Rules(margin=0.0))
    reached = ", ".join("none" if one is None else f"{one.bitops_cr:.4g}×" for one in best)
    return Finding(
        claim=claim,
        measured=f"within {100 * tolerance:.2f} points on validation data {reached}",
        verdict=decision.verdict,
        seeds=len(best),
        effect=effect.mean if len(best) else None,
        interval=(effect.low, effect.high) if math.isfinite(effect.error) else None,
    )


def _measured(by_task: Mapping[str, Sequence[Record]]) -> Table:
    rows = []
    for task, some in by_task.items():
        measured = [record for record in some if record.points]
        best = [one for one in _best(measured, NEGLIGIBLE) if one is not None]
        baseline = np.mean([record.baseline.test_accuracy for record in some]) if some else math.nan
        if best:
            accuracy = np.mean([one.reported_accuracy for one in best])
            cells = (
                f"{100 * accuracy:.2f} ({100 * np.mean([-one.reported_loss for one in best]):+.2f})",
                f"{2 ** np.mean([one.log2_reduction for one in best]):.4g}×",
                f"{2 ** np.mean([math.log2(one.cr) for one in best]):.4g}×",
            )
        else:
            cells = ("none within a point", "–", "–")
        rows.append((task, f"{100 * baseline:.2f}", *cells, f"{len(best)} of {len(some)}"))
    names = ("task", "original", "compressed", "BitOpsCR", "CR", "seeds within")
    return Table(
        title="Measured: the largest reduction within a point of validation accuracy",
        columns=tuple(Column(name, "left" if name == "task" else "right") for name in names),
        rows=tuple(rows),
        note="Accuracy in percent on test data; means over the seeds that have a network within the point.",
    )


def _paper_table() -> Table:
    names = ("model", "data", "original", "compressed", "BitOpsCR", "CR")
    return Table(
        title="The paper, Table 2",
        columns=tuple(Column(name, "left" if name in ("model", "data") else "right") for name in names),
        rows=tuple(
            (
                row.model,
                row.data,
                f"{row.original:.2f}",
                f"{row.accuracy:.2f} ({row.change:+.2f})",
                f"{row.bitops_cr:g}×",
                f"{row.cr:g}×",
            )
            for row in TABLE_2
        ),
        note=TABLE_2_NOTE,
    )


EXPERIMENT = Experiment(
    name="zoo",
    section="section 7, Table 2",
    question="what does the law reach on other models and data?",
    parts=parts,
    judge=judge,
    figures=figures,
)
