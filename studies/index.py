"""The index of a folder of results: each experiment with its verdicts, and the claims that were decided."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from ordercomp.analysis.tables import Column, Table
from ordercomp.studies.experiment import Finding, Verdict, table_markdown

__all__ = ["INDEX", "write_index"]

INDEX = "index.md"

_VERDICTS: tuple[str, ...] = get_args(Verdict)
_COLUMNS = (
    *map(Column, ("experiment", "paper", "asks", "task", "preset")),
    *(Column(name, "right") for name in ("trainings", *_VERDICTS)),
)


def write_index(out: Path) -> None:
    """Write `out`/index.md anew from every outcome.json below `out`; nothing is judged again."""
    found = sorted(out.glob("*/outcome.json"))
    outcomes = [(path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in found]
    table = Table(
        title="Results in this folder",
        columns=_COLUMNS,
        rows=tuple(_row(folder, outcome) for folder, outcome in outcomes),
        note="Columns of verdicts count claims. Those that agree or disagree:",
    )
    lines = [*table_markdown(table), ""]
    for folder, outcome in outcomes:
        lines += [f"- [{folder}]({folder}/outcome.md). {sentence}" for sentence in _decided(outcome)]
    draft = out / (INDEX + ".part")
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft.replace(out / INDEX)


def _row(folder: str, outcome: Mapping[str, Any]) -> tuple[str, ...]:
    verdicts = [finding["verdict"] for finding in outcome["findings"]]
    part = "" if outcome["complete"] else f" of {outcome['planned']}"
    return (
        f"[{outcome['experiment']}]({folder}/outcome.md)",
        *(outcome[key] for key in ("section", "question", "task", "preset")),
        f"{outcome['measured']}{part}",
        *(str(verdicts.count(verdict)) for verdict in _VERDICTS),
    )


def _decided(outcome: Mapping[str, Any]) -> list[str]:
    return [
        _finding(data).sentence for data in outcome["findings"] if data["verdict"] in ("agree", "disagree")
    ]


def _finding(data: Mapping[str, Any]) -> Finding:
    interval = data["interval"]
    return Finding(**{**data, "interval": None if interval is None else tuple(interval)})
