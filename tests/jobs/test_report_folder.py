"""A page made again from a folder, and folders that have none."""

import html
import json
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from builders import make_record
from page_data import a_search, law_file

from ordercomp.analysis.report.law_page import write_report
from ordercomp.codec import encode, write_json
from ordercomp.jobs.search_folder import report
from ordercomp.records import write_records
from ordercomp.sequence import permutations

MARK = "# of whoever made these files, to be read before it is run: "
RECORDS = [make_record(order, seed, 0.97) for order in permutations("DPQ") for seed in (0, 1)]


def filled(folder: Path, **files: object) -> Path:
    write_records(folder / "records.jsonl", RECORDS)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_page_of_a_law_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    write_report(tmp_path / "first.html", law_file(), RECORDS)
    page = report(filled(tmp_path, law=encode(law_file())))
    assert page == tmp_path / "report.html"
    assert page.read_bytes() == (tmp_path / "first.html").read_bytes()


def test_the_page_of_a_search_leaves_out_what_breaks_a_constraint(tmp_path: Path) -> None:
    search = a_search()
    whole = report(filled(tmp_path, search=encode(search))).read_text()
    strict = replace(search, objectives=replace(search.objectives, max_loss=0.0))
    fewer = report(filled(tmp_path, search=encode(strict))).read_text()
    assert "Accuracy against reduction" in whole
    assert "Accuracy against reduction" not in fewer


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "holds records but neither law.json nor search.json"),
        ({"law": "{"}, "law.json is damaged: not valid JSON"),
        ({"law": []}, r"law.json must be a table of settings, got \[\]"),
        ({"law": {}}, "law.json lacks the key 'task'"),
        ({"law": {**encode(law_file()), "stages": "DZ"}}, "a law of stages 'DZ' cannot tell of stage 'P'"),
        ({"law": {**encode(law_file()), "pairs": [{}]}}, r"law.json pairs\[0\] lacks the key 'first'"),
        ({"search": {}}, "search.json lacks the key 'task'"),
        ({"search": {**encode(a_search()), "objectives": 3}}, "search.json objectives must be a table"),
        ({"search": {**encode(a_search()), "cost": "time"}}, "'cost' must be log2_bitops_cr or log2_cr or"),
    ],
)
def test_a_foreign_folder_is_refused_in_one_line(tmp_path: Path, files: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        report(filled(tmp_path, **files))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("orders",), []),
        (("answer", "best_set"), []),
        (("answer", "regret", "expected"), 1e308),
        (("networks", 0, "reduction"), 1e-300),
    ],
)
def test_odd_values_of_a_law_are_shown(tmp_path: Path, key: tuple[str | int, ...], value: object) -> None:
    law: Any = json.loads(json.dumps(encode(law_file())))
    *way, last = key
    reduce(lambda table, name: table[name], way, law)[last] = value
    assert report(filled(tmp_path, law=law)).read_text().endswith("</html>")


def test_a_damaged_law_is_refused_by_its_checksum(tmp_path: Path) -> None:
    write_records(tmp_path / "records.jsonl", RECORDS)
    write_json(tmp_path / "law.json", law_file())
    whole = (tmp_path / "law.json").read_text()
    (tmp_path / "law.json").write_text(whole.replace('"DPQ"', '"DQP"', 1))
    with pytest.raises(ValueError, match=r"law.json is damaged: its checksum says so"):
        report(tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("ordercomp compress DP --task digits --seed 0 --loss 2% --out DP-loss-2.safetensors", True),
        ("ordercomp compress DP --task theirs.toml --seed 0 --loss 2% --out DP-loss-2.safetensors", False),
        ("ordercomp compress DP --task digits --seed 0 --loss 2% --out ../mine", False),
        ("ordercomp compress DP --task digits --seed 0 --out a; touch flag", False),
        ("ordercomp compress DP --task digits --trust-model a:b --out a", False),
        ("touch flag\ntouch another", False),
        ("touch 'flag", False),
    ],
)
def test_a_command_that_may_be_a_strangers_is_shown_as_a_comment(
    tmp_path: Path, command: str, ours: bool
) -> None:
    law, search = law_file(), a_search()
    assert law.networks
    law = replace(law, networks=(replace(law.networks[0], command=command), *law.networks[1:]))
    page = html.unescape(report(filled(tmp_path, law=encode(law))).read_text())
    shown = f"<code>{'' if ours else MARK}{' '.join(command.split())}</code>"
    assert shown in page
    (tmp_path / "law.json").unlink()
    best = {loss: one and replace(one, compress=command) for loss, one in search.best.items()}
    page = report(filled(tmp_path, search=encode(replace(search, best=best, dashboard=command)))).read_text()
    assert shown in html.unescape(page)
    assert ours or f"<code>{MARK}" in page


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no records.jsonl in it"):
        report(tmp_path)
