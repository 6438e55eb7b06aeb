"""What experiments leave behind is read back as it was written."""

from pathlib import Path

import pytest

from ordercomp.codec import format_json, read_as, write_json
from ordercomp.studies.results import Marker, Outcome

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "studies" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/outcome.json"))


def test_there_are_results_to_read() -> None:
    assert len(FOLDERS) > 10


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name[11:]}")
def test_an_outcome_and_its_marker_are_written_byte_for_byte_as_they_were_read(
    folder: Path, tmp_path: Path
) -> None:
    for name, kind in (("outcome.json", Outcome), ("experiment.json", Marker)):
        before = (folder / name).read_bytes()
        read = read_as(folder / name, kind)
        write_json(tmp_path / name, read)
        old = format_json(read, indent=2).encode()  # of before there were checksums
        assert before == (tmp_path / name).read_bytes() if b'"checksum"' in before else before == old


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name[11:]}")
def test_an_outcome_names_its_place_in_the_repository(folder: Path) -> None:
    assert read_as(folder / "outcome.json", Outcome).folder == folder.relative_to(ROOT).as_posix()
