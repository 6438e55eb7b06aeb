"""What `soak.py` compares: the outcome of a run without what differs between equal runs."""

import json
from pathlib import Path
from typing import Any

from scenario import Scenario

Outcome = dict[str, dict[str, Any]]  # records, files of results and networks, by name

UNLIKE = frozenset(  # keys that differ between equal runs
    ("checksum", "seconds", "trainings", "cumulative_seconds", "progress", "started", "fail", "folder")
)


def read_outcome(folder: Path) -> Outcome:
    """What must be equal: each record with its points, and law, search or outcome without their times."""
    records: dict[str, Any] = {}
    for path in folder.glob("out/**/records.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            records.setdefault(f"{record['sequence']} {record['seed']}", []).append(_timeless(record))
    results = {
        path.name: _timeless(json.loads(path.read_text()))
        for pattern in ("law.json", "search.json", "*/outcome.json")
        for path in folder.glob(f"out/{pattern}")
    }
    networks = {path.name: path.read_bytes() for path in folder.glob("out/networks/*.safetensors")}
    return {"records": records, "results": results, "networks": networks}


def compare(scenario: Scenario, wanted: Outcome) -> None:
    """Note in a scenario what differs from the undisturbed run."""
    left = read_outcome(scenario.folder)
    for name in {**wanted["records"], **left["records"]}:
        ours, theirs = left["records"].get(name, []), wanted["records"].get(name, [])
        if len(ours) < len(theirs):
            scenario.note("lost", name)
        elif len(ours) > len(theirs):
            scenario.note("doubled" if theirs else "surplus", name)
        elif ours != theirs:
            scenario.note("changed", name)
    for kind, word in (("results", "wrong_laws"), ("networks", "wrong_networks")):
        for name in {**wanted[kind], **left[kind]}:
            if left[kind].get(name) != wanted[kind].get(name):
                scenario.note(word, name)
    if drafts := [
        path for path in scenario.files() if path.name.startswith("draft-") or path.suffix == ".part"
    ]:
        scenario.note("drafts", ", ".join(path.name for path in drafts[:3]))


def _timeless(data: object) -> object:
    if isinstance(data, dict):
        return {key: _timeless(value) for key, value in data.items() if key not in UNLIKE}
    return [_timeless(item) for item in data] if isinstance(data, list) else data
