"""The content of a law.json: whole there and back, readable with less, and clear about what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from page_data import a_law, law_file

from ordercomp.analysis.law import derive_law
from ordercomp.analysis.report.result_files import LawFile, read_law
from ordercomp.codec import encode, format_json

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.json"))
BARE = {key: encode(a_law())[key] for key in ("task", "stages", "law", "orders", "cycle", "pairs", "seconds")}
BARE |= {"trainings": {"done": 15, "reused": 0, "unshared": 33}, "verification": None, "unique": True}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_law_that_is_read_is_written_byte_for_byte(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_json(read_law(json.loads(text)), indent=2) == text


def test_what_a_sampler_s_networks_say_is_read_as_such() -> None:
    records = [make_record(order, seed) for order in ("DP", "PD") for seed in range(6)]
    file = LawFile(law=derive_law(records, sampled=True))
    assert encode(file)["evidence"] == "adaptive"
    for told in (file, LawFile(law=a_law(), adaptive=file.law)):
        assert encode(read_law(encode(told))) == encode(told)


def test_the_keys_of_the_contract_are_enough_and_unknown_ones_do_no_harm() -> None:
    assert read_law(BARE) == LawFile(law=a_law())
    pairs = [{**pair, "new": 1} for pair in BARE["pairs"]]
    assert read_law({**BARE, "pairs": pairs, "new": {"a": []}}) == LawFile(law=a_law())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"orders": "DPQ"}, "law.json key 'orders' must be a list, got 'DPQ'"),
        ({"pairs": [{"first": "D"}]}, r"law.json pairs\[0\] lacks the key 'second'"),
        ({"pairs": [{**BARE["pairs"][0], "verdict": "so"}]}, r"'pairs\[0\].verdict' must be before or after"),
        ({"pairs": [{**BARE["pairs"][0], "effect": "x"}]}, r"'pairs\[0\].effect' must be a number, got 'x'"),
        ({"answer": {"loss": "x"}}, "law.json key 'answer.loss' must be a number or null, got 'x'"),
        ({"answer": 5}, "law.json answer must be a table of settings, got 5"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_law({**BARE, **change})


def test_an_answer_s_metric_and_withheld_reason_are_read_back() -> None:
    data = encode(law_file())
    data["answer"] |= {"metric": "macro F1", "withheld": "too short"}
    answer = read_law(data).answer
    assert answer is not None
    assert (answer.metric, answer.withheld) == ("macro F1", "too short")
