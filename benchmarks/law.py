"""What an answer costs: seconds of one core that `ordercomp law` takes on recordings, and on copies of one.

python benchmarks/law.py                                          # the shipped recordings, 10,000 records
python benchmarks/law.py --former other/.venv/bin/ordercomp       # beside another build, in turns
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ordercomp.files import read_bytes

RECORDINGS = Path(__file__).parents[1] / "studies" / "recordings"
COPIED = RECORDINGS / "digits.jsonl.xz"


def main() -> None:
    """Print for each file its records, the seconds of each build, least of all rounds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, default=sorted(RECORDINGS.glob("*.jsonl.xz")))
    parser.add_argument("--records", type=int, default=10_000, help="of the copies of digits; 0: no copies")
    parser.add_argument("--former", type=Path, help="the program ordercomp of another build")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = [Path(shutil.which("ordercomp", path=Path(sys.executable).parent) or "ordercomp")]
    programs += [] if options.former is None else [options.former.absolute()]
    with tempfile.TemporaryDirectory() as folder:
        copies = [] if options.records == 0 else [_copies(Path(folder) / "copies.jsonl", options.records)]
        for file in (*options.files, *copies):
            rounds = [[seconds_of(program, file) for program in programs] for _ in range(options.rounds)]
            seconds = [min(column) for column in zip(*rounds, strict=True)]
            records = sum(1 for line in read_bytes(file).split(b"\n") if line)
            former = [f"former {other:6.2f} s, {other / seconds[0]:4.1f} times" for other in seconds[1:]]
            print(f"{file.name:<24} {records:6} records {seconds[0]:6.2f} s", *former)


def seconds_of(program: Path, file: Path) -> float:
    """Seconds of the processor that `program law file --json` takes, with one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [program, "law", file, "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _copies(path: Path, number: int) -> Path:
    """So many records: those of digits again and again, each time at other seeds."""
    records = [json.loads(line) for line in read_bytes(COPIED).split(b"\n") if line]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in _shifted(records, number)))
    return path


def _shifted(records: Sequence[dict[str, object]], number: int) -> Iterator[dict[str, object]]:
    seeds = 1 + max(int(str(record["seed"])) for record in records)
    for place in range(number):
        copy, row = divmod(place, len(records))
        yield {**records[row], "seed": int(str(records[row]["seed"])) + copy * seeds}


if __name__ == "__main__":
    main()
