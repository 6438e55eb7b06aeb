"""The law of the shipped recordings, byte for byte: only work that means to change it changes these files.

To make one again: ordercomp law studies/recordings/NAME.jsonl.xz --json > tests/golden/NAME.json
"""

from pathlib import Path

import pytest

from ordercomp.studies.cli.main import main

ROOT = Path(__file__).parents[3]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))


def test_there_is_a_golden_law_for_each_recording() -> None:
    recordings = (ROOT / "studies" / "recordings").glob("*.jsonl.xz")
    assert {path.stem for path in GOLDEN} == {path.name.removesuffix(".jsonl.xz") for path in recordings}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_the_law_of_a_recording_is_what_it_was(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = ROOT / "studies" / "recordings" / f"{golden.stem}.jsonl.xz"
    with pytest.raises(SystemExit) as ended:
        main(["law", str(recording), "--json"])
    assert (ended.value.code, capsys.readouterr().out) == (0, golden.read_text(encoding="utf-8"))
