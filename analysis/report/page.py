"""Assembly of the report page: pictures and tables from records and law, in one file without links."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from ordercomp.analysis import plots, tables
from ordercomp.analysis.fronts import DEFAULT_SCALE, TOLERANCES, Scale
from ordercomp.analysis.ranking import RankedOrder, permutation_records, rank_orders
from ordercomp.analysis.sensitivity import alternatives, sensitivity, sensitivity_table
from ordercomp.analysis.verdict import STAGE_NAMES, Verdict, read_verdict
from ordercomp.orders import Order
from ordercomp.records import Record

__all__ = ["write_report"]

LOSSES = (*TOLERANCES, 0.05, 0.1)  # those of the paper, and what small networks usually lose


@dataclass(frozen=True, slots=True)
class Picture:
    """An inlined figure with the words for those who do not see it."""

    source: str  # data URL
    caption: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that the page opens with."""

    value: str
    name: str


def write_report(
    path: Path | str,
    law: Mapping[str, Any],
    records: Iterable[Record],
    *,
    scale: Scale = DEFAULT_SCALE,
) -> None:
    """Write one self-contained HTML page about `law`, the content of a law.json, and its records.

    The page opens with the verdict and holds its figures inline: it loads nothing from anywhere. Keys of
    `law` beyond the contract add sections; without them, or without records, the page is shorter. The same
    input gives the same bytes. The file is replaced at once. Raises OSError if it cannot be written,
    ValueError if records lack the cost convention of `scale`.
    """
    path = Path(path)
    html = _render(law, list(records), scale)
    draft = path.with_name(path.name + ".part")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)


def _render(law: Mapping[str, Any], records: Sequence[Record], scale: Scale) -> str:
    loader = PackageLoader("ordercomp.analysis.report", package_path="")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    verdict = read_verdict(law)
    ranking = rank_orders(records, law["stages"], scale=scale)
    whole = permutation_records(records, law["stages"])
    readings = sensitivity(records, law["stages"], verdict.order, scales=alternatives(scale))
    return environment.get_template("page.html.j2").render(
        law=law,
        verdict=verdict,
        verification=(law.get("verification") or {}).get("sentence", ""),
        notes=law.get("notes", ()),
        style=loader.get_source(environment, "style.css")[0],
        facts=_facts(law, records, verdict),
        stages=[(stage, STAGE_NAMES.get(stage, "plug-in stage")) for stage in law["stages"]],
        pictures=_pictures(law, records, whole, ranking, verdict, scale),
        pair_table=tables.pair_table(law),
        ranking_table=tables.ranking_table(ranking, law=verdict.order),
        reduction_table=tables.reduction_table(whole, tolerances=LOSSES, scale=scale),
        network_table=tables.best_network_table(records, tolerances=LOSSES, scale=scale),
        rival_table=tables.rival_table(law),
        sensitivity_table=sensitivity_table(readings, verdict.order),
        convergence_table=tables.convergence_table(law),
        failure_table=tables.failure_table(records),
        checks=[check["sentence"] for name in ("insertion", "repetition") for check in law.get(name, ())],
        provenance=_provenance(law, records, scale),
    )


def _facts(law: Mapping[str, Any], records: Sequence[Record], verdict: Verdict) -> list[Fact]:
    facts = []
    if verdict.probability is not None:
        facts.append(Fact(tables.probability_text(verdict.probability), f"probability of {verdict.order}"))
    decided = sum(pair["verdict"] in ("before", "after") for pair in law["pairs"])
    facts.append(Fact(f"{decided} of {len(law['pairs'])}", "pairs decided"))
    if checked := law.get("verification"):
        facts.append(
            Fact(
                f"{checked['rank']} of {checked['of']}",
                f"rank of {checked.get('order') or verdict.order} in the check",
            )
        )
    facts.append(Fact(str(len({record.seed for record in records})), "seeds"))
    facts.append(Fact(str(law["trainings"]["done"]), f"trainings, {_duration(law['seconds'])}"))
    return facts


def _pictures(
    law: Mapping[str, Any],
    records: Sequence[Record],
    whole: Sequence[Record],
    ranking: Sequence[RankedOrder],
    verdict: Verdict,
    scale: Scale,
) -> dict[str, Picture]:
    """Draw what there are data for."""
    found = {
        "precedence": _picture(
            plots.precedence_plot(law),
            "Stages from first to last. A solid arrow is a decided pair with its probability; dashed is "
            "undecided, dotted tied, brown depends on the context; red runs against the row.",
        ),
        "pairs": _picture(
            plots.pair_plot(law),
            "What is gained if the first stage of a pair comes earlier, with its interval. Small grey dots: "
            "groups of contexts (what stands before and after, which knobs).",
        ),
    }
    if any(record.points for record in records):
        found["progress"] = _picture(
            plots.progress_plot(records, scale=scale),
            "Value of the best networks found, training by training.",
        )
    if not any(record.points for record in whole):
        return found
    highlights = _highlights(ranking, verdict)
    found["fronts"] = _picture(
        plots.pareto_plot(whole, highlights=highlights, scale=scale),
        "Accuracy against reduction of bit operations. Lines are what at least half of the seeds attain, "
        "faint dots single seeds, grey all other orders; up and to the right is better.",
    )
    found["ranking"] = _picture(
        plots.ranking_plot(ranking, highlights=highlights),
        "Every order by the value of its networks, all seeds together.",
    )
    found["distance"] = _picture(
        plots.distance_plot(ranking, law=verdict.order),
        f"Does value fall with the distance from {verdict.order}? Orange bars are means.",
    )
    return found


def _highlights(ranking: Sequence[RankedOrder], verdict: Verdict) -> dict[Order, str]:
    best, worst = ranking[0].order, ranking[-1].order
    roles = {verdict.order: verdict.role}
    for order, role in ((best, "best"), (worst, "worst")):
        roles[order] = f"{roles[order]}, {role}" if order in roles else role
    return roles


def _picture(figure: Figure, caption: str) -> Picture:
    code = base64.b64encode(plots.to_svg(figure).encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{code}", caption)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _provenance(law: Mapping[str, Any], records: Sequence[Record], scale: Scale) -> list[tuple[str, str]]:
    """Say where the numbers come from, each key with all the values that occur."""
    trainings = law["trainings"]
    lines = [
        ("task", law["task"]),
        (
            "trainings",
            f"{trainings['done']} done, {trainings['reused']} reused, {trainings['unshared']} unshared",
        ),
        ("seeds", ", ".join(map(str, sorted({record.seed for record in records})))),
        ("knobs", "; ".join(_distinct(step for record in records for step in record.sequence.split(" ")))),
        (
            "value",
            f"hypervolume in doublings: the log2 reduction of bit operations, weighted by a {scale.shape} "
            f"tolerance of {100 * scale.tolerance:g} points of accuracy; {scale.split} data, "
            f"cost convention {scale.convention}",
        ),
    ]
    for key in ("accounting", "precision", "versions", "hardware"):
        found = _distinct(_plain(record.extra[key]) for record in records if key in record.extra)
        if found:
            lines.append((key, "; ".join(found)))
    return [(name, text) for name, text in lines if text]


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted({text for text in texts if text})


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return str(value)
