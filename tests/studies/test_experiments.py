"""Experiments: what they train, that they share and resume it, and what they make of planted truths."""

import json
import math
import random
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.codec import encode
from ordercomp.records import Baseline, OperatingPoint, Record, read_records
from ordercomp.running.jobs import Finished, NodeJob, Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import TASKS, Task
from ordercomp.sequence import StageSequence
from ordercomp.studies import proxies, rivals
from ordercomp.studies import run as experiments
from ordercomp.studies.experiment import ClaimVerdict, Conclusion
from ordercomp.studies.preset import Preset
from ordercomp.studies.results import Marker, Outcome, ResultFolder, read_folder
from ordercomp.studies.run import EXPERIMENTS, RunOptions, read_experiment, run_experiment

pytestmark = pytest.mark.integration

DIGITS = TASKS["digits"]
SMALL = Preset(
    name="small",
    description="",
    seeds=2,
    most_settings=(2, 1),
    settings={letter: ({},) for letter in "DPQE"},
    ladder={"P": ({}, {"ratio": 0.6}), "Q": ({}, {"weights": 4, "activations": 8})},
)
DOUBLINGS: Mapping[str, float] = {"D": 1.0, "P": 1.5, "Q": 7.0, "E": 0.5, "L": 1.0}


def pretend(job: NodeJob) -> Record:
    """A record in which every pair of stages in the paper's order saves accuracy; E has two points."""
    order = job.sequence.order
    wrong = sum(
        "DPQE".find(a) > "DPQE".find(b) >= 0 for place, a in enumerate(order) for b in order[place + 1 :]
    )
    noise = (zlib.crc32(f"{job.sequence}{job.seed}".encode()) % 100) / 50_000
    accuracy = 0.97 - 0.03 * wrong - noise
    reduction = 2 ** sum(DOUBLINGS.get(letter, 0.0) for letter in order)
    points = [_point(None, accuracy, reduction)]
    if "E" in order:
        points.append(_point(0.9, accuracy - 0.005, 1.2 * reduction))
    record = Record(
        order=order,
        sequence=str(job.sequence),
        task=job.task.name,
        seed=job.seed,
        epochs=sum(float(step.settings.get("epochs", 30.0)) for step in job.sequence.steps),
        seconds=0.1,
        baseline=Baseline(accuracy=0.98, test_accuracy=0.98),
        points=tuple(points),
        extra={"digest": job.key},
    )
    Store(job.store_root).put(job.key, record, _write_network)
    return record


def _write_network(path: Path) -> None:
    path.write_text("network")


