import shlex
from pathlib import Path

import pytest
from builders import make_record
from page_data import a_control, a_pair

from ordercomp.analysis.networks import compress_command
from ordercomp.analysis.ranking import rank_orders
from ordercomp.analysis.report.tables import (
    Table,
    best_network_table,
    convergence_table,
    duration_text,
    failure_table,
    interval_text,
    pair_table,
    percent_text,
    points_text,
    ranking_table,
    reduction_table,
    threshold_text,
)
from ordercomp.analysis.statistics import Effect
from ordercomp.sequence import StageSequence


def test_text_form_aligns_columns() -> None:
    table = Table.of("T", ("a", "n"), (("x", "1"), ("yy", "10")), left=("a",), note="N")
    assert table.to_text() == "T\na    n\n--  --\nx    1\nyy  10\nN"


def test_row_of_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="rows must have 1 cells like columns"):
        Table.of("T", ("a",), (("x", "y"),))


def test_reductions_are_geometric_means_over_seeds_with_their_range() -> None:
    records = [make_record("DP", 0, 0.975, 100.0), make_record("DP", 1, 0.975, 400.0)]
    table = reduction_table([*records, make_record("PD", 0, 0.90, 900.0), make_record("PD", 1, 0.90, 900.0)])
    assert list(table.columns[1:5]) == [
        "loss ≤ 0.2 %",
        "loss ≤ 0.6 %",
        "loss ≤ 1 %",
        "loss ≤ 2 %",
    ]
    assert table.rows[0] == ("DP", "–", "200× (100–400)", "200× (100–400)", "200× (100–400)", "2")
    assert len(table.rows) == 1
    assert table.note.endswith("1 of 2 orders have no network within these losses.")


def test_seed_without_network_within_the_loss_counts_as_no_reduction() -> None:
    records = [make_record("DP", 0, 0.975, 100.0), make_record("DP", 1, 0.5, 400.0)]
    assert reduction_table(records, tolerances=[0.02]).rows[0][1] == "10× (1–100)"


def test_pair_table_says_who_comes_first_and_marks_under_trained_pairs() -> None:
    effect = Effect(mean=-0.31, interval=(-0.5, -0.12), probability=0.02)
    pair = a_pair("D", "P", "after", effect=effect, contexts=12, under_trained=True)
    row = pair_table([pair]).rows[0]
    assert row == ("D P", "P before D", "0.02", "-0.31", "-0.50 to -0.12", "12", "3", "under-trained")


def test_ranking_marks_the_law_and_counts_swaps() -> None:
    records = [make_record("DP", seed, 0.98, 16.0) for seed in (0, 1)]
    records += [make_record("PD", seed, 0.98, 8.0) for seed in (0, 1)]
    table = ranking_table(rank_orders(records, "DP"), law="PD")
    assert table.rows == (
        ("1", "DP", "4.00", "± 0.00", "0.00", "1", "2"),
        ("2", "PD", "3.00", "± 0.00", "1.00", "0", "2"),
    )
    assert table.marked == {1}


def test_ranking_on_unequal_terms_says_so() -> None:
    table = ranking_table(rank_orders([make_record("DP", 0), make_record("PD", 1)], "DP"), law="DP")
    assert "Not all orders were run at the same seeds and knobs" in table.note


def test_best_network_comes_with_a_command_whose_sequence_parses_back() -> None:
    record = make_record("DPQE", 3, points=[(0.979, 64.0), (0.965, 500.0)], test_shift=-0.001)
    table = best_network_table([record])
    assert table.rows[0][1:7] == ("64×", "8×", "97.80 %", "+0.10", "3", "")
    assert table.rows[1][1:7] == ("500×", "62.5×", "96.40 %", "+1.50", "3", "0.9")
    assert [row[0] for row in table.rows] == ["0.2 %, 0.6 %, 1 %", "2 %"]
    assert table.rows[0][7] == compress_command(record, 0.002, exact=record.points[0])
    words = shlex.split(table.rows[1][7])
    assert str(StageSequence.parse(words[2])) == record.sequence
    expected = "--task synthetic --seed 3 --threshold 0.9 --out DPQE-loss-2.safetensors"
    assert shlex.join(words[3:]) == expected


def test_tolerance_without_network_says_so() -> None:
    assert (
        best_network_table([make_record("DP", accuracy=0.5)]).rows[0][-1] == "no network is within this loss"
    )


def test_task_files_are_quoted_in_the_command() -> None:
    record = make_record("D", task="mine", task_source="my task.toml")
    assert "--task 'my task.toml'" in compress_command(record, 0.02)


def test_the_command_of_a_network_stores_the_threshold_of_the_loss_or_the_exact_one() -> None:
    record = make_record("DP", 3, points=[(0.97, 50.0), (0.96, 80.0)])
    first, last = record.points
    begin = f"ordercomp compress '{record.sequence}' --task synthetic --seed 3"
    assert compress_command(record, 0.02) == f"{begin} --loss 2% --out DP-loss-2.safetensors"
    assert "--threshold none --out" in compress_command(record, 0.02, exact=first)
    line = compress_command(record, 0.002, exact=last, task="t", store=Path("a b"))
    assert f"--task t --seed 3 --store 'a b' --threshold {last.threshold} --out DP-loss-0.2." in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (119, "119 s"), (210, "3.5 min"), (43_200, "12.0 h"), (7e5, "8.1 days")],
)
def test_a_duration_is_told_in_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_under_trained_controls_are_marked() -> None:
    table = convergence_table([a_control(), a_control("converged")])
    assert table.rows[0] == ("P", "+3.00", "+2.00 to +4.00", "3", "under-trained")
    assert table.marked == {0}
    assert convergence_table([]).rows == ()


def test_failed_runs_are_listed_with_their_error() -> None:
    records = [make_record("D"), make_record("Q", 2, error="loss is NaN")]
    assert failure_table(records).rows == (("Q(weights=2,activations=4)", "2", "loss is NaN"),)


def test_columns_in_which_no_row_says_anything_can_be_left_out() -> None:
    table = Table.of("Title", ("order", "seed", "note"), [("DP", "", ""), ("PD", "", "")], left=("order",))
    assert table.without_empty_columns().columns == ("order",)
    assert table.without_empty_columns("note").columns == ("order", "seed")
    assert [side for _, side in table.aligned] == ["left", "right", "right"]


def test_numbers_are_formatted_alike_everywhere() -> None:
    assert percent_text(0.931) == "93.10 %"
    assert points_text(-0.0025) == "-0.25"
    assert interval_text((-0.1, 0.3)) == "-0.10 to +0.30"
    assert interval_text((-0.1, 0.3), points_text) == "-10.00 to +30.00"
    assert (threshold_text(None), threshold_text(0.5)) == ("", "0.5")
