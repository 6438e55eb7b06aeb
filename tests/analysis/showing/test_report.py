import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from page_data import a_search
from pages import Page

from ordercomp.analysis.fronts.front import Scale
from ordercomp.analysis.showing.report import write_report, write_search_report
from ordercomp.analysis.showing.words import read_verdict
from ordercomp.orders import permutations
from ordercomp.records import Record


def bare_law(verdict: str = "before", stages: str = "DPQ") -> dict[str, Any]:
    """A law.json with the keys of the contract alone."""
    pairs = [
        {
            "first": first,
            "second": second,
            "verdict": verdict,
            "probability": 0.98,
            "effect": 0.31,
            "interval": [0.12, 0.5],
            "contexts": 4,
            "seeds": 3,
            "under_trained": False,
        }
        for first, second in itertools.combinations(stages, 2)
    ]
    decided = verdict == "before"
    return {
        "task": "synthetic",
        "stages": stages,
        "law": stages if decided else None,
        "orders": [stages] if decided else permutations(stages),
        "unique": decided,
        "cycle": None,
        "pairs": pairs,
        "verification": None,
        "trainings": {"done": 15, "reused": 0, "unshared": 33},
        "seconds": 90.0,
    }


def some_records() -> list[Record]:
    records = [make_record(order, seed, 0.97) for order in permutations("DPQ") for seed in (0, 1)]
    return [*records, make_record("QP", 1, error="loss is <NaN> at epoch 3", versions={"torch": "2.13"})]


def test_unique_law_is_named_with_its_probability() -> None:
    law = {
        **bare_law(),
        "laws": [{"order": "DPQ", "probability": 0.93}, {"order": None, "probability": 0.07}],
    }
    verdict = read_verdict(law)
    assert verdict.headline == "Law: D → P → Q, with probability 0.93."
    assert verdict.detail == (
        "That is: distill, prune then quantize. No other order agrees with every decided pair. "
        "In 7 % of the resamples the pairs contradict each other."
    )
    assert (verdict.order, verdict.role, verdict.probability) == ("DPQ", "law", pytest.approx(0.93))


def test_law_without_probabilities_claims_none() -> None:
    assert read_verdict(bare_law()).headline == "Law: D → P → Q."
    assert read_verdict(bare_law()).probability is None


def test_no_draws_make_no_probability() -> None:
    verdict = read_verdict({**bare_law("undecided"), "kemeny": "PDQ", "laws": []})
    assert verdict.probability is None
    assert verdict.detail.endswith("P and Q are unsettled.")


def test_orders_beyond_those_that_are_listed_are_not_called_counted() -> None:
    stages = "ABCDEGHI"
    law = {**bare_law("undecided", stages), "orders": permutations(stages)[:5040], "kemeny": stages}
    assert read_verdict(law).headline == "Undecided: at least 5040 of 40320 orders remain possible."


def test_nothing_decided_is_undecided() -> None:
    verdict = read_verdict({**bare_law("undecided"), "kemeny": "PDQ"})
    assert verdict.headline == "Undecided: the records leave all 6 orders possible."
    assert verdict.detail == "The order of D and P; D and Q; P and Q are unsettled."
    assert verdict.role == "best guess"


def test_orders_that_remain_are_listed() -> None:
    law = {**bare_law("tied"), "orders": ["DPQ", "PDQ"]}
    assert read_verdict(law).headline == "Undecided: DPQ or PDQ, of 6 orders."


def test_cycle_is_no_law() -> None:
    law = {**bare_law(), "law": None, "orders": [], "cycle": ["D", "P", "Q", "D"], "kemeny": "DPQ"}
    assert read_verdict(law).headline == ("No law: the decided pairs contradict each other, D → P → Q → D.")


def test_pairs_that_were_trained_too_shortly_are_named() -> None:
    law = bare_law("undecided")
    law["pairs"][0]["under_trained"] = True
    assert read_verdict(law).detail.endswith(
        "Training was too short to judge D and P: more epochs alone still help there."
    )


