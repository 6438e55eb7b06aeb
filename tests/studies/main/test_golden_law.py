"""The law of the shipped recordings: only work that means to change it changes these files.

The law is the same byte for byte; the answer comes from a sampler, so its numbers are compared to two digits.

To make one again: ordercomp law studies/recordings/NAME.jsonl.xz --json > tests/golden/NAME.json
"""

import json
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
    found, kept = json.loads(capsys.readouterr().out), json.loads(golden.read_text(encoding="utf-8"))
    assert ended.value.code == 0
    answers = [(law.pop("answer"), law.pop("networks")) for law in (found, kept)]
    assert json.dumps(found) == json.dumps(kept)
    (answer, networks), (kept_answer, kept_networks) = answers
    assert answer["recommended"] == kept_answer["recommended"]
    for place in ("by_loss", "by_rung"):
        for one, other in zip(answer[place], kept_answer[place], strict=True):
            assert set(one["orders"]) == set(other["orders"])
            assert one["regret"] == pytest.approx(other["regret"], abs=0.03)
            for order, standing in one["orders"].items():
                assert standing["behind"] == pytest.approx(other["orders"][order]["behind"], abs=0.05)
    assert [one["loss"] for one in networks] == [one["loss"] for one in kept_networks]
