"""Assembly of the report page: pictures and tables from records and law, in one file without links."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ordercomp.analysis.fronts.front import DEFAULT_SCALE, TOLERANCES, Scale
from ordercomp.analysis.law.ranking import RankedOrder, permutation_records, rank_orders
from ordercomp.analysis.law.sensitivity import alternatives, sensitivity, sensitivity_table
from ordercomp.analysis.showing import plots, tables
from ordercomp.analysis.showing.report.elements import (
    Fact,
    Picture,
    distinct,
    duration,
    inline,
    provenance_of,
    render,
)
from ordercomp.analysis.showing.words import STAGE_NAMES, Verdict, read_verdict
from ordercomp.files import replace_file
from ordercomp.orders import Order
from ordercomp.records import Record

__all__ = ["write_report"]

LOSSES = (*TOLERANCES, 0.05, 0.1)  # those of the paper, and what small networks usually lose


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
    replace_file(Path(path), render("page.html.j2", _content(law, list(records), scale)))


def _content(law: Mapping[str, Any], records: Sequence[Record], scale: Scale) -> dict[str, Any]:
    verdict = read_verdict(law)
    ranking = rank_orders(records, law["stages"], scale=scale)
    whole = permutation_records(records, law["stages"])
    readings = sensitivity(records, law["stages"], verdict.order, scales=alternatives(scale))
    return {
        "law": law,
        "verdict": verdict,
        "verification": (law.get("verification") or {}).get("sentence", ""),
        "notes": law.get("notes", ()),
        "facts": _facts(law, records, verdict),
        "stages": [(stage, STAGE_NAMES.get(stage, "plug-in stage")) for stage in law["stages"]],
        "pictures": _pictures(law, records, whole, ranking, verdict, scale),
        "pair_table": tables.pair_table(law),
        "ranking_table": tables.ranking_table(ranking, law=verdict.order),
        "reduction_table": tables.reduction_table(whole, tolerances=LOSSES, scale=scale),
        "network_table": tables.best_network_table(records, tolerances=LOSSES, scale=scale),
        "rival_table": tables.rival_table(law),
        "sensitivity_table": sensitivity_table(readings, verdict.order),
        "convergence_table": tables.convergence_table(law),
        "failure_table": tables.failure_table(records),
        "checks": [check["sentence"] for name in ("insertion", "repetition") for check in law.get(name, ())],
        "provenance": _provenance(law, records, scale),
    }


def _facts(law: Mapping[str, Any], records: Sequence[Record], verdict: Verdict) -> list[Fact]:
    facts = []
    if verdict.probability is not None:
        facts.append(Fact(tables.probability_text(verdict.probability), f"probability of {verdict.order}"))
    decided = sum(pair["verdict"] in ("before", "after") for pair in law["pairs"])
    facts.append(Fact(f"{decided} of {len(law['pairs'])}", "pairs decided"))
    if checked := law.get("verification"):
        tested = checked.get("orders") or [checked.get("order") or verdict.order]
        facts.append(
            Fact(f"{checked['rank']} of {checked['of']}", f"rank of {', '.join(tested)} in the check")
        )
    facts.append(Fact(str(len({record.seed for record in records})), "seeds"))
    facts.append(Fact(str(law["trainings"]["done"]), f"trainings, {duration(law['seconds'])}"))
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
        "precedence": inline(
            plots.precedence_plot(law),
            "Stages from first to last. A solid arrow is a decided pair with its probability; dashed is "
            "undecided, dotted tied, brown depends on the context; red runs against the row.",
        ),
        "pairs": inline(
            plots.pair_plot(law),
            "What is gained if the first stage of a pair comes earlier, with its interval. Small grey dots: "
            "groups of contexts (what stands before and after, which knobs).",
        ),
    }
    if any(record.points for record in records):
        found["progress"] = inline(
            plots.progress_plot(records, scale=scale),
            "Value of the best networks found, training by training.",
        )
    if not any(record.points for record in whole):
        return found
    highlights = _highlights(ranking, verdict)
    found["fronts"] = inline(
        plots.pareto_plot(whole, highlights=highlights, scale=scale),
        "Accuracy against reduction of bit operations. Lines are what at least half of the seeds attain, "
        "faint dots single seeds, grey all other orders; up and to the right is better.",
    )
    found["ranking"] = inline(
        plots.ranking_plot(ranking, highlights=highlights),
        "Every order by the value of its networks, all seeds together.",
    )
    found["distance"] = inline(
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
        ("knobs", "; ".join(distinct(step for record in records for step in record.sequence.split(" ")))),
        (
            "value",
            f"hypervolume in doublings: the log2 reduction of bit operations, weighted by a {scale.shape} "
            f"tolerance of {100 * scale.tolerance:g} points of accuracy; {scale.split} data, "
            f"cost convention {scale.convention}",
        ),
    ]
    lines += provenance_of(records)
    return [(name, text) for name, text in lines if text]
