"""What users' type checkers see: every public name, with its type."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ordercomp

ROOT = Path(__file__).parent.parent
SCRIPT = """
import torch
from ordercomp import CompressedNetwork, Record, StageSequence
from ordercomp import compress, discover, load_network, load_task, show


def main() -> None:
    found = discover(load_task("digits"), out="out", budget_seconds=60)
    law: str | None = found.answer.recommended
    records: list[Record] = list(found.records)
    network = CompressedNetwork.load("out/networks/loss-1.safetensors")
    sequence: StageSequence = network.sequence
    exits: tuple[str, ...] = network.exits
    shipped = load_network("out/networks/loss-1.safetensors")
    prediction = shipped.predict(torch.zeros(1, 8, 8))
    label: int = prediction.label
    print(law, len(records), sequence, exits, label, prediction.confidence)
    small = compress("DPQE", "digits", out="small.safetensors")
    threshold: float | None = small.threshold
    print(show(found), show(records), threshold)
    reveal_type(discover)


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_users_script_passes_the_strict_type_check(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--follow-imports=silent",
        "script.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Revealed type is "def (' in done.stdout


def test_the_stub_and_the_package_offer_the_same_names() -> None:
    stub = (ROOT / "ordercomp" / "__init__.pyi").read_text()
    named = [line.rpartition(" as ")[2] for line in stub.splitlines() if line.startswith("from ")]
    assert sorted(named) == sorted(ordercomp.__all__)
    assert all(getattr(ordercomp, name) is not None for name in named)
