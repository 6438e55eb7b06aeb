"""Damaged and hostile files for every parser: is each one read, or refused by the documented error?

    python tests/stress/fuzz.py --inputs 1000000 --seed 0 [--only records,task]

Changes good files at random (bits, bytes, pieces cut, doubled, swapped with those of other files, numbers
and brackets beyond all bounds) and hands them to the reader. A changed file that is answered by words not
heard before is kept and changed further, so that the search gets past the first check. Counts inputs,
refusals, and exceptions other than the documented one; of one input in fifty also the peak of Python's
memory against the size of the file, and of all the processor time beyond a tenth of a second. Prints one JSON
line a parser; the exit code is 1 after an undocumented exception, a peak beyond ten times the file and 4 MiB,
or more than 50 microseconds a byte.
"""

import argparse
import contextlib
import gzip
import json
import lzma
import random
import re
import resource
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from ordercomp.analysis.report.result_files import read_law
from ordercomp.analysis.results_table import read_results
from ordercomp.codec import format_json, read_json
from ordercomp.jobs.law import law_of_records
from ordercomp.jobs.recordings import load_recorded
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import CheckpointError, read_checkpoint
from ordercomp.records import RecordError, read_records
from ordercomp.running.store import Store
from ordercomp.running.task import load_task
from ordercomp.sequence import StageSequence
from ordercomp.shipping.packed import load_network, save_packed

ODD = tuple(
    text.encode()
    for text in (
        *("9" * 400, "9" * 5000, "-1", "0", "1e400", "1e-400", "NaN", "Infinity", "null", "true"),
        *("[" * 3000, "{" * 300, '{"a":' * 1500, "\\ud800", "\x00", ",", ":", "\n", "=", "[[a]]"),
        *('""', "\ufeff", "..", "../../x"),
    )
)
MOST_KEPT = 400  # inputs that are changed further
MEASURED = 50  # one input in so many is measured
SMALL = 4 * 2**20  # bytes that reading any file may take
TIMES = 10  # how many times its size a file may take beyond that
QUICK = 0.1  # processor seconds that reading any file may take
SLOW = 50.0  # microseconds a byte that it may take beyond that


@dataclass(frozen=True, slots=True)
class Parser:
    """A reader, good files for it, and the error that it documents."""

    name: str  # of the file
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    error: type[Exception]


def _parsers(folder: Path) -> dict[str, Parser]:
    records = load_recorded("digits")[:4]
    law = format_json(law_of_records(load_recorded("fashion-mnist")[:60]), indent=2)
    lines = b"".join(json.dumps(one.to_json()).encode() + b"\n" for one in records)
    network = folder / "net.safetensors"
    CompressedNetwork.create("resnet8(width=1)", classes=2, channels=1, size=(4, 4)).save(network)
    whole = _without_digest(network)
    save_packed(CompressedNetwork.load(network), network)
    packed = _without_digest(network)
    header = json.dumps({"__metadata__": {"ordercomp": '{"format": 1}'}}).encode()
    store = Store(folder / "store")
    store.put("a" * 64, records[0])
    entry = (store.folder / f"{'a' * 64}.json").read_bytes()
    toml = (
        b'name = "mine"\nmodel = "resnet14(width=8)"\ndata = "digits"\nstages = "DPQ"\nloss = 0.02\n'
        b'extra = ["DD"]\n[recipe]\nepochs = 3\n[knobs.P]\nratio = 0.3\n[[cases]]\nQ = {weights = 2}\n'
    )
    csv = b"order,seed,accuracy,reduction,setting\n,0,0.9,1,\nPQ,0,0.8,4,x\nQP,0,0.7,4,x\n"
    sequence = b"D(depth=0.5) P(ratio=0.4,round_to=8) Q(weights=2,activations=4) E(exits=2,train=joint)"

    def read_entry(path: Path) -> object:
        path.replace(store.folder / f"{'b' * 64}.json")
        return store.get("b" * 64)

    def parse(path: Path) -> object:
        return StageSequence.parse(path.read_text(encoding="utf-8", errors="replace"))

    return {
        "records": Parser("records.jsonl", (lines,), read_records, RecordError),
        "gz": Parser("records.jsonl.gz", (gzip.compress(lines),), read_records, RecordError),
        "xz": Parser("records.jsonl.xz", (lzma.compress(lines, preset=0),), read_records, RecordError),
        "task": Parser("mine.toml", (toml,), lambda path: load_task(str(path)), ValueError),
        "table": Parser("table.csv", (csv,), read_results, ValueError),
        "sequence": Parser("sequence", (sequence,), parse, ValueError),
        "entry": Parser("entry.json", (entry,), read_entry, ValueError),
        "checkpoint": Parser(
            "net", (struct.pack("<Q", len(header)) + header, whole), read_checkpoint, CheckpointError
        ),
        "law": Parser("law.json", (law.encode(),), lambda path: read_law(read_json(path)), ValueError),
        "network": Parser("net", (whole,), CompressedNetwork.load, CheckpointError),
        "packed": Parser("net", (packed,), load_network, CheckpointError),
    }


