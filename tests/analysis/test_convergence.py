"""The convergence guard."""

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.convergence import Control, controls, short_chains
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.run_table import RunTable
from ordercomp.records import Record


def table(records: list[Record]) -> RunTable:
    return RunTable.of(records, stages="DPQE")


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
def test_a_sequence_is_judged_by_its_mean_gain_and_its_interval(gains: list[float], status: str) -> None:
    (control,) = controls(table(gained("Q", gains)))
    assert (control.sequence, control.status, control.seeds) == ("Q", status, len(gains))
    assert control.interval[0] <= control.gain <= control.interval[1]


def test_a_control_without_its_sequence_tells_nothing() -> None:
    assert controls(table([make_record("QF", knobs={}), make_record("F", knobs={})])) == ()


def short(found: tuple[Control, ...], *orders: str) -> set[str]:
    runs = table([make_record(order, knobs={}) for order in orders])
    return set(short_chains(runs, found, runs.stages))


def test_a_chain_is_short_by_its_end_not_by_what_later_stages_made_up_for() -> None:
    found = controls(table([*gained("P", [0.0] * 3), *gained("Q", [0.03] * 3)]))
    assert short(found, "Q", "QP", "PQ") == {"Q", "PQ"}  # PQ by its kin that end in Q


def test_exits_leave_the_rest_as_it_is() -> None:
    found = controls(table([*gained("PQ", [0.03] * 3), *gained("Q", [0.0] * 3)]))
    assert short(found, "PQE", "QE", "E") == {"PQE"}


def test_half_of_the_settings_make_a_chain_short() -> None:
    settings = [{"P": {"ratio": 0.1 * step}} for step in range(3)]
    records = [make_record("P", knobs=knobs) for knobs in settings]
    found = tuple(
        Control(record.sequence, "per-stage", gain, (0.0, 1.0), 3, "unclear")
        for record, gain in zip(records, (0.05, 0.0, 0.0), strict=True)
    )
    assert short_chains(table(records[:2]), found, "P") == {"P"}
    assert short_chains(table(records), found, "P") == set()


def test_an_artefact_of_under_training_is_flagged_and_decides_nothing() -> None:
    truth = Planted(under_trained={"Q": 4.0}, controls=True, node_noise=0.05, interaction=0.02)
    records = simulate(truth, seeds=4, rng=np.random.default_rng(0))
    law = derive_law(records)
    verdicts = {(pair.first, pair.second): pair for pair in law.pairs}
    assert verdicts["P", "Q"].under_trained
    assert verdicts["P", "Q"].verdict == "undecided"
    assert not verdicts["D", "P"].under_trained
    assert any("under-trained" in sentence for sentence in law.sentences)
    unguarded = derive_law([record for record in records if "F" not in record.order])
    verdicts = {(pair.first, pair.second): pair for pair in unguarded.pairs}
    assert verdicts["P", "Q"].verdict == "after"  # Q first looks better, merely because P's epochs train it
