"""Damaged files of every kind through the commands that read them: told in one line, or read as they were?

    python tests/stress/damage.py --files 10000 --seed 0

Cuts a file short, flips a bit, changes a byte, empties it, or repeats or drops a line, at a random place, and
runs the command that reads it in this process. Each must end with the exit code 0, 1 or 2, one line of
explanation where it is not 0, no traceback, within a minute. Where a damaged file is read all the same, what
comes out is what the sound file gives (harmless) or something else (silent): both are printed by kind of
file and damage, with whether files of that kind carry a checksum. Prints one JSON line a kind; the exit code
is 1 after anything else.
"""

import argparse
import contextlib
import gzip
import io
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import make_record
from page_data import a_search, law_file
from studies_on_disk import paired_study
from studies_on_disk import run as run_study

from ordercomp.analysis import answer, order_model
from ordercomp.analysis.order_model import Effort
from ordercomp.cli.main import main as ordercomp
from ordercomp.codec import write_json
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import write_records
from ordercomp.running.store import Store
from ordercomp.running.task import load_task
from ordercomp.shipping.packed import load_network, save_packed

FEW = Effort(burn_in=5, draws=20)  # draws of an answer: none is judged here
SECONDS = 60.0  # that no command may take
TASK = 'model = "resnet8(width=1)"\ndata = "digits"\n[recipe]\nepochs = 1\n[knobs.P]\nratio = 0.3\n'
TABLE = "order,seed,accuracy,reduction\n,0,0.9,1\n,1,0.9,1\nPQ,0,0.8,4\nQP,0,0.7,4\nPQ,1,0.8,4\nQP,1,0.7,4\n"
KEY = "a" * 64


@dataclass
class Kind:
    """Files of one kind, how one is read, and what came of damaged ones."""

    name: str
    path: Path
    read: Callable[[], tuple[object, str, str]]  # exit code, output, errors
    checked: bool  # whether the file carries a checksum
    sound: str = ""  # what comes out of the sound file
    files: int = 0
    harmless: int = 0
    silent: Counter[str] = field(default_factory=Counter)  # by kind of damage
    wrong: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # of the slowest


def cut(content: bytes, chance: random.Random) -> bytes:
    """The first bytes alone."""
    return content[: chance.randrange(len(content))]


def flip(content: bytes, chance: random.Random) -> bytes:
    """One bit the other way round."""
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def change(content: bytes, chance: random.Random) -> bytes:
    """One byte is any other."""
    place = chance.randrange(len(content))
    return content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]


def empty(_content: bytes, _chance: random.Random) -> bytes:
    """Nothing is left, as after a full disk."""
    return b""


def repeat_line(content: bytes, chance: random.Random) -> bytes:
    """One line stands twice."""
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    return b"".join([*lines[: place + 1], *lines[place:]])


def drop_line(content: bytes, chance: random.Random) -> bytes:
    """One line is gone."""
    lines = content.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(cut, flip, flip, change, empty, repeat_line, drop_line),
)


def make_files(folder: Path) -> list[Kind]:
    """One sound file of each kind."""
    records = [make_record(order, seed, 0.97) for order in ("P", "Q", "PQ", "QP") for seed in (0, 1)]
    network, packed, task = (folder / name for name in ("net.safetensors", "net.packed", "task.toml"))
    whole = CompressedNetwork.create("resnet8(width=1)", classes=2, channels=1, size=(4, 4))
    whole.save(network)
    save_packed(whole, packed)
    run, searched, store = folder / "run", folder / "searched", Store(folder / "store")
    for made, name, content in ((run, "law.json", law_file()), (searched, "search.json", a_search())):
        made.mkdir()
        write_records(made / "records.jsonl", records)
        write_json(made / name, content)
    (run / "records.jsonl.gz").write_bytes(gzip.compress((run / "records.jsonl").read_bytes()))
    store.put(KEY, records[0], lambda draft: shutil.copy(network, draft))
    task.write_text(TASK)
    (folder / "table.csv").write_text(TABLE)
    export = partial(run_command, ["export", str(network), "--packed", str(folder / "out")])
    verify = partial(run_command, ["store", "verify", str(folder)])
    law = partial(run_command, ["law", str(run / "records.jsonl"), "--loss", "2%", "--cost", "bitops"])
    law_gz = partial(run_command, ["law", str(run / "records.jsonl.gz"), "--loss", "2%", "--cost", "bitops"])
    report = partial(run_command, ["report", str(run)])
    report_search = partial(run_command, ["report", str(searched)])
    law_csv = partial(run_command, ["law", str(folder / "table.csv")])
    return [
        Kind("law.json", run / "law.json", report, checked=True),
        Kind("search.json", searched / "search.json", report_search, checked=True),
        Kind("records", run / "records.jsonl", law, checked=True),
        Kind("records, gz", run / "records.jsonl.gz", law_gz, checked=True),
        Kind("network", network, export, checked=True),
        Kind("packed", packed, partial(read_file, load_network, packed), checked=True),
        Kind("store entry", store.folder / f"{KEY}.json", verify, checked=True),
        Kind("stored network", store.network_path(KEY), verify, checked=True),
        Kind("task", task, partial(read_file, load_task, task), checked=False),
        Kind("table", folder / "table.csv", law_csv, checked=False),
        make_study(folder / "study.db"),
        make_study(folder / "study.journal"),
    ]


