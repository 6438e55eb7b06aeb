"""Which law the records of a study support: a design's by pairs, a sampler's by fronts, never mixed."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from builders import make_record

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.cli.main import main
from ordercomp.codec import encode
from ordercomp.jobs.law import law_of_records
from ordercomp.objectives import Objectives
from ordercomp.records import Record, write_records
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_study
from ordercomp.sequence import permutations

LABEL = "Adaptive evidence: a sampler chose these networks, which biases the comparison."


def networks(orders: Iterable[str], seeds: Iterable[int] = range(2), **extra: str) -> list[Record]:
    """Networks of which those with D before P are better."""
    return [
        make_record(order, seed, 0.97 - 0.05 * ("PD" in order) - 0.001 * seed, 64.0, **extra)
        for seed in seeds
        for order in orders
    ]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["law", *arguments])
    assert not ended.value.code, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_sampler_s_networks_order_the_stages_that_they_are_asked_for() -> None:
    records = networks(permutations("DP"), design="adaptive")
    law = law_of_records(records, stages="PD").law
    assert (law.stages, law.evidence) == ("PD", "adaptive")
    assert [(pair.first, pair.second) for pair in law.pairs] == [("P", "D")]
    with pytest.raises(ValueError, match="stages must be distinct letters"):
        law_of_records(records, stages="DD")


@pytest.mark.integration
def test_a_design_outranks_a_sampler_whose_reading_stands_beside_it() -> None:
    designed, chosen = networks(["D", "P", "DP", "PD"]), networks(["DP", "PD"], [9], design="adaptive")
    law = law_of_records([*designed, *chosen])
    assert law.law.evidence == "paired"
    assert law.adaptive is not None
    assert law.law.trainings.done == len(designed)
    assert law_of_records(designed).adaptive is None
    assert encode(law_of_records(chosen))["evidence"] == encode(law)["adaptive"]["evidence"] == "adaptive"


def test_a_sampler_that_lacks_a_stage_is_not_asked_about_it() -> None:
    designed, chosen = networks(permutations("DPQ")), networks(["DP", "PD"], design="adaptive")
    assert law_of_records([*designed, *chosen], stages="DPQ").adaptive is None
    beside = law_of_records([*designed, *chosen], stages="DP").adaptive
    assert beside is not None
    assert beside.stages == "DP"


def test_a_file_of_a_search_is_read_as_adaptive(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, networks(["DP", "PD"], design="adaptive"))
    text = printed(capsys, str(path))
    assert LABEL in text
    write_records(path, networks(["D", "P", "DP", "PD"]))
    assert LABEL not in printed(capsys, str(path))


@pytest.mark.integration
def test_a_storage_is_read_with_its_label_for_the_stages_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    space, objectives = Space("DPQ", SYNTHETIC_KNOBS, optional=True), Objectives()
    study = open_study(
        tmp_path / "study.db",
        name="mine",
        space=space,
        objectives=objectives,
        sampler=make_sampler("random", space),
        task="synthetic",
    )
    spec = StudySpec(space=space, objectives=objectives)
    list(run_study(study, TableRunner(SyntheticWorld()), spec, trials=8))
    storage = str(tmp_path / "study.db")
    assert LABEL in printed(capsys, "--storage", storage)
    law = json.loads(printed(capsys, "--storage", storage, "--study", "mine", "--stages", "QP", "--json"))
    assert (law["evidence"], law["stages"]) == ("adaptive", "QP")
    with pytest.raises(SystemExit) as ended:
        main(["law", "--storage", storage, "--stages", "DX"])
    assert ended.value.code == 2
    assert "stages must be among those that occur, DPQ, got 'X'" in capsys.readouterr().err


def test_the_sampler_s_half_is_printed_under_its_label(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    designed, chosen = networks(["D", "P", "DP", "PD"]), networks(["DP", "PD"], [8, 9], design="adaptive")
    write_records(path, [*designed, *chosen])
    before, after = printed(capsys, str(path)).split(LABEL)
    assert "Which of two stages should come first?" in before
    assert "Which of two stages should come first?" in after
