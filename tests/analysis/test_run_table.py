"""Which records a law is derived from, and what has to be said about them."""

import pytest
from builders import KNOBS, make_record

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record


def gather(records: list[Record], stages: str | None = None) -> RunTable:
    return RunTable.of(records, stages=stages, scale=Scale(split="validation"))


def test_stages_are_those_that_occur_without_the_control() -> None:
    assert gather([make_record("EQ"), make_record("PF", knobs={}), make_record("D")]).stages == "DPQE"


def test_the_baseline_is_no_run() -> None:
    found = gather([make_record(""), make_record("D")])
    assert (found.trainings(0).done, found.trainings(0).unshared, found.seconds) == (1, 1, 1.0)


def test_the_later_of_two_records_of_a_run_counts() -> None:
    found = gather([make_record("D", accuracy=0.5), make_record("D", accuracy=0.9)])
    assert [record.points[0].accuracy for record in found.records.values()] == [0.9]
    assert found.notes == ("1 records repeat a run that was there before; the last one counts.",)


def test_a_fresh_student_is_said_to_put_d_first_by_construction() -> None:
    fresh = {**KNOBS, "D": {"depth": 0.5, "student": "fresh"}}
    (note,) = gather([make_record("DP", knobs=fresh)]).notes
    assert "D first is true by construction, not a finding" in note
    assert gather([make_record("DP")]).notes == ()


def test_failed_runs_are_named() -> None:
    found = gather([make_record("QP", 2, error="loss became NaN"), make_record("P", 2)])
    assert found.notes == ("1 runs failed; they add no network to their chains: QP at seed 2.",)
    assert len(found.records) - len(found.measured) == 1


def test_a_sampler_and_several_accountings_are_mentioned() -> None:
    found = gather([make_record("P", design="adaptive"), make_record("P", accounting="total")])
    assert any("several accountings of epochs" in note for note in found.notes)
    assert any("A sampler chose some" in note for note in found.notes)
    assert gather([make_record("P", design="paired")]).notes == ()


def test_stages_must_be_distinct() -> None:
    with pytest.raises(ValueError, match="stages must be distinct letters, got 'DPD'"):
        gather([make_record("D")], "DPD")


def test_controls_alone_have_no_stage() -> None:
    with pytest.raises(ValueError, match="at least one stage besides the control F"):
        gather([make_record("F", knobs={})])


def test_chains_are_runs_of_distinct_stages_without_controls() -> None:
    table = gather([make_record(order, knobs={}) for order in ("D", "DP", "PD", "DPF", "DD", "DQ", "")])
    assert [run.order for run in table.chains("DP")] == ["D", "DP", "PD"]
    assert {run.order for run in table.chains()} == {"D", "DP", "PD", "DQ"}


def test_permutations_stand_by_setting_and_seed() -> None:
    hard = {**KNOBS, "P": {"ratio": 0.8}}
    records = [make_record(order, seed) for order in ("DP", "PD") for seed in (0, 1)]
    groups = gather([*records, make_record("PD", 1, knobs=hard)]).permutations("PD")
    found = [(setting.steps[0], seed, sorted(runs)) for (setting, seed), runs in groups.items()]
    assert found == [
        ("P(ratio=0.4)", 0, ["DP", "PD"]),
        ("P(ratio=0.4)", 1, ["DP", "PD"]),
        ("P(ratio=0.8)", 1, ["PD"]),
    ]


def test_a_control_knows_the_run_that_it_trains_on() -> None:
    table = gather([make_record(order, knobs={}) for order in ("DP", "DPF", "F", "D")])
    pairs = {run.text: run.controlled.text for run in table.records if run.controlled is not None}
    assert pairs == {"D P F": "D P"}


def test_records_of_several_tasks_make_no_law() -> None:
    table = gather([make_record("D", task="one"), make_record("D", task="two")])
    with pytest.raises(ValueError, match="records must belong to one task, got one, two"):
        _ = table.task
