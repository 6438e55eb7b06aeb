"""What `soak.py` compares: the outcome of a run without what differs between equal runs."""

import json
from pathlib import Path
from typing import Any

from soak_life import Life

__all__ = ["Outcome", "compare", "read_outcome"]

Outcome = dict[str, dict[str, Any]]  # records, told files and networks, by name

UNLIKE = frozenset(  # keys that differ between equal runs
    {"seconds", "trainings", "cumulative_seconds", "progress", "started", "fail", "folder"}  # it has a date
)


def read_outcome(folder: Path) -> Outcome:
    """What must be equal: each record with its points, and law, search or outcome without their times."""
    records: dict[str, Any] = {}
    for path in folder.glob("out/**/records.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            records.setdefault(f"{record['sequence']} {record['seed']}", []).append(_timeless(record))
    told = {
        path.name: _timeless(json.loads(path.read_text()))
        for pattern in ("law.json", "search.json", "*/outcome.json")
        for path in folder.glob(f"out/{pattern}")
    }
    networks = {path.name: path.read_bytes() for path in folder.glob("out/networks/*.safetensors")}
    return {"records": records, "told": told, "networks": networks}


def compare(life: Life, wanted: Outcome) -> None:
    """Note in a life what differs from the undisturbed run."""
    found = read_outcome(life.folder)
    for name in {**wanted["records"], **found["records"]}:
        ours, theirs = found["records"].get(name, []), wanted["records"].get(name, [])
        if len(ours) < len(theirs):
            life.note("lost", name)
        elif len(ours) > len(theirs):
            life.note("doubled" if theirs else "surplus", name)
        elif ours != theirs:
            life.note("changed", name)
    for kind, word in (("told", "wrong_laws"), ("networks", "wrong_networks")):
        for name in {**wanted[kind], **found[kind]}:
            if found[kind].get(name) != wanted[kind].get(name):
                life.note(word, name)
    if drafts := [path for path in life.files() if path.name.startswith("draft-") or path.suffix == ".part"]:
        life.note("drafts", ", ".join(path.name for path in drafts[:3]))


def _timeless(data: object) -> object:
    if isinstance(data, dict):
        return {key: _timeless(value) for key, value in data.items() if key not in UNLIKE}
    return [_timeless(one) for one in data] if isinstance(data, list) else data