def _without_digest(network: Path) -> bytes:
    """A network file as former versions wrote it, so that a change gets past the digest."""
    tensors, facts = read_checkpoint(network)
    return save(tensors, {"ordercomp": json.dumps(facts)})


def _change(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice((0, 1, 1, 4, chance.randrange(1, 64)))
        kind = chance.randrange(6)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place : place + length] = chance.choice(ODD)
        elif kind == 2:
            changed[place : place + length] = chance.randbytes(chance.randrange(5))
        elif kind == 3:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 20))
        elif kind == 4:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            changed[place : place + length] = other[start : start + chance.randrange(64)]
        else:
            del changed[place : place + chance.choice((length, len(changed)))]
    return bytes(changed)


def _fuzz(parser: Parser, folder: Path, inputs: int, chance: random.Random) -> dict[str, object]:
    kept, heard = list(parser.seeds), {""}
    path, refused, worst, slowest = folder / parser.name, 0, 0.0, 0.0
    undocumented: dict[str, str] = {}
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(inputs):
        content = _change(chance.choice(kept), kept, chance)
        path.write_bytes(content)
        measured = number % MEASURED == 0
        if measured:
            tracemalloc.start()
        words, began = "", time.process_time()
        try:
            parser.read(path)
        except parser.error as error:
            words = re.sub(r"'.*?'|\d+|\".*?\"", "", str(error))[:80]
            refused += 1
        except Exception as error:
            undocumented.setdefault(type(error).__name__, f"{error!s:.100} for {content[:200]!r}")
        if not measured and time.process_time() - began > QUICK:  # measuring memory takes time itself
            slowest = max(slowest, _seconds_again(parser, path, content) / max(1, len(content)))
        if measured:
            worst = max(worst, (tracemalloc.get_traced_memory()[1] - SMALL) / max(1, len(content)))
            tracemalloc.stop()
        if words not in heard and len(kept) < MOST_KEPT and len(content) < 2**16:
            heard.add(words)
            kept.append(content)
    return {
        "inputs": inputs,
        "refused": refused,
        "answers": len(heard),
        "undocumented": undocumented,
        "peak_times_file": round(worst, 1),
        "microseconds_a_byte": round(1e6 * slowest, 1),
        "resident_growth_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10,
        "seconds": round(time.monotonic() - start, 1),
    }


def _seconds_again(parser: Parser, path: Path, content: bytes) -> float:
    """Processor seconds beyond a tenth that reading takes once more: at first something may be imported."""
    path.write_bytes(content)
    began = time.process_time()
    with contextlib.suppress(Exception):
        parser.read(path)
    return max(0.0, time.process_time() - began - QUICK)


def main() -> int:
    """Fuzz each parser with its share of the inputs."""
    command = argparse.ArgumentParser(description="Damaged and hostile files for every parser.")
    command.add_argument("--inputs", type=int, default=100_000)
    command.add_argument("--only", default="")
    command.add_argument("--seed", type=int, default=0)
    chosen = command.parse_args()
    bad = False
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        parsers = _parsers(Path(folder))
        names = chosen.only.split(",") if chosen.only else list(parsers)
        for name in names:
            share = max(1, chosen.inputs // len(names) // (20 if name in ("network", "packed") else 1))
            found = _fuzz(parsers[name], Path(folder), share, random.Random(f"{chosen.seed} {name}"))
            print(json.dumps({"parser": name, **found}), flush=True)
            bad = bad or bool(found["undocumented"]) or float(str(found["peak_times_file"])) > TIMES
            bad = bad or float(str(found["microseconds_a_byte"])) > SLOW
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
