import re
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from page_data import a_control, a_law, a_pair, a_search
from pages import Page

from ordercomp.analysis.checks import Exhaustive, Insertion, Rival
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.law import OrderChance
from ordercomp.analysis.report.law_page import write_report
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.report.search_page import write_search_report
from ordercomp.analysis.report.text import read_verdict
from ordercomp.records import Record
from ordercomp.sequence import permutations


def a_file(*arguments: Any, **changes: Any) -> LawFile:
    """A law.json without an answer."""
    return LawFile(law=a_law(*arguments, **changes))


def some_records() -> list[Record]:
    records = [make_record(order, seed, 0.97) for order in permutations("DPQ") for seed in (0, 1)]
    return [*records, make_record("QP", 1, error="loss is <NaN> at epoch 3", versions={"torch": "2.13"})]


def test_unique_law_is_named_with_its_probability() -> None:
    laws = (OrderChance(order="DPQ", probability=0.93), OrderChance(order="PDQ", probability=0.07))
    verdict = read_verdict(a_law(laws=laws))
    assert verdict.headline == "Law: D → P → Q, the best order with probability 0.93."
    assert verdict.detail == (
        "That is: distill, prune then quantize. No other order agrees with every decided pair."
    )
    assert (verdict.order, verdict.role, verdict.probability) == ("DPQ", "law", pytest.approx(0.93))


def test_law_without_probabilities_claims_none() -> None:
    assert read_verdict(a_law()).headline == "Law: D → P → Q."
    assert read_verdict(a_law()).probability is None


def test_no_draws_make_no_probability() -> None:
    verdict = read_verdict(a_law("undecided", kemeny="PDQ", laws=()))
    assert verdict.probability is None
    assert verdict.detail.endswith("P and Q are unsettled.")


def test_orders_beyond_those_that_are_listed_are_not_called_counted() -> None:
    stages = "ABCDEGHI"
    law = a_law("undecided", stages, orders=tuple(permutations(stages)[:5040]), kemeny=stages)
    assert read_verdict(law).headline == "Undecided: at least 5040 of 40320 orders remain possible."


def test_nothing_decided_is_undecided() -> None:
    verdict = read_verdict(a_law("undecided", kemeny="PDQ"))
    assert verdict.headline == "Undecided: the records leave all 6 orders possible."
    assert verdict.detail == "The order of D and P; D and Q; P and Q are unsettled."
    assert verdict.role == "best guess"


def test_orders_that_remain_are_listed() -> None:
    assert (
        read_verdict(a_law("tied", orders=("DPQ", "PDQ"))).headline == "Undecided: DPQ or PDQ, of 6 orders."
    )


def test_cycle_is_no_law() -> None:
    law = a_law(law=None, orders=(), cycle=("D", "P", "Q", "D"), kemeny="DPQ")
    assert read_verdict(law).headline == ("No law: the decided pairs contradict each other, D → P → Q → D.")


def test_pairs_that_were_trained_too_shortly_are_named() -> None:
    law = a_law("undecided", pairs=(a_pair(under_trained=True), a_pair("D", "Q"), a_pair("P", "Q")))
    assert read_verdict(law).detail.endswith(
        "Training was too short to judge D and P: more epochs alone still help there."
    )


@pytest.mark.parametrize("verdict", ["before", "undecided", "tied", "conditional"])
def test_page_is_self_contained_and_opens_with_the_verdict(tmp_path: Path, verdict: str) -> None:
    law = a_law(verdict)
    write_report(tmp_path / "report.html", LawFile(law=law), some_records())
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    assert text.index("<h1>") < text.index("<img")
    assert f"<h1>{read_verdict(law).headline}</h1>" in text


def test_page_holds_networks_failures_and_provenance(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", a_file(), some_records())
    text = (tmp_path / "report.html").read_text()
    assert "ordercomp compress &#39;" in text
    assert "loss is &lt;NaN&gt; at epoch 3" in text
    assert "torch 2.13" in text
    assert "P(ratio=0.4)" in text
    assert "half to one and a half times the tolerated one" in text
    assert "Not tested: there are no control runs" in text


def test_pages_tell_what_the_records_notice_of_data_and_stages(tmp_path: Path) -> None:
    said = {"step": "P(ratio=0.4)", "notice": "removes 28% of the channels, where 40% were asked for"}
    records = [
        make_record("", notices=["class <a> has no image"]),
        make_record("DP", achieved=[{"step": "D(depth=0.5)"}, {**said, "notice": "removes 30%"}]),
        make_record("P", achieved=[said]),
    ]
    write_report(tmp_path / "law.html", a_file(), records)
    write_search_report(tmp_path / "search.html", a_search(), records)
    for name in ("law.html", "search.html"):
        text = (tmp_path / name).read_text()
        assert "<li>class &lt;a&gt; has no image</li>" in text
        assert "<li>P(ratio=0.4) removes 28% of the channels, where 40% were asked for (in P(" in text
        assert "removes 30%" not in text  # one notice for each step, of the shortest sequence


def test_page_shows_more_where_the_law_says_more(tmp_path: Path) -> None:
    rival = Rival("QPD", "the reverse", "for contrast", "DPQ", 1.2, (0.8, 1.6), 6, 6)
    checked = Exhaustive(
        best="DPQ",
        rank=1,
        of=6,
        regret=0.0,
        probability_best=None,
        kendall_tau=-0.7,
        sentence="DPQ holds: rank 1 of 6.",
    )
    inserted = Insertion("D", "Q", "P", "holds", "D before Q with P inserted holds.", ())
    file = a_file(
        convergence=(a_control(),),
        rivals=(rival,),
        verification=checked,
        insertion=(inserted,),
        notes=("2 runs failed.",),
    )
    write_report(tmp_path / "report.html", file, some_records())
    text = (tmp_path / "report.html").read_text()
    for words in (
        "under-trained",
        "Rival laws on trial",
        "DPQ holds: rank 1 of 6.",
        "D before Q with P inserted holds.",
        "2 runs failed.",
    ):
        assert words in text


def test_page_without_records_is_shorter_but_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", a_file("undecided"), [])
    text = (tmp_path / "report.html").read_text()
    assert Page(text).open == []
    assert "What a chain reaches" not in text


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "other.html"):
        write_report(tmp_path / name, a_file(), some_records())
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "other.html"]


def test_folder_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_report(tmp_path / "missing" / "report.html", a_file(), [])


def test_page_keeps_to_the_convention_it_is_given(tmp_path: Path) -> None:
    records = [
        make_record(order, 0, 0.97, 60.0, conventions={"honest": 0.5}) for order in permutations("DPQ")
    ]
    write_report(tmp_path / "report.html", a_file(), records, scale=Scale(convention="honest"))
    text = (tmp_path / "report.html").read_text()
    assert "30×" in text
    assert "60×" not in text
    assert "with each layer&#39;s own bits" in text


def test_missing_convention_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="convention 'honest'"):
        write_report(tmp_path / "report.html", a_file(), some_records(), scale=Scale(convention="honest"))
    assert list(tmp_path.iterdir()) == []
