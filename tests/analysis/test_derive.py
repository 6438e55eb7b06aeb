"""The law as a whole: from records to law.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.law import Law, derive_law
from ordercomp.codec import encode, format_json
from ordercomp.records import Record
from ordercomp.sequence import kendall_distance, permutations, prefixes


def planted(
    truth: str = "DPQE", *, seeds: int = 3, noise: float = 0.1, cost: float = 0.5, seed: int = 0
) -> list[Record]:
    """Records of every prefix of every permutation; each inversion against `truth` costs doublings."""
    rng = np.random.default_rng(seed)
    nodes = sorted({node for order in permutations(truth) for node in prefixes(order)})
    return [
        make_record(
            node,
            run,
            bitops_cr=2.0
            ** (
                2 * len(node)
                - cost * kendall_distance(node, "".join(s for s in truth if s in node))
                + rng.normal(0, noise)
            ),
            accuracy=0.98,
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
    contract = (
        "task",
        "stages",
        "evidence",
        "law",
        "orders",
        "unique",
        "cycle",
        "pairs",
        "verification",
        "trainings",
    )
    assert list(data)[: len(contract)] == list(contract)
    assert data["seconds"] == 192.0
    assert data["trainings"] == {"done": 192, "reused": 0, "unshared": 588}
    assert len(data["pairs"]) == 6
    first = data["pairs"][0]
    assert (first["first"], first["second"], first["verdict"]) == ("D", "P", "before")
    assert (first["contexts"], first["seeds"], first["under_trained"]) == (19, 3, False)
    assert first["interval"][0] < first["effect"] < first["interval"][1]
    checked = data["verification"]
    assert (checked["best"], checked["rank"], checked["of"]) == ("DPQE", 1, 24)
    assert checked["regret"] == 0
    assert checked["kendall_tau"] < -0.5


def test_the_same_records_give_the_same_law(law: Law) -> None:
    assert encode(derive_law(planted())) == encode(law)


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


def test_what_limits_a_law_is_said() -> None:
    assert any("no controls with F" in note for note in derive_law(planted()).notes)
    two = derive_law(planted(seeds=2))
    assert any("fewer than 3 seeds; there are 2" in note for note in two.notes)
    assert {pair.verdict for pair in two.pairs} == {"undecided"}


def test_pairs_with_too_few_seeds_are_named() -> None:
    records = [record for record in planted() if record.seed or "E" not in record.order]
    (note,) = [note for note in derive_law(records).notes if "Fewer than" in note]
    assert note == "Fewer than 3 seeds have evidence on D-E (2), P-E (2), Q-E (2), which decides nothing."


def test_the_chances_of_orders_are_those_of_being_the_best(law: Law) -> None:
    assert sum(chance.probability for chance in law.laws) == pytest.approx(1)
    assert law.verification is not None
    assert law.laws[0].probability == pytest.approx(law.verification.probability_best)


def test_a_law_is_one_of_a_tolerated_loss() -> None:
    """PQ reaches more where little is lost, QP where much is."""
    small, large = [(0.975, 16.0), (0.93, 20.0)], [(0.975, 4.0), (0.93, 64.0)]
    records = [
        make_record(order, seed, points=points)
        for seed in range(4)
        for order, points in (("PQ", small), ("QP", large), ("P", small[:1]), ("Q", large[:1]))
    ]
    assert [derive_law(records, loss=loss).law for loss in (0.01, 0.06)] == ["PQ", "QP"]


def test_a_law_goes_by_the_cost_that_is_asked_for() -> None:
    records = [
        make_record(order, seed, 0.98, reduction, knobs={})
        for seed in range(4)
        for order, reduction in (("DP", 16.0), ("PD", 8.0))
    ]
    stored = [
        replace(one, points=tuple(replace(p, cr=64.0 / p.bitops_cr) for p in one.points)) for one in records
    ]
    assert [derive_law(stored, cost=cost).law for cost in ("bitops", "storage")] == ["DP", "PD"]


def test_networks_that_a_sampler_chose_are_valued_alone_and_labelled() -> None:
    rng = np.random.default_rng(0)
    records = [
        make_record(
            order, seed, 0.98, reduction + rng.normal(), knobs={"P": {"ratio": round(rng.uniform(), 3)}}
        )
        for seed in range(4)
        for order, reduction, tries in (("DP", 16.0, 2), ("PD", 8.0, 12))
        for _ in range(tries)
    ]
    law = derive_law(records, sampled=True)
    assert (law.law, law.evidence) == ("DP", "adaptive")  # trying PD more often makes it no better
    assert law.notes[0].startswith("A sampler chose")


def test_the_best_guess_of_one_seed_follows_its_effects() -> None:
    assert derive_law(planted("EQPD", seeds=1, noise=0.0), stages="DPQE").kemeny == "EQPD"


def test_the_order_of_the_records_does_not_matter(law: Law) -> None:
    records = planted()
    shuffled = [records[place] for place in np.random.default_rng(1).permutation(len(records))]
    found = derive_law(shuffled)
    assert [one.effect.mean for one in found.pairs] == pytest.approx([one.effect.mean for one in law.pairs])
    assert (found.law, found.verification.rank if found.verification else None) == ("DPQE", 1)


def test_ten_stages_are_as_many_as_a_race_takes() -> None:
    stages = "DPQEKLSWHF"
    orders = (stages, stages[::-1], stages[5:] + stages[:5])
    records = [make_record(order, seed, knobs={}) for order in orders for seed in range(3)]
    law = derive_law(records, stages=stages)
    assert len(law.pairs) == 45
    assert sorted(law.kemeny) == sorted(stages)
