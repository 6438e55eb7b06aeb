"""The notebook of the examples: it holds the cells that its program has, executed, and they run."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

from tools.notebook import FILE, blank_notebook, executed  # noqa: E402


def test_the_notebook_holds_the_cells_of_its_program_with_outputs() -> None:
    kept = nbformat.read(FILE, as_version=4)
    nbformat.validate(kept)
    assert [(cell.id, cell.source) for cell in kept.cells] == [
        (cell.id, cell.source) for cell in blank_notebook().cells
    ]
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/svg+xml" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert Path(FILE).stat().st_size < 200_000


@pytest.mark.slow
def test_the_cells_run_and_print_what_they_printed() -> None:
    kept, again = nbformat.read(FILE, as_version=4), executed()
    for one, other in zip(kept.cells, again.cells, strict=True):
        texts = [[output.get("text", "") for output in cell.get("outputs", [])] for cell in (one, other)]
        assert texts[0] == texts[1]