def _point(threshold: float | None, accuracy: float, reduction: float) -> OperatingPoint:
    return OperatingPoint(
        threshold=threshold,
        accuracy=accuracy,
        test_accuracy=accuracy,
        bitops_cr=reduction,
        cr=math.sqrt(reduction),
    )


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks that were checked; the check itself, which takes seconds, is left to tests of its own."""
    tasks: list[Task] = []
    monkeypatch.setattr(experiments, "check_task", tasks.append)
    return tasks


def run(name: str, out: Path, **options: object) -> Outcome:
    """Run an experiment without training."""
    with ThreadPoolExecutor(2) as executor:
        chosen = RunOptions(**{"executor": executor, "work": pretend, "date": "2026-01-02", **options})  # type: ignore[arg-type]
        return run_experiment(name, task=DIGITS, preset=SMALL, out=out, options=chosen)


def conclusion(outcome: Outcome) -> Conclusion:
    return Conclusion(findings=outcome.findings, tables=outcome.tables, notes=outcome.notes)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_decides_and_draws(
    name: str, tmp_path: Path, checked: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "AXES", proxies.AXES[:1])  # a copy by one share, and one by two
    monkeypatch.setattr(proxies, "BOTH", proxies.BOTH[:1])
    monkeypatch.setattr(rivals, "GROUPS", ("PQK", "DP"))
    outcome = run(name, tmp_path)
    assert outcome.complete
    assert checked == [DIGITS]
    assert outcome.findings
    assert outcome.folder == str(tmp_path / f"2026-01-02_{name}")
    told = json.loads((Path(outcome.folder) / "outcome.json").read_text())
    assert told["verdict"] == outcome.verdict
    assert {finding["verdict"] for finding in told["findings"]} <= {
        "agree",
        "disagree",
        "undecided",
        "true by construction",
    }
    assert (Path(outcome.folder) / "outcome.md").read_text().startswith(f"# {name}")
    figures = list(Path(outcome.folder).glob("*.svg"))
    assert figures
    assert all(figure.read_text().startswith("<?xml") for figure in figures)
    records = read_records(Path(outcome.folder) / "records.jsonl")
    random.Random(0).shuffle(records)  # nothing depends on which training ended first
    again = EXPERIMENTS[name].decide(records)
    assert again == conclusion(outcome)
    assert told["findings"] == encode(again.findings)
    assert {path.stem for path in figures} == set(EXPERIMENTS[name].figures(records))


def test_the_second_experiment_trains_only_what_the_first_did_not(tmp_path: Path) -> None:
    first = run("pairwise", tmp_path)
    again = run("pairwise", tmp_path)
    second = run("repetition", tmp_path)
    assert first.trainings.done == first.planned
    assert (again.trainings.done, again.trainings.reused) == (0, first.planned)
    alone = run("repetition", tmp_path / "alone")
    assert second.trainings.done < alone.trainings.done
    assert conclusion(second) == conclusion(alone)


def test_records_are_appended_once_and_kept_over_runs(tmp_path: Path) -> None:
    first = run("repetition", tmp_path)
    lines = (Path(first.folder) / "records.jsonl").read_text()
    run("repetition", tmp_path)
    assert (Path(first.folder) / "records.jsonl").read_text() == lines
    records = read_records(Path(first.folder) / "records.jsonl")
    assert len({(record.sequence, record.seed) for record in records}) == len(records) == first.planned


def test_a_run_of_another_day_adds_to_the_same_folder_unless_the_code_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("repetition", tmp_path)
    lines = (Path(first.folder) / "records.jsonl").read_bytes()
    for date in ("2026-01-03", "2025-12-31"):  # a clock may go wrong
        assert run("repetition", tmp_path, date=date).folder == first.folder
    assert (Path(first.folder) / "records.jsonl").read_bytes() == lines
    monkeypatch.setattr("ordercomp.studies.results.code_version", lambda: "edited")
    later = run("repetition", tmp_path, date="2026-01-04")
    assert later.folder == str(tmp_path / "2026-01-04_repetition")
    (Path(later.folder) / "experiment.json").write_text("{")
    assert run("repetition", tmp_path, date="2026-01-05").folder == str(tmp_path / "2026-01-05_repetition")


def test_a_result_folder_can_be_decided_again_from_its_records_alone(tmp_path: Path) -> None:
    outcome = run("repetition", tmp_path)
    experiment, records = read_experiment(outcome.folder)
    assert experiment.decide(records) == conclusion(outcome)
    assert set(experiment.figures(records)) == {path.stem for path in Path(outcome.folder).glob("*.svg")}
    with pytest.raises(ValueError, match="must hold experiment"):
        read_experiment(tmp_path)


def test_a_folder_of_another_task_is_left_as_it_is(tmp_path: Path) -> None:
    outcome = run("repetition", tmp_path)
    before = {path: path.read_bytes() for path in Path(outcome.folder).iterdir()}
    other = replace(DIGITS, name="other", model="resnet8(width=8)", settings=({},))
    options = RunOptions(work=pretend, date="2026-01-02")
    with pytest.raises(ValueError, match=r"holds results of task digits .*, not task other .*another --out"):
        run_experiment("repetition", task=other, preset=SMALL, out=tmp_path, options=options)
    preset = replace(SMALL, name="long")
    with pytest.raises(ValueError, match="holds results of preset small, not preset long"):
        run_experiment("repetition", task=DIGITS, preset=preset, out=tmp_path, options=options)
    assert {path: path.read_bytes() for path in Path(outcome.folder).iterdir()} == before


def test_a_folder_that_lost_its_marker_is_taken_up_again_by_its_own_task_alone(tmp_path: Path) -> None:
    outcome = run("repetition", tmp_path)
    marker = Path(outcome.folder) / "experiment.json"
    before = (Path(outcome.folder) / "records.jsonl").read_bytes()
    marker.unlink()
    options = RunOptions(work=pretend, date="2026-01-02")
    other = replace(DIGITS, name="other", model="resnet8(width=8)", settings=({},))
    with pytest.raises(ValueError, match="holds other files, without an experiment"):
        run_experiment("repetition", task=other, preset=SMALL, out=tmp_path, options=options)
    assert run("repetition", tmp_path).folder == outcome.folder
    assert marker.exists()
    assert (Path(outcome.folder) / "records.jsonl").read_bytes() == before


def test_a_folder_that_is_removed_in_a_run_is_marked_again(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path / "out", Marker(experiment="one", tasks={"digits": "1"}))
    shutil.rmtree(tmp_path / "out")
    record = make_record("DP", task="digits")
    folder.add(Finished(Request(StageSequence.parse(record.sequence), 0), record, reused=False))
    assert read_folder(tmp_path / "out") == ("one", [record])


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-02_exhaustive"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        run("exhaustive", tmp_path)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("budget", "together"), [(None, 3), (60.0, 1)])
def test_seeds_come_together_where_no_budget_may_end_the_run(
    budget: float | None, together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    wanted: list[Request] = []

    class Listening(Runner):
        def __init__(self, *args: Any, side_by_side: int = 1, **options: Any) -> None:
            asked.append(side_by_side)
            super().__init__(*args, **options)

        def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
            wanted.extend(requests)
            return iter(())

    monkeypatch.setattr(experiments, "Runner", Listening)
    options = RunOptions(budget_seconds=budget, work=pretend, date="2026-01-02")
    run_experiment("repetition", task=DIGITS, preset=SMALL, out=tmp_path, options=options)
    assert set(asked) == {together}
    sequences = list(dict.fromkeys(request.sequence for request in wanted))
    by_sequence = [Request(sequence, seed) for sequence in sequences for seed in (0, 1)]
    by_seed = [Request(sequence, seed) for seed in (0, 1) for sequence in sequences]
    assert wanted == (by_sequence if together > 1 else by_seed)


def test_a_spent_budget_ends_with_what_is_there(tmp_path: Path) -> None:
    outcome = run("exhaustive", tmp_path, budget_seconds=1e-6)
    assert (outcome.measured, outcome.complete) == (0, False)
    assert "Only 0 of" in outcome.verdict


def test_a_task_that_cannot_be_measured_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    task = replace(DIGITS, model="nowhere:net")
    with pytest.raises(ValueError, match="nowhere"):
        run_experiment("single", task=task, preset=SMALL, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_experiment_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'pairwize'; did you mean pairwise"):
        run("pairwize", tmp_path)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_half_of_the_records_can_be_decided_and_drawn(name: str) -> None:
    records = simulate(Planted.law("DPQE", 1.0), seeds=2, rng=np.random.default_rng(0))
    for count in (7, 40):
        findings = EXPERIMENTS[name].decide(records[:count]).findings
        assert all(finding.seeds <= 2 for finding in findings)
        assert {finding.verdict for finding in findings} <= {"undecided", "true by construction"}
        figures = EXPERIMENTS[name].figures(records[:count])
        assert figures
        assert all(ElementTree.fromstring(text).tag.endswith("svg") for text in figures.values())


def test_the_index_lists_every_result_of_a_folder_and_what_was_decided(tmp_path: Path) -> None:
    outcomes = {name: run(name, tmp_path) for name in ("single", "stagewise")}
    text = (tmp_path / "index.md").read_text()
    for name, outcome in outcomes.items():
        verdicts = [finding.verdict for finding in outcome.findings]
        counts = [str(verdicts.count(verdict)) for verdict in get_args(ClaimVerdict)]
        (row,) = (line for line in text.splitlines() if line.startswith(f"| [{name}]"))
        assert row.endswith(f"| {' | '.join([str(outcome.planned), *counts])} |")
        for finding in outcome.findings:
            assert (finding.sentence in text) == (finding.verdict in ("agree", "disagree"))


@pytest.mark.slow
def test_two_experiments_train_and_share_for_real(tmp_path: Path) -> None:
    preset = replace(SMALL, epochs=1.0, seeds=1)
    options = RunOptions(date="2026-01-02")
    first = run_experiment("stagewise", task=DIGITS, preset=preset, out=tmp_path, options=options)
    second = run_experiment("versus", task=DIGITS, preset=preset, out=tmp_path, options=options)
    assert first.complete
    assert second.complete
    assert second.trainings.reused >= first.planned
    records = read_records(Path(second.folder) / "records.jsonl")
    taught = [record for record in records if "teacher" in record.sequence]
    assert taught
    assert all(record.error is None for record in taught)


def planted(truth: Planted) -> list[Record]:
    return simulate(truth, seeds=6, rng=np.random.default_rng(3))


@pytest.mark.parametrize(("order", "verdict"), [("DPQE", "agree"), ("EQPD", "disagree")])
def test_a_planted_law_is_told_from_its_reverse(order: str, verdict: str) -> None:
    records = planted(Planted.law(order, 1.0, node_noise=0.05, seed_noise=0.1, interaction=0.02))
    pairs = EXPERIMENTS["pairwise"].decide(records).findings[:6]
    assert [finding.verdict for finding in pairs] == [verdict] * 6
    whole = {finding.claim: finding for finding in EXPERIMENTS["exhaustive"].decide(records).findings}
    assert whole["DPQE is the best of all 24 orders"].verdict == verdict
    assert whole["orders nearer to the law do better"].verdict == verdict


def test_a_single_seed_decides_nothing() -> None:
    records = simulate(Planted.law("DPQE", 1.0), seeds=1, rng=np.random.default_rng(0))
    for name in ("pairwise", "exhaustive"):
        findings = EXPERIMENTS[name].decide(records).findings
        assert {finding.verdict for finding in findings if finding.interval is not None} <= {"undecided"}


def test_under_trained_prefixes_decide_nothing() -> None:
    truth = Planted(
        effects=Planted.law("DPQE", 1.0).effects, under_trained={"P": 4.0, "Q": 4.0, "D": 4.0}, controls=True
    )
    findings = EXPERIMENTS["exhaustive"].decide(planted(truth)).findings
    leaning = [finding for finding in findings if finding.caveat]
    assert leaning
    assert {finding.verdict for finding in leaning} == {"undecided"}


def test_a_fresh_student_makes_d_first_true_by_construction() -> None:
    knobs = {"D": {"depth": 0.5, "student": "fresh"}}
    records = planted(replace(Planted.law("DPQE", 1.0), knobs=(knobs,)))
    findings = EXPERIMENTS["pairwise"].decide(records).findings
    found = {finding.claim[-11:-1]: finding.verdict for finding in findings[:6]}
    assert found["DP over PD"] == found["DQ over QD"] == "true by construction"
    assert found["DE over ED"] == "agree"  # a fresh student keeps the exits
    assert any("not a finding" in finding.sentence for finding in findings[:6])


def test_a_lack_of_memory_is_tried_again_and_never_recorded(tmp_path: Path) -> None:
    def run_short(job: NodeJob) -> Record:
        if job.sequence.order == "P":
            raise MemoryError("no memory left")
        return pretend(job)

    first = run("pairwise", tmp_path, work=run_short)
    assert not first.complete
    assert all(record.error is None for record in read_records(Path(first.folder) / "records.jsonl"))
    again = run("pairwise", tmp_path, work=pretend)
    assert again.complete
    assert all(record.error is None for record in read_records(Path(again.folder) / "records.jsonl"))
