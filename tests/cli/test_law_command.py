"""`ordercomp law`: the answer first, from folders, files and tables; bad input in one line."""

import json
import re
from pathlib import Path

import pytest
from builders import make_record

from ordercomp.cli.main import main
from ordercomp.records import Record, write_records
from ordercomp.sequence import permutations


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["law", *arguments])
    assert (ended.value.code or 0) == code
    streams = capsys.readouterr()
    return streams.err if code else streams.out


def networks(seeds: int) -> list[Record]:
    return [
        make_record(order, seed, 0.975, 64.0 * (1 + 3 * (order[0] == "D")) + seed)
        for seed in range(seeds)
        for order in permutations("DPQ")
    ]


def folder(path: Path, seeds: int) -> Path:
    path.mkdir()
    (path / "store").mkdir()
    write_records(path / "records.jsonl", networks(seeds))
    return path


@pytest.mark.integration
def test_the_answer_stands_first_with_the_command_of_its_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = run(capsys, str(folder(tmp_path / "run", 3))).splitlines()
    assert lines[0].startswith("Take D → ")
    assert "more bit operations" in lines[1]
    assert lines[2].startswith("4 of the 6 orders that were run are out; 2 may be the best")
    assert lines[3].startswith("Whichever of them is best: D before P and D before Q")
    assert lines[4].startswith("Decided pair by pair, as probabilities for the best chain: D before P")
    assert lines[5] == "D: distill, P: prune, Q: quantize"
    assert lines[6].startswith("The network: 2")
    assert re.search(r"× less storage; on test data 9\d\.\d\d % accuracy, \d\.\d\d points lost", lines[6])
    assert lines[7].startswith("Make it: ordercomp compress 'D(depth=0.5)")
    assert f"--store {tmp_path / 'run' / 'store'} --loss 2% --out D" in lines[7]


def test_with_too_few_seeds_nothing_is_recommended(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = run(capsys, str(folder(tmp_path / "run", 1)))
    assert text.startswith("These records cannot tell yet which order to take at a tolerated loss of 2 %.")
    assert "2 seeds" in text
    assert "guess" not in text
    assert "probability 0." not in text.split("\n\n")[0]


@pytest.mark.integration
def test_short_training_withholds_the_recommendation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = folder(tmp_path / "run", 3)
    prefixes = [make_record("D", seed, 0.9) for seed in range(3)]
    controls = [make_record("DF", seed, 0.96) for seed in range(3)]
    write_records(path / "records.jsonl", [*networks(3), *prefixes, *controls])
    law = json.loads(run(capsys, str(path), "--json"))
    assert {one["recommended"] for one in (law["answer"], *law["answer"]["by_loss"])} == {None}
    assert run(capsys, str(path)).startswith(
        "These records cannot tell which order to take at a tolerated loss of 2 %: 7 of 7 chains gain from "
        "further epochs alone: train for longer."
    )


@pytest.mark.integration
def test_the_loss_of_the_folder_is_taken_unless_another_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = folder(tmp_path / "run", 3)
    (path / "law.json").write_text(json.dumps({"answer": {"loss": 0.05}}))
    assert json.loads(run(capsys, str(path), "--json"))["answer"]["loss"] == 0.05
    assert json.loads(run(capsys, str(path), "--json", "--loss", "1%"))["answer"]["loss"] == 0.01


@pytest.mark.integration
def test_the_cost_of_the_folder_is_taken_unless_another_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = folder(tmp_path / "run", 3)
    (path / "law.json").write_text(json.dumps({"answer": {"loss": 0.05, "cost": "storage"}}))
    assert json.loads(run(capsys, str(path), "--json"))["answer"]["cost"] == "storage"
    assert "cost" not in json.loads(run(capsys, str(path), "--json", "--cost", "bitops"))["answer"]
    assert "bits of storage" in run(capsys, str(path))


@pytest.mark.integration
def test_the_prior_of_the_folder_is_heard_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = folder(tmp_path / "run", 3)
    (path / "law.json").write_text(json.dumps({"answer": {"loss": 0.02, "prior": ["cifar10"]}}))
    assert json.loads(run(capsys, str(path), "--json"))["answer"]["prior"] == ["cifar10"]
    assert "What was recorded on cifar10 is a hint" in run(capsys, str(path))


@pytest.mark.integration
def test_folders_and_files_are_read_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = folder(tmp_path / "run", 2)
    write_records(tmp_path / "more.jsonl", networks(4)[12:])
    law = json.loads(run(capsys, str(path), str(tmp_path / "more.jsonl"), "--json"))
    assert {one["seeds"] for one in law["answer"]["orders"].values()} == {4}
    assert law["answer"]["topological_sorts"]["number"] >= 1


@pytest.mark.integration
def test_a_table_of_other_results_gets_the_same_kind_of_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    rows = [f"{order},{seed},{6 + order.index('B')}.{seed}" for order in ("AB", "BA") for seed in range(4)]
    path.write_text("\n".join(["order,seed,ppl", *rows]))
    chosen = ("--columns", "accuracy=ppl", "--lower-is-better")
    answer = json.loads(run(capsys, str(path), *chosen, "--json"))["answer"]
    assert answer["recommended"] == "BA"
    assert run(capsys, str(path), *chosen).startswith("Take B → A.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table.csv", "--columns", "colour=x"), "--columns must name some of order, seed"),
        (("table.csv",), "lacks the column 'accuracy'; it has: order, seed, ppl"),
        (("table.csv", "--columns", "accuracy=ppl", "--baseline", "95"), "such as 0.95, got 95"),
        (("table.csv", "--columns", "accuracy=ppl", "--cost", "macs"), "cost belongs to a column of reduc"),
        (("table.csv", "run"), "law reads one table at a time"),
        (("run", "--loss", "0%"), r"loss must lie in \(0, 100 %\]"),
        (("run", "--cost", "latency"), "lacks latency_cr: no latency of the exported network was measured"),
        (("run", "--cost", "energy"), "cost must be bitops, storage, macs or latency, got 'energy'"),
        (("run", "--loss", "120%"), "--loss must be a share"),
        (("run", "--lower-is-better"), "belong to a table"),
        ((), "needs either a folder or files of records, or --storage"),
        (("nowhere",), "no file of records at nowhere"),
        (("run", "--stages", "DXZ"), "among those that occur, DPQ, got 'X'"),
    ],
)
def test_bad_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "run", 1)
    (tmp_path / "table.csv").write_text("order,seed,ppl\nAB,0,3\n")
    error = run(capsys, *arguments, code=2)
    assert len(error.strip().splitlines()) == 1
    assert re.search(message, error)


@pytest.mark.parametrize(("baseline", "warned"), [(0.12, True), (0.98, False)])
def test_a_network_that_hardly_beats_guessing_is_warned_of_on_the_first_screen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, baseline: float, warned: bool
) -> None:
    records = [
        make_record(order, seed, baseline, 16.0 - 8.0 * (order == "PD"), baseline=baseline, classes=10)
        for seed in range(3)
        for order in ("D", "P", "DP", "PD")
    ]
    path = tmp_path / "records.jsonl"
    write_records(path, records)
    lines = run(capsys, str(path)).splitlines()
    told = f"ncompressed it reaches {100 * baseline:.2f} % accuracy on test data"
    assert any(told in line for line in lines)
    assert lines[1].startswith("Warning: uncompressed it reaches 12.00 % accuracy") == warned
