"""Paired units: which records make a difference, and what is kept apart."""

import numpy as np
import pytest
from builders import KNOBS, make_record

from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.pairs import PairTable, cell_settings, pair_tables
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record
from ordercomp.sequence import permutations, prefixes

SCALE = Scale(split="validation")
GENTLE = {**KNOBS, "P": {"ratio": 0.1}}


def tables(records: list[Record], stages: str, *, neighbors: bool = True) -> dict[tuple[str, str], PairTable]:
    return pair_tables(RunTable.of(records, stages=stages, scale=SCALE), neighbors=neighbors)


def trie(stages: str, seeds: int = 1) -> list[Record]:
    nodes = sorted({node for order in permutations(stages) for node in prefixes(order)})
    return [make_record(node, seed) for seed in range(seeds) for node in nodes]


def test_four_stages_give_eleven_neighbor_contexts_a_pair() -> None:
    found = tables(trie("DPQE", seeds=2), "DPQE")
    assert [len(table.cells) for table in found.values()] == [11] * 6
    assert {table.effects.shape for table in found.values()} == {(2, 11)}


def test_insertion_pairs_are_kept_apart() -> None:
    found = tables(trie("DPQE"), "DPQE", neighbors=False)
    assert all(cell.between for table in found.values() for cell in table.cells)
    # one stage between: x a z b, a z b y, and a z b alone; two between: a z w b
    assert [len(table.cells) for table in found.values()] == [2 + 2 + 2 + 2] * 6


def test_the_difference_is_the_value_of_the_first_stage_coming_first() -> None:
    records = [make_record("PQ", 0, 0.98, 64.0), make_record("QP", 0, 0.98, 16.0)]
    found = tables(records, "PQ")["P", "Q"]
    assert found.effects[0, 0] == pytest.approx(6 - 4)
    assert found.reductions[0, 0] == pytest.approx(2)
    assert found.accuracies[0, 0] == 0
    turned = tables(records, "QP")["Q", "P"]
    assert turned.effects[0, 0] == pytest.approx(4 - 6)


def test_accuracy_at_equal_reduction_is_a_fraction() -> None:
    records = [make_record("PQ", 0, 0.97), make_record("QP", 0, 0.95)]
    assert tables(records, "PQ")["P", "Q"].accuracies[0, 0] == pytest.approx(0.02)


@pytest.mark.parametrize(
    "other",
    [
        make_record("QP", 1),
        make_record("QP", 0, knobs=GENTLE),
        make_record("QP", 0, accounting="total"),
        make_record("QPD", 0),
        make_record("QP", 0, error="diverged"),
    ],
    ids=["other seed", "other knobs", "other accounting", "one stage more", "failed"],
)
def test_only_what_differs_in_the_swap_alone_makes_a_unit(other: Record) -> None:
    found = tables([make_record("PQ", 0), other], "DPQ")["P", "Q"]
    assert found.cells == ()


def test_repeats_and_controls_make_no_units() -> None:
    records = [make_record(order, 0, knobs={}) for order in ("PQF", "QPF", "PPQ", "PQP", "QPP")]
    assert tables(records, "PQ")["P", "Q"].cells == ()


def test_a_missing_seed_is_a_gap() -> None:
    records = [*trie("PQ", seeds=2), make_record("PQ", 2)]
    effects = tables(records, "PQ")["P", "Q"].effects
    assert np.isfinite(effects[:, 0]).tolist() == [True, True, False]


def test_a_cell_names_the_prefixes_in_which_its_sides_differ() -> None:
    found = tables([make_record(order, knobs={}) for order in ("DPQE", "DQPE")], "DPQE")["P", "Q"]
    assert found.cells[0].nodes == ("D P", "D P Q", "D P Q E", "D Q", "D Q P", "D Q P E")


def test_cells_and_seeds_can_be_chosen() -> None:
    table = tables(trie("DPQE", seeds=3), "DPQE")["D", "P"]
    chosen = table.choose(not cell.prefix for cell in table.cells).at_seeds([2, 0])
    assert chosen.seeds == (0, 2)
    assert chosen.effects.shape == (2, 5)
    assert all(not cell.prefix for cell in chosen.cells)


def test_cells_of_few_stages_are_part_of_every_setting_that_agrees() -> None:
    both = [make_record(order, knobs=knobs) for order in permutations("DPQ") for knobs in (KNOBS, GENTLE)]
    few = [make_record(order, knobs=knobs) for order in ("DQ", "QD", "PQ", "QP") for knobs in (KNOBS, GENTLE)]
    found = tables([*both, *few], "DPQ")
    counts = {
        (
            cell.texts[0].count("(") if len(cell.prefix + cell.suffix) else 2,
            "0.1" in cell.texts[0],
            len(names),
        )
        for table, row in zip(found.values(), cell_settings(found.values(), "DPQ"), strict=True)
        for cell, names in zip(table.cells, row, strict=True)
    }
    assert counts == {(3, False, 1), (3, True, 1), (2, False, 1), (2, True, 1), (2, False, 2)}


def test_a_cell_without_a_whole_order_is_a_setting_of_its_own() -> None:
    found = tables([make_record("PQ"), make_record("QP")], "DPQ")
    rows = cell_settings(found.values(), "DPQ")
    assert rows[2] == [frozenset({"per-stage P(ratio=0.4) Q(weights=2,activations=4)"})]
