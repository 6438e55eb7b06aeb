"""`ordercomp store ls|verify|gc DIR`: what a store holds, whether it is whole, and room."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ordercomp.cli.output import print_json
from ordercomp.errors import FailedRunError
from ordercomp.running.store import Store, collect_garbage, find_store, list_entries, remove_damaged

_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def command(
    action: Annotated[str, typer.Argument(help="ls, verify or gc")],
    folder: Annotated[Path, typer.Argument(help="a store, or a folder of results that holds one")],
    cap: Annotated[str, typer.Option(help="room for networks after gc, e.g. 500MiB")] = "20GiB",
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON on stdout")] = False,
) -> None:
    """List what a store holds, check it against its digests, or make room; what is gone is computed again."""
    if action not in ("ls", "verify", "gc"):
        raise ValueError(f"action must be ls, verify or gc, got {action!r}")
    most = parse_size(cap)
    store = find_store(folder)
    if action == "ls":
        _list(store, as_json=as_json)
    elif action == "verify":
        _verify(store, as_json=as_json)
    else:
        freed = asdict(collect_garbage(Store(store.folder, cap_bytes=most)))
        if as_json:
            print_json(freed)
        else:
            _say(
                f"freed {size_text(freed['bytes'])}: {freed['evicted']} networks beyond the cap, "
                f"{freed['unfinished']} without a record; {freed['locks']} locks that nobody holds"
            )


def parse_size(text: str) -> int:
    """Bytes in `500MiB` or `2GiB`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]iB|B|)", text.strip())
    if match is None:
        raise ValueError(f"--cap must be a size such as 500MiB or 2GiB, got {text!r}")
    return round(float(match[1]) * _UNITS[match[2]])


def size_text(size: int) -> str:
    """Bytes as people say them: 3.2 MiB."""
    unit = next((name for name in ("TiB", "GiB", "MiB", "KiB") if size >= _UNITS[name]), "B")
    return f"{size} B" if unit == "B" else f"{size / _UNITS[unit]:.1f} {unit}"


def _list(store: Store, *, as_json: bool) -> None:
    entries = list_entries(store)
    rows = [
        {
            "key": one.key,
            "task": one.record.task,
            "seed": one.record.seed,
            "sequence": one.record.sequence,
            "error": one.record.error,
            "accuracy": one.record.points[0].accuracy if one.record.points else None,
            "network_bytes": one.network_bytes,
        }
        for one in entries
    ]
    if as_json:
        print_json({"folder": str(store.folder), "entries": rows})
        return
    table = Table("task", "seed", "sequence", "accuracy", "network", "key")
    for one in entries:
        reached = "failed" if one.record.error else f"{one.record.points[0].accuracy:.4f}"
        network = size_text(one.network_bytes) if one.network_bytes else "none"
        record = one.record
        cells = (record.task, str(record.seed), record.sequence or "baseline", reached, network, one.key[:12])
        table.add_row(*(cell.replace("[", "\\[") for cell in cells))
    Console().print(table)
    _say(f"{len(entries)} results; networks take {size_text(store.network_bytes())}")


def _verify(store: Store, *, as_json: bool) -> None:
    damaged = remove_damaged(store)
    whole = len(list_entries(store))
    if as_json:
        print_json({"folder": str(store.folder), "whole": whole, "damaged": damaged})
    else:
        _say(f"{whole} results are whole")
    if damaged:
        names = ", ".join(key[:12] for key in damaged[:5])
        raise FailedRunError(
            f"{len(damaged)} results were damaged and removed ({names}); the next run computes them again"
        )


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
