"""The page of a search, and the tables that it shares with the terminal."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from page_data import a_search, point
from pages import Page

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.report.plots import search_plot
from ordercomp.analysis.report.result_files import BestPoint, LawPlace, OrderScore
from ordercomp.analysis.report.search_page import MOST_LOSS, write_search_report
from ordercomp.analysis.report.search_words import (
    front_table,
    importance_table,
    law_sentence,
    network_table,
    order_table,
    progress_table,
    search_headline,
)

LADDER = {"0.002": 10.0, "0.01": 30.0, "0.02": 70.0}
RECORDS = [make_record("DP", accuracy=0.97, bitops_cr=64.0), make_record("PD", accuracy=0.9, bitops_cr=512.0)]


EMPTY: Mapping[str, Any] = {
    "networks": 0,
    "value": 0.0,
    "front": (),
    "best": dict.fromkeys(("0.002", "0.006", "0.01", "0.02")),
    "orders": (),
    "winner": None,
    "law": None,
    "progress": (),
    "importances": {"accuracy": {}},
}


def place(order: str, rank: int | None) -> LawPlace:
    return LawPlace(order=order, role="law", evidence="paired", rank=rank, of=2)


def test_the_page_is_self_contained_and_opens_with_the_best_network(tmp_path: Path) -> None:
    write_search_report(tmp_path / "report.html", a_search(), RECORDS)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "<script" not in text
    assert not re.search(r"url\(|@import", text)
    assert "<h1>64× fewer bit operations, losing at most 2 %.</h1>" in text
    assert (
        "Searched for accuracy and log2_bitops_cr within a loss of at most 10 %, on validation data." in text
    )
    assert "rank 2 of 2 tried orders of these stages" in text
    assert "--task &lt;mine&gt;" in text
    assert "2 complete, 1 fail" in text


def test_the_same_search_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "other.html"):
        write_search_report(tmp_path / name, a_search(), RECORDS)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "other.html"]


def test_a_search_without_networks_has_a_page(tmp_path: Path) -> None:
    write_search_report(tmp_path / "report.html", a_search(**EMPTY), [])
    text = (tmp_path / "report.html").read_text()
    assert Page(text).open == []
    assert "<h1>No network loses at most 2 %.</h1>" in text
    assert "this needs ten trials" in text


def test_a_search_for_storage_shows_no_progress_of_bit_operations(tmp_path: Path) -> None:
    write_search_report(tmp_path / "report.html", a_search(cost="log2_cr"), RECORDS)
    assert len(Page((tmp_path / "report.html").read_text()).sources) == 1


def test_the_headline_names_the_cost_that_was_searched_for() -> None:
    assert search_headline(a_search(cost="log2_cr")) == "8× less storage, losing at most 2 %."
    quick = BestPoint(point=point(latency_ms=1.25), compress="")
    search = a_search(cost="latency_ms", best={"0.002": None, "0.02": quick})
    assert search_headline(search) == "1.25 ms an image, losing at most 2 %."


def test_the_headline_is_about_the_loss_that_the_task_tolerates_or_the_nearest_above() -> None:
    best = {loss: BestPoint(point=point(bitops_cr=times), compress="") for loss, times in LADDER.items()}
    told = {loss: search_headline(a_search(loss=loss, best=best)) for loss in (0.01, 0.015, 0.05)}
    assert told == {
        0.01: "30× fewer bit operations, losing at most 1 %.",
        0.015: "70× fewer bit operations, losing at most 2 %.",
        0.05: "70× fewer bit operations, losing at most 2 %.",
    }


@pytest.mark.parametrize(
    ("law", "sentence"),
    [
        (None, ""),
        (
            place("DP", 1),
            "The law of the paired evidence in this study is DP: rank 1 of 2 tried orders of these stages, "
            "worth 5.00 doublings.",
        ),
        (
            place("PD", 2),
            "The law of the paired evidence in this study is PD: rank 2 of 2 tried orders of these stages, "
            "worth 4.50 doublings; the best of them is DP, worth 5.00.",
        ),
        (
            place("DP", None),
            "The law of the paired evidence in this study is DP; the search did not try it.",
        ),
    ],
)
def test_the_law_s_order_is_ranked_in_a_sentence(law: LawPlace | None, sentence: str) -> None:
    orders = tuple(
        OrderScore(order=order, networks=1, value=value, on_front=0)
        for order, value in (("E", 9.0), ("DP", 5.0), ("PD", 4.5))
    )
    assert law_sentence(a_search(law=law, orders=orders)) == sentence


def test_what_loses_too_much_is_not_drawn_and_the_dashboard_is_one_command_away(tmp_path: Path) -> None:
    far = make_record("DP", points=[(0.97, 64.0), (0.40, 4000.0)])
    scale = Scale(split="validation")
    figure = search_plot([far, RECORDS[1]], highlights={}, scale=scale, most_loss=MOST_LOSS)
    assert figure.axes[0].get_ylim()[0] > 0.98 - MOST_LOSS - 0.02
    only = search_plot([make_record("DP", accuracy=0.40)], highlights={}, scale=scale, most_loss=MOST_LOSS)
    assert only.axes[0].get_ylim()[0] < 0.41  # nothing is within, so what there is, is drawn
    line = "optuna-dashboard sqlite:///out/study.db"
    write_search_report(tmp_path / "report.html", a_search(dashboard=line), RECORDS)
    assert line in (tmp_path / "report.html").read_text()


def test_tolerances_that_one_network_serves_share_a_row() -> None:
    table = network_table(a_search())
    assert [row[0] for row in table.rows] == ["0.2 %, 0.6 %", "1 %, 2 %"]
    assert table.rows[0][-1] == "no network is within this loss"


def test_empty_columns_are_left_out() -> None:
    assert list(front_table(a_search()).columns) == [
        "sequence",
        "reduction",
        "storage",
        "test accuracy",
        "loss",
    ]
    exits = front_table(a_search(front=(point(threshold=0.9, latency_ms=2.5),)))
    assert exits.rows == (("D P", "64×", "8×", "2.5 ms", "97.12 %", "+0.80", "0.9"),)


def test_orders_are_cut_and_the_law_s_is_marked() -> None:
    table = order_table(a_search(), most=2)
    assert [row[:2] for row in table.rows] == [("1", "DP"), ("2", "PD")]
    assert table.marked == {1}
    assert table.note.startswith("2 of 3 tried orders")


def test_importances_stand_by_parameter_and_objective() -> None:
    assert importance_table(a_search()).rows == (("P.ratio", "75 %"), ("order", "25 %"))
    assert importance_table(a_search(**EMPTY)).rows == ()


def test_progress_ends_with_the_last_network() -> None:
    rows = progress_table(a_search()).rows
    assert len(rows) == 8
    assert rows[-1] == ("40", "30.0 min", "20", "60.00")
    assert progress_table(a_search(progress=a_search().progress[:1])).rows == (("2", "90 s", "1", "3.00"),)
    assert progress_table(a_search(**EMPTY)).rows == ()