def make_study(path: Path) -> Kind:
    """A study in a database or a journal, and how the law of its trials is told."""
    run_study(paired_study(path, seeds=2))
    if path.suffix == ".db":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it in this file
    return Kind(path.name, path, partial(read_study, path), checked=False)


def read_study(path: Path) -> tuple[object, str, str]:
    """The law of a study, of whose files this one is left; of a copy, as connections outlive the command."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = shutil.copy(path, folder)
        code, output, errors = run_command(
            ["law", "--storage", str(copy), "--loss", "2%", "--cost", "bitops"]
        )
    return code, output.replace(folder, ""), errors


def read_file(reader: Callable[[str], object], path: Path) -> tuple[object, str, str]:
    """What no command reads by itself, with the error that the reader documents told as by a command."""
    try:
        return 0, str(reader(str(path))), ""
    except ValueError as error:  # CheckpointError is one
        return 2, "", f"ordercomp: {error}"


def run_command(command: list[str]) -> tuple[object, str, str]:
    """Exit code, output and errors of `ordercomp` in this process."""
    output, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            ordercomp(command)
        except SystemExit as end:
            code = end.code or 0
    return code, output.getvalue(), errors.getvalue()


def try_damaged(kind: Kind, chance: random.Random) -> None:
    """Damage the file, have it read, and put it back."""
    whole = kind.path.read_bytes()
    damage = chance.choice(DAMAGES)
    damaged = damage(whole, chance)
    if damaged == whole:
        return
    kind.path.write_bytes(damaged)
    kind.files += 1
    start = time.monotonic()
    try:
        code, output, errors = kind.read()
    except Exception as error:
        kind.wrong[f"{type(error).__name__}: {error!s:.100}"] += 1
    else:
        explained = sum(line.startswith("ordercomp:") for line in errors.splitlines())
        if code not in (0, 1, 2) or "Traceback" in errors or (code and explained != 1):
            kind.wrong[f"exit {code}: {errors[-200:]}"] += 1
        kind.harmless += output == kind.sound
        if code == 0 and output != kind.sound:
            kind.silent[damage.__name__] += 1
    kind.seconds = max(kind.seconds, time.monotonic() - start)
    if kind.seconds > SECONDS:
        kind.wrong[f"a command took {kind.seconds:.0f} s"] += 1
    kind.path.write_bytes(whole)


def main() -> int:
    """Damage files of all kinds in turn."""
    parser = argparse.ArgumentParser(description="Damaged files through the commands that read them.")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        kinds = make_files(Path(folder))
        for kind in kinds:
            kind.read()  # imports what it needs
        setattr(answer, "BRIEF", FEW)  # noqa: B010
        for module in (answer, order_model):  # all is imported by now
            setattr(module, "Effort", lambda: FEW)  # noqa: B010
        for kind in kinds:
            code, kind.sound, errors = kind.read()
            if code:
                sys.exit(f"{kind.name} is refused undamaged: {errors}")
        while sum(kind.files for kind in kinds) < chosen.files:
            for kind in kinds:
                try_damaged(kind, chance)
    for kind in kinds:
        told = {
            "files": kind.files,
            "harmless": kind.harmless,
            "silent": kind.silent,
            "wrong": kind.wrong,
            "slowest": round(kind.seconds, 1),
        }
        print(json.dumps({"kind": kind.name, "checksum": kind.checked, **told}))
    return int(any(kind.wrong for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
