"""Results to look at: nothing is lost between text, terminal and notebook, and nothing taken for markup."""

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from rich.console import Console

from ordercomp.analysis.fronts import candidates
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.shown import Shown, shown_front, shown_law, shown_records
from ordercomp.codec import encode
from ordercomp.jobs.compress import Compressed
from ordercomp.jobs.show import show

RECORDS = [
    make_record("DP", points=[(0.979, 8.0), (0.965, 20.0), (0.90, 80.0)]),
    make_record("P", accuracy=0.70, bitops_cr=3.0),
    make_record("Q", error="<b>it</b> [red]diverged[/blue]"),
]


class Cells(HTMLParser):
    """The texts of the cells of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def cells(shown: Shown) -> Cells:
    parser = Cells()
    parser.feed(shown._repr_html_())
    return parser


def terminal(shown: object) -> str:
    text = io.StringIO()
    Console(file=text, width=250, force_terminal=False).print(shown)
    return text.getvalue()


def test_a_record_is_shown_by_its_most_reduced_point_within_two_percent() -> None:
    first = shown_records(RECORDS).tables[0].rows[0]
    assert first[:5] == ("D(depth=0.5) P(ratio=0.4)", "0", "96.50 %", "96.50 %", "20×")
    assert shown_records(RECORDS).tables[0].rows[1][2] == "70.00 %"  # nothing within: the most accurate one
    assert shown_records(RECORDS).lines == ("3 records, 1 of them failed.",)


def test_errors_are_text_everywhere_and_a_column_only_where_there_is_one() -> None:
    shown = shown_records(RECORDS)
    assert "<b>it</b> [red]diverged[/blue]" in cells(shown).cells
    assert "<b>it</b> [red]diverged[/blue]" in terminal(shown)
    assert "<b>it</b> [red]diverged[/blue]" in str(shown)
    assert "error" not in str(shown_records(RECORDS[:2]))


@pytest.mark.parametrize("kind", ["records", "front", "law"])
def test_text_terminal_and_notebook_hold_the_same_cells(kind: str) -> None:
    orders = [make_record(order, seed=seed) for seed in range(3) for order in ("D", "P", "DP", "PD")]
    shown = {
        "records": shown_records(RECORDS),
        "front": shown_front(candidates(RECORDS)),
        "law": shown_law(LawFile(law=derive_law(orders))),
    }[kind]
    assert {"table", "caption", "td"} <= cells(shown).tags
    for row in shown.tables[0].rows:
        for cell in filter(None, row):
            assert cell in cells(shown).cells
            assert cell in terminal(shown)
            assert cell in repr(shown)
    assert all(line in terminal(shown) for line in shown.lines if len(line) < 200)


def test_show_takes_whatever_a_call_returned() -> None:
    law = derive_law([make_record(order, seed=seed) for seed in (0, 1) for order in ("DP", "PD", "D", "P")])
    record = RECORDS[0]
    done = Compressed(record=record, point=record.points[0], keeps_loss=True, path=Path("n"))
    assert "The order of D and P is unsettled." in str(show(encode(law)))
    assert show(done) == show(record) == show([record])
    assert show(candidates(RECORDS)).lines == ("4 operating points on the front.",)
    assert show([]).lines == ("0 records, 0 of them failed.",)
    for wrong, message in ((5, "got int"), ({"a": 1}, "got a mapping of a"), ([record, 5], "got Record")):
        with pytest.raises(ValueError, match=message):
            show(wrong)  # type: ignore[arg-type]
