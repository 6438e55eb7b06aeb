"""The report of a law.json with an answer: what it shows, and what its script does in a browser."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_record
from page_data import STAGES, law_file
from pages import Page

from ordercomp.analysis.report import law_page
from ordercomp.analysis.report.law_page import write_report
from ordercomp.records import Record
from ordercomp.sequence import permutations

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def some_records() -> list[Record]:
    records = [make_record(order, seed, 0.97, 64.0) for order in permutations(STAGES) for seed in (0, 1)]
    return [*records, make_record("DPQF", 0, 0.97, 512.0)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, law_file(), some_records())
    return path


def test_the_first_screen_tells_order_cost_doubt_and_command(page: Path) -> None:
    text = page.read_text().replace("\u00a0", " ")
    assert Page(text).open == []
    head = text[: text.index("<main>")]
    for words in (
        "Take D → P → Q if a loss of 2 % is tolerated; 1 other may be as good.",
        "about 9 % more bit operations",
        "4 of the 6 orders that were run are out; 2 may be the best: DPQ or DQP.",
        "Whichever of them is best: D before P and D before Q.",
        "ordercomp compress DPQ --task digits --store &#39;a &amp; b&#39;",
        "DPQ: 64× fewer bit operations, 8× less storage; on test data 96.10 % accuracy, 1.40 points lost",
    ):
        assert words in head
    assert "What holds in every chain that may be the best." in head
    assert "light &lt;knobs&gt;" in text


def test_long_tables_of_chains_are_folded(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert " more</summary>" not in page.read_text()
    monkeypatch.setattr(law_page, "MOST_ROWS", 4)
    write_report(tmp_path / "report.html", law_file(), some_records())
    folded = (tmp_path / "report.html").read_text()
    assert Page(folded).open == []
    assert "<details><summary>2 more</summary>" in folded
    rows = [text.count('<tr data-order="') for text in (page.read_text(), folded)]
    assert rows[0] == rows[1]


def test_recordings_that_were_a_hint_are_named(page: Path, tmp_path: Path) -> None:
    told = "What was recorded on digits and cifar10 is a hint of what each chain is worth"
    file = law_file()
    assert file.answer is not None
    heard = replace(file, answer=replace(file.answer, prior=("digits", "cifar10")))
    write_report(tmp_path / "report.html", heard, some_records())
    assert told in (tmp_path / "report.html").read_text().replace("\u00a0", " ")
    assert "is a hint" not in page.read_text()


def test_a_control_is_no_network_to_take_and_draws_no_curve(page: Path) -> None:
    assert "DPQF" not in page.read_text()


def test_a_set_that_shares_no_precedence_says_so_below_the_drawing(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", law_file(precedence=()), some_records())
    text = (tmp_path / "report.html").read_text()
    assert "No pair of stages is settled: the chains that may be the best share none." in text


def test_without_an_answer_to_tell_nothing_is_recommended(tmp_path: Path) -> None:
    nothing = {
        **dict.fromkeys(("recommended", "regret", "order_matters")),
        "seeds_needed": 3,
        "best_set": (),
        "precedence": (),
        "standings": {},
    }
    write_report(tmp_path / "report.html", law_file(**nothing, by_loss=[], by_setting=[]), some_records())
    text = (tmp_path / "report.html").read_text().replace("\u00a0", " ")
    assert "These records cannot tell yet which order to take at a tolerated loss of 2 %" in text
    assert "No pair of stages is settled: nothing can be told at this loss." in text
    assert 'class="taken"' not in text
    assert Page(text).open == []


def test_where_no_network_is_within_the_loss_its_place_is_hidden_until_another_is_chosen(
    tmp_path: Path,
) -> None:
    file = law_file()
    write_report(tmp_path / "report.html", replace(file, networks=(file.networks or ())[1:]), some_records())
    assert '<div data-shown-with="command" hidden>' in (tmp_path / "report.html").read_text()
    write_report(tmp_path / "report.html", replace(file, networks=()), some_records())
    assert "The network</b>" not in (tmp_path / "report.html").read_text()


def test_names_cannot_end_the_script(tmp_path: Path) -> None:
    records = [make_record(order, 0, 0.97) for order in permutations(STAGES)]
    sly = [*records, make_record("DPQ", 1, 0.9, sequence="D P(ratio=0.4) Q")]
    told = law_file(command="</script><script>alert(1)</script>")
    write_report(tmp_path / "report.html", told, sly)
    text = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in text
    data = text[text.index('id="page-data">') + 15 :]
    assert json.loads(data[: data.index("</script>")])["chosen"] == 0


PROBE = """
<script>
const seen = { errors: [] };
window.addEventListener("error", (event) => seen.errors.push(String(event.message)));
addEventListener("load", () => setTimeout(() => {
  const told = (name) => document.querySelector(`[data-told="${name}"]`);
  const read = (name) => told(name).textContent.replaceAll("\u00a0", " ");
  const clicked = () => new MouseEvent("click", { bubbles: true });
  const click = (selector) => document.querySelector(selector).dispatchEvent(clicked());
  seen.before = read("headline");
  click('button[data-loss="1"]');
  seen.after = read("headline");
  seen.command = read("command");
  seen.network = [document.querySelector("[data-shown-with]").hidden, read("network")];
  seen.taken = [...document.querySelectorAll("#orders .taken")].map((row) => row.dataset.order);
  seen.graphs = [...document.querySelectorAll("[data-graph]")].map((graph) => graph.hidden);
  click('#orders tr[data-order="PDQ"]');
  seen.picked = [...document.querySelectorAll(".picked")].map((node) => node.dataset.order);
  const frame = document.querySelector(".frame"), box = frame.getBoundingClientRect();
  const { axes, points } = JSON.parse(document.getElementById("page-data").textContent);
  const share = (value, axis) => (value - axis[0]) / (axis[1] - axis[0]), scale = box.width / axes.size[0];
  const x = axes.box[0] + share(points.x[0], axes.x) * (axes.box[2] - axes.box[0]);
  const y = axes.box[3] - share(points.y[0], axes.y) * (axes.box[3] - axes.box[1]);
  frame.dispatchEvent(new PointerEvent("pointermove",
    { bubbles: true, clientX: box.left + x * scale, clientY: box.top + y * scale }));
  seen.tip = document.querySelector(".tip").textContent;
  seen.width = document.documentElement.scrollWidth <= innerWidth;
  document.body.dataset.seen = JSON.stringify(seen);
}, 50));
</script>
"""


@pytest.mark.integration
@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium, such as Debian's package")
@pytest.mark.parametrize("width", [400, 1200])
def test_the_script_shows_what_is_chosen_everywhere(page: Path, tmp_path: Path, width: int) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("<head>", f"<head>{PROBE}", 1))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    run = subprocess.run(
        [*command, "--virtual-time-budget=3000", "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    held = run.stdout.split('data-seen="', 1)[1].split('"', 1)[0]
    seen = json.loads(held.replace("&quot;", '"').replace("&amp;", "&"))
    assert seen["errors"] == []
    assert seen["before"] == "Take D → P → Q if a loss of 2 % is tolerated; 1 other may be as good."
    assert seen["after"] == "Take Q → P → D if a loss of 8 % is tolerated; 1 other may be as good."
    assert seen["command"] == "ordercomp compress QPD --task digits --store 'a & b' --out a"
    assert seen["network"][0] is False
    assert seen["network"][1].startswith("QPD: 64× fewer bit operations")
    assert seen["taken"] == ["QPD"]
    assert seen["graphs"] == [True, False]
    assert set(seen["picked"]) == {"PDQ"}
    assert "seed 0 · 64.0 times fewer bit operations" in seen["tip"]
    assert seen["width"]