@pytest.mark.parametrize("verdict", ["before", "undecided", "tied", "conditional"])
def test_page_is_self_contained_and_opens_with_the_verdict(tmp_path: Path, verdict: str) -> None:
    law = bare_law(verdict)
    write_report(tmp_path / "report.html", law, some_records())
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    assert text.index("<h1>") < text.index("<img")
    assert f"<h1>{read_verdict(law).headline}</h1>" in text


def test_page_holds_networks_failures_and_provenance(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", bare_law(), some_records())
    text = (tmp_path / "report.html").read_text()
    assert "ordercomp compress &#34;" in text
    assert "loss is &lt;NaN&gt; at epoch 3" in text
    assert "torch 2.13" in text
    assert "P(ratio=0.4)" in text
    assert "tolerance of 10 points" in text
    assert "Not tested: there are no control runs" in text


def test_pages_tell_what_the_records_notice_of_data_and_stages(tmp_path: Path) -> None:
    said = {"step": "P(ratio=0.4)", "notice": "removes 28% of the channels, where 40% were asked for"}
    records = [
        make_record("", notices=["class <a> has no image"]),
        make_record("DP", achieved=[{"step": "D(depth=0.5)"}, {**said, "notice": "removes 30%"}]),
        make_record("P", achieved=[said]),
    ]
    write_report(tmp_path / "law.html", bare_law(), records)
    write_search_report(tmp_path / "search.html", a_search(), records)
    for name in ("law.html", "search.html"):
        text = (tmp_path / name).read_text()
        assert "<li>class &lt;a&gt; has no image</li>" in text
        assert "<li>P(ratio=0.4) removes 28% of the channels, where 40% were asked for (in P(" in text
        assert "removes 30%" not in text  # one notice for each step, of the shortest sequence


def test_page_shows_more_where_the_law_says_more(tmp_path: Path) -> None:
    control = {"sequence": "P", "gain": 0.03, "interval": [0.02, 0.04], "seeds": 3, "status": "under-trained"}
    rival = {
        "order": "QPD",
        "claim": "the reverse",
        "source": "for contrast",
        "cost": 1.2,
        "interval": [0.8, 1.6],
        "rank": 6,
        "of": 6,
    }
    checked = {"best": "DPQ", "rank": 1, "of": 6, "kendall_tau": -0.7, "sentence": "DPQ holds: rank 1 of 6."}
    law = {
        **bare_law(),
        "convergence": [control],
        "rivals": [rival],
        "verification": checked,
        "insertion": [{"sentence": "D before Q with P inserted holds."}],
        "notes": ["2 runs failed."],
    }
    write_report(tmp_path / "report.html", law, some_records())
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
    write_report(tmp_path / "report.html", bare_law("undecided"), [])
    text = (tmp_path / "report.html").read_text()
    assert Page(text).open == []
    assert "What an order reaches" not in text


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "other.html"):
        write_report(tmp_path / name, bare_law(), some_records())
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "other.html"]


def test_folder_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_report(tmp_path / "missing" / "report.html", bare_law(), [])


def test_page_keeps_to_the_convention_it_is_given(tmp_path: Path) -> None:
    records = [
        make_record(order, 0, 0.97, 60.0, conventions={"honest": 0.5}) for order in permutations("DPQ")
    ]
    write_report(tmp_path / "report.html", bare_law(), records, scale=Scale(convention="honest"))
    text = (tmp_path / "report.html").read_text()
    assert "30×" in text
    assert "60×" not in text
    assert "with each layer&#39;s own bits" in text


def test_missing_convention_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="convention 'honest'"):
        write_report(tmp_path / "report.html", bare_law(), some_records(), scale=Scale(convention="honest"))
    assert list(tmp_path.iterdir()) == []
