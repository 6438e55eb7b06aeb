"""Batches: what different code, torch or precision made is never pooled, and what is left out is told."""

from typing import Any

from builders import make_record

from ordercomp.analysis.batches import RecordBatch, batch_of, one_batch, warn_of_others
from ordercomp.analysis.report.text import baseline_words
from ordercomp.jobs.law import law_of_records
from ordercomp.records import RENAMED, Record
from ordercomp.sequence import permutations

NEW: dict[str, Any] = {"versions": {"ordercomp": "0.2.0+new", "torch": "2.13.0+cpu"}, "precision": "float32"}
OLD: dict[str, Any] = {"versions": {"ordercomp": "0.1.0+old", "torch": "2.11.0"}, "precision": "bfloat16"}


def networks(seeds: range, made: dict[str, Any], orders: str = "DPQ") -> list[Record]:
    return [
        make_record(order, seed, 0.975, 64.0 * (1 + 3 * (order[0] == "D")) + seed, **made)
        for seed in seeds
        for order in permutations(orders)
    ]


def test_one_batch_is_told_whole_without_a_word() -> None:
    records = networks(range(3), NEW)
    assert one_batch(records) == (records, "")
    assert one_batch(networks(range(3), {}))[1] == ""


def test_the_larger_batch_is_told_and_a_sentence_says_what_was_left_out() -> None:
    old, new = networks(range(3), OLD), networks(range(3, 8), NEW)
    told, said = one_batch([*new, *old])
    assert told == new
    assert said == (
        "Told are 30 records at seeds 3 to 7 (results new, torch 2.13.0, float32). Left out as another "
        "batch, which is never pooled with them: 18 records at seeds 0 to 2 "
        "(results old, torch 2.11.0, bfloat16)."
    )


def test_runs_at_seeds_that_two_batches_share_in_pieces_count_last() -> None:
    torn = [*networks(range(2), OLD), *networks(range(2, 6), OLD)[:-1]]
    torn += networks(range(2, 6), NEW)[-1:]
    assert one_batch(torn)[0] == [record for record in torn if batch_of(record).results == "old"]


def test_of_equal_batches_the_later_is_told_and_repeated_runs_are_counted() -> None:
    old, new = networks(range(3), OLD), networks(range(3), NEW)
    told, said = one_batch([*old, *new])
    assert told == new
    assert said.endswith("; 18 of them at the same sequence and seed as one that is told.")
    assert one_batch([*new, *old])[0] == old


def test_each_of_code_torch_and_precision_makes_a_batch_and_hardware_alone_does_not() -> None:
    for other in (
        {**NEW, "precision": "bfloat16"},
        {**NEW, "versions": {**NEW["versions"], "torch": "2.14.0"}},
        {**NEW, "versions": {**NEW["versions"], "ordercomp": "0.2.0+other"}},
    ):
        assert len(one_batch([*networks(range(3), NEW), *networks(range(3, 5), other)])[0]) == 18
    on_a_gpu = {**NEW, "versions": {**NEW["versions"], "torch": "2.13.0+cu126"}, "hardware": "a GPU"}
    records = [*networks(range(3), {**NEW, "hardware": "a CPU"}), *networks(range(3, 5), on_a_gpu)]
    assert one_batch(records) == (records, "Pooled over hardware: a CPU; a GPU.")


def test_builds_that_make_the_same_results_are_one_batch() -> None:
    former, results = next(iter(RENAMED.items()))
    builds = (former, f"0.1.0+{results}", f"0.9.0+{results}")
    made = [make_record("D", versions={"ordercomp": build}) for build in builds]
    assert {batch_of(record) for record in made} == {RecordBatch(results, "", "")}


def test_what_was_not_trained_belongs_to_every_batch() -> None:
    failed = make_record("DP", 0, error="not trained: its prefix D failed")
    records = [*networks(range(2), NEW), failed]
    assert one_batch(records) == (records, "")
    assert failed in one_batch([*records, *networks(range(3, 4), OLD)])[0]


def test_the_law_rests_on_one_batch_and_its_answer_says_so() -> None:
    new = networks(range(4), NEW)
    file, alone = law_of_records([*networks(range(4, 6), OLD), *new]), law_of_records(new)
    assert file.answer is not None
    assert alone.answer is not None
    assert alone.answer.batches == ""
    assert "12 records at seeds 4 to 5 (results old" in file.answer.batches
    assert file.answer.asked == alone.answer.asked
    assert file.law == alone.law


def test_records_of_other_batches_are_told_before_a_run_adds_its_own() -> None:
    own = batch_of(networks(range(1), NEW)[0])
    assert warn_of_others(networks(range(2), NEW), own) == ""
    told = warn_of_others([*networks(range(1), OLD), *networks(range(2, 3), OLD)], own)
    assert told.startswith("12 records at seeds 0 and 2 are of another batch (results old, torch 2.11.0")


def test_the_answer_tells_what_the_uncompressed_network_reaches() -> None:
    file = law_of_records([*networks(range(4), NEW), *networks(range(4, 5), OLD)])
    assert file.answer is not None
    assert file.answer.baseline == 0.98
    assert baseline_words(file.answer) == (
        "Uncompressed it reaches 98.00 % accuracy on test data, mean over seeds."
    )
