"""The convergence guard."""

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.fronts import Scale
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.pairs import Guard, controls, pair_tables
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record

SCALE = Scale(split="validation")


def guard(records: list[Record], margin: float = 0.01) -> Guard:
    return controls(RunTable.of(records, stages="PQ", scale=SCALE).measured, margin=margin)


def gained(order: str, gains: list[float]) -> list[Record]:
    return [
        make_record(order + suffix, seed, 0.9 + (gain if suffix else 0), knobs={})
        for seed, gain in enumerate(gains)
        for suffix in ("", "F")
    ]


@pytest.mark.parametrize(
    ("gains", "status"),
    [
        ([0.02, 0.03, 0.02], "under-trained"),
        ([0.001, 0.002, 0.001], "converged"),
        ([0.001, 0.02, 0.0], "unclear"),
        ([0.001], "unclear"),
        ([0.02], "under-trained"),
    ],
)
def test_a_prefix_is_judged_by_its_mean_gain_and_its_interval(gains: list[float], status: str) -> None:
    (control,) = guard(gained("Q", gains)).controls
    assert (control.sequence, control.status, control.seeds) == ("Q", status, len(gains))
    assert control.interval[0] <= control.gain <= control.interval[1]


def test_a_control_without_its_prefix_tells_nothing() -> None:
    assert guard([make_record("QF", knobs={}), make_record("F", knobs={})]).controls == ()


def test_cells_that_pass_through_an_under_trained_prefix_are_not_sound() -> None:
    pairs = [make_record(order, knobs={}) for order in ("PQ", "QP", "PQD", "QPD")]
    records = [*pairs, *gained("P", [0.0] * 3), *gained("Q", [0.03] * 3)]
    runs = RunTable.of(records, stages="DPQ", scale=SCALE)
    table = pair_tables(runs, neighbors=True)["P", "Q"]
    assert controls(runs.measured, margin=0.01).sound(table) == [False, False]
    assert controls(runs.measured, margin=0.05).sound(table) == [True, True]


def test_a_prefix_without_control_is_judged_by_those_that_end_alike() -> None:
    records = [make_record(order, knobs={}) for order in ("DPQ", "DQP")]
    table = pair_tables(RunTable.of(records, stages="DPQ", scale=SCALE), neighbors=True)["P", "Q"]
    assert guard(gained("Q", [0.03] * 3)).sound(table) == [False]
    assert guard(gained("D", [0.03] * 3)).sound(table) == [True]


def test_an_artefact_of_under_training_is_flagged_and_decides_nothing() -> None:
    truth = Planted(under_trained={"Q": 1.5}, controls=True, node_noise=0.05, interaction=0.02)
    records = simulate(truth, seeds=4, rng=np.random.default_rng(0))
    law = derive_law(records)
    for pair in law.pairs:
        if "Q" in (pair.first, pair.second):
            assert pair.under_trained
            assert pair.verdict == "undecided"
    assert any("under-trained" in sentence for sentence in law.sentences)
    unguarded = derive_law([record for record in records if "F" not in record.order])
    verdicts = {(pair.first, pair.second): pair.verdict for pair in unguarded.pairs}
    assert verdicts["P", "Q"] == "after"  # Q first looks better, merely because P's epochs go on training it
