"""What experiments leave behind is read back as it was written."""

from pathlib import Path

import pytest

from ordercomp.codec import decode, format_json, read_json
from ordercomp.studies.results import Marker, Outcome

RESULTS = Path(__file__).parents[2] / "studies" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/outcome.json"))


def test_there_are_results_to_read() -> None:
    assert len(FOLDERS) > 10


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name[11:]}")
def test_an_outcome_and_its_marker_are_written_byte_for_byte_as_they_were_read(folder: Path) -> None:
    outcome, marker = folder / "outcome.json", folder / "experiment.json"
    read = decode(read_json(outcome), Outcome, "outcome.json")
    assert format_json(read, indent=2) == outcome.read_text(encoding="utf-8")
    held = decode(read_json(marker), Marker, "experiment.json")
    assert format_json(held, indent=2) == marker.read_text(encoding="utf-8")
