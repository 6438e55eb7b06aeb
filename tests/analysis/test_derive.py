"""The law as a whole: from records to law.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.law import Law, LawOptions, derive_law
from ordercomp.codec import encode, format_json
from ordercomp.records import Record
from ordercomp.sequence import kendall_distance, permutations, prefixes


def planted(
    truth: str = "DPQE", *, seeds: int = 3, noise: float = 0.002, cost: float = 0.005, seed: int = 0
) -> list[Record]:
    """Records of every prefix of every permutation; each inversion against `truth` costs accuracy."""
    rng = np.random.default_rng(seed)
    nodes = sorted({node for order in permutations(truth) for node in prefixes(order)})
    return [
        make_record(
            node,
            run,
            0.97
            - cost * kendall_distance(node, "".join(s for s in truth if s in node))
            + rng.normal(0, noise),
            bitops_cr=4.0 ** len(node),
        )
        for run in range(seeds)
        for node in nodes
    ]


@pytest.fixture(scope="module")
def law() -> Law:
    return derive_law(planted())


def test_a_planted_law_is_found_and_put_first(law: Law) -> None:
    assert law.law == "DPQE"
    assert law.orders == ("DPQE",)
    assert law.unique
    assert law.cycle is None
    assert {pair.verdict for pair in law.pairs} == {"before"}
    assert law.laws[0].order == "DPQE"


def test_a_law_against_the_alphabetical_order_is_found_too() -> None:
    found = derive_law(planted("EQPD"), stages="DPQE")
    assert found.law == "EQPD"
    assert {pair.verdict for pair in found.pairs} == {"after"}


def test_json_has_the_keys_of_the_contract(law: Law) -> None:
    data = json.loads(format_json(law))
    contract = ("task", "stages", "law", "orders", "unique", "cycle", "pairs", "verification", "trainings")
    assert list(data)[: len(contract)] == list(contract)
    assert data["seconds"] == 192.0
    assert data["trainings"] == {"done": 192, "reused": 0, "unshared": 588}
    assert len(data["pairs"]) == 6
    first = data["pairs"][0]
    assert (first["first"], first["second"], first["verdict"]) == ("D", "P", "before")
    assert (first["contexts"], first["seeds"], first["under_trained"]) == (11, 3, False)
    assert first["interval"][0] < first["effect"] < first["interval"][1]
    checked = data["verification"]
    assert (checked["best"], checked["rank"], checked["of"]) == ("DPQE", 1, 24)
    assert checked["regret"] == 0
    assert checked["kendall_tau"] < -0.5


def test_the_same_records_and_seed_give_the_same_law(law: Law) -> None:
    assert encode(derive_law(planted(), seed=0)) == encode(law)


def test_no_verdict_comes_from_one_seed() -> None:
    found = derive_law(planted(seeds=1))
    assert {pair.verdict for pair in found.pairs} == {"undecided"}
    assert {pair.effect.probability for pair in found.pairs} == {0.5}
    assert found.law is None
    assert len(found.orders) == 24


def test_runs_that_all_failed_support_nothing() -> None:
    orders = ("D", "P", "DP", "PD")
    failed = [make_record(order, seed, error="loss became NaN") for order in orders for seed in range(3)]
    found = derive_law(failed)
    assert [pair.verdict for pair in found.pairs] == ["undecided"]
    assert (found.law, found.orders, found.laws) == (None, ("DP", "PD"), ())
    assert (found.verification, found.rivals) == (None, ())
    format_json(found)


def test_records_of_two_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="records must belong to one task, got one, two"):
        derive_law([make_record("D", task="one"), make_record("P", task="two")])


def test_no_records_are_refused() -> None:
    with pytest.raises(ValueError, match="no records"):
        derive_law([])


def test_one_stage_has_no_order() -> None:
    with pytest.raises(ValueError, match="stages must be 2 to 10 letters, got 'D'"):
        derive_law([make_record("D")])


def test_held_out_seeds_must_leave_two() -> None:
    with pytest.raises(
        ValueError, match="held_out must be seeds with all permutations, 3 of 3, and leave 2 others, got 2"
    ):
        derive_law(planted(), options=LawOptions(held_out=2))


def test_what_limits_a_law_is_said() -> None:
    assert any("no controls with F" in note for note in derive_law(planted()).notes)
    two = derive_law(planted(seeds=2))
    assert any("fewer than 3 seeds; there are 2" in note for note in two.notes)
    assert {pair.verdict for pair in two.pairs} == {"undecided"}
    weak = [
        make_record("Q" + last, seed, 0.9 + 0.009 * (last == "F"), knobs={})
        for seed in range(3)
        for last in ("", "F")
    ]
    named = [note for note in derive_law([*planted(), *weak]).notes if "further fine-tune gains" in note]
    assert named == [
        "A further fine-tune gains up to 0.9 points, more than the order of D-P, D-Q, D-E, P-Q, P-E, Q-E."
    ]


def test_a_fine_tune_that_excludes_its_prefix_anyway_is_no_further_caveat() -> None:
    controls = [
        make_record("QQ" + last, seed, 0.9 + gain * (last == "F"), knobs={})
        for seed, gain in enumerate((0.05, 0.06, 0.05))
        for last in ("", "F")
    ]
    law = derive_law([*planted(), *controls])
    assert [control.status for control in law.convergence] == ["under-trained"]
    assert not any("further fine-tune" in note for note in law.notes)


def test_a_seed_that_failed_entirely_does_not_count_as_a_seed() -> None:
    records = planted()
    lost = [
        record if record.seed else make_record(record.order, 0, error="loss became NaN") for record in records
    ]
    assert any("fewer than 3 seeds; there are 2" in note for note in derive_law(lost).notes)


def test_pairs_with_too_few_seeds_are_named() -> None:
    records = [record for record in planted() if record.seed or "E" not in record.order]
    (note,) = [note for note in derive_law(records).notes if "Fewer than" in note]
    assert note == "Fewer than 3 seeds have evidence on D-E (2), P-E (2), Q-E (2), which decides nothing."


def test_seeds_added_after_a_look_make_verdicts_stricter_and_are_named() -> None:
    plain = planted("DPQ", seeds=5)
    marked = [
        replace(record, extra={"design": "sequential"}) if record.seed > 2 else record for record in plain
    ]
    before, after = derive_law(plain), derive_law(marked)
    assert any(note.startswith("Seeds 3, 4 came in after looking at") for note in after.notes)
    for one, other in zip(before.pairs, after.pairs, strict=True):
        assert other.effect.mean == one.effect.mean
        assert other.effect.high - other.effect.low > 1.3 * (one.effect.high - one.effect.low)


def test_controls_of_held_out_seeds_have_no_say_in_the_law() -> None:
    records = planted("DPQ", seeds=6, cost=0.02)
    controls = [
        make_record("PDF", record.seed, record.points[0].accuracy + 0.045 * (record.seed > 3))
        for record in records
        if record.order == "PD"
    ]
    every = derive_law([*records, *controls], options=LawOptions(held_out=0))
    assert [(one.seeds, one.status) for one in every.convergence] == [(6, "under-trained")]
    law = derive_law([*records, *controls], options=LawOptions(held_out=2))
    assert [(one.seeds, one.status) for one in law.convergence] == [(4, "converged")]
    assert not any(pair.under_trained for pair in law.pairs)


def test_how_often_the_pairs_contradict_each_other_is_said() -> None:
    noise = planted("DPQ", cost=0.0, noise=0.01)
    law = derive_law(noise)
    share = next(one.probability for one in law.laws if one.order is None)
    assert share > 0
    assert f"In {100 * share:.0f} % of the resamples the pairs contradict each other." in law.sentences


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        LawOptions(resamples=0)
    with pytest.raises(ValueError, match="convergence_margin must not be negative"):
        LawOptions(convergence_margin=-0.1)
    with pytest.raises(ValueError, match="held_out must not be negative"):
        LawOptions(held_out=-1)


def test_the_best_guess_of_one_seed_follows_its_effects() -> None:
    assert derive_law(planted("EQPD", seeds=1, noise=0.0), stages="DPQE").kemeny == "EQPD"


def test_the_order_of_the_records_does_not_matter(law: Law) -> None:
    records = planted()
    shuffled = [records[place] for place in np.random.default_rng(1).permutation(len(records))]
    found = derive_law(shuffled)
    assert [pair.effect.mean for pair in found.pairs] == pytest.approx([p.effect.mean for p in law.pairs])
    assert (found.law, found.verification.rank if found.verification else None) == ("DPQE", 1)


def test_ten_stages_are_as_many_as_a_race_takes() -> None:
    stages = "DPQEKLSWHF"
    orders = (stages, stages[::-1], stages[5:] + stages[:5])
    records = [make_record(order, seed, knobs={}) for order in orders for seed in range(3)]
    law = derive_law(records, stages=stages)
    assert len(law.pairs) == 45
    assert sorted(law.kemeny) == sorted(stages)
