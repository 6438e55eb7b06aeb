"""Verdicts on pairs."""

import numpy as np
import pytest

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.pairs import Cell, Evidence, Guard, PairTable, gather
from ordercomp.analysis.statistics import Rules

TRUST = Guard((), 0.01)
KNOBS = [{"P": {"ratio": 0.2}, "Q": {"weights": 8}}, {"P": {"ratio": 0.7}, "Q": {"weights": 1}}]


def table(effects: list[list[float]], pair: tuple[str, str] = ("P", "Q")) -> PairTable:
    """Seeds in rows; contexts after D, then after nothing, in columns."""
    array = np.array(effects, dtype=float)
    cells = tuple(
        Cell("D" * (place % 2), "", "E" * place, "P Q", ("D P Q", "D Q P"), "per-stage")
        for place in range(array.shape[1])
    )
    return PairTable(*pair, tuple(range(len(array))), cells, array, array, array / 100)


def judge(*tables: PairTable, rules: Rules | None = None) -> list[Evidence]:
    named = {(one.first, one.second): one for one in tables}
    return gather(named, TRUST, rules=rules or Rules(), bound=10, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([[1.0], [1.1], [0.9], [1.0]], "before"),
        ([[-1.0], [-1.1], [-0.9], [-1.0]], "after"),
        ([[0.01], [-0.01], [0.02], [0.0]], "tied"),
        ([[1.0], [-0.5], [2.0], [0.1]], "undecided"),
        ([[0.05], [0.051], [0.05], [0.049]], "tied"),
        ([[1.0], [1.1]], "undecided"),
        ([[1.0]], "undecided"),
        ([[]], "undecided"),
    ],
)
def test_verdicts_by_hand(effects: list[list[float]], verdict: str) -> None:
    (found,) = judge(table(effects))
    assert found.verdict == verdict


def test_seeds_are_the_unit_not_contexts() -> None:
    """Ten copies of the same contexts are no more evidence than one."""
    effects = [[1.0], [0.2], [0.9], [0.1]]
    once, often = judge(table(effects))[0], judge(table([row * 10 for row in effects]))[0]
    assert (once.effect, once.verdict) == (often.effect, often.verdict)
    assert often.contexts == 10


def test_numbers_in_plain_units_stand_beside_the_value() -> None:
    (found,) = judge(table([[1.0, 3.0], [2.0, 2.0], [2.0, 2.0]]))
    assert found.reduction == pytest.approx(2)
    assert found.accuracy == pytest.approx(0.02)
    assert found.sign_flip_p == 0.25


def test_plain_units_are_averaged_by_seed_as_the_effect_is() -> None:
    nan = float("nan")
    (found,) = judge(table([[4.0, nan], [1.0, 1.0], [1.0, 1.0]]))
    assert found.effect.mean == pytest.approx(2)
    assert (found.reduction, found.accuracy) == pytest.approx((2, 0.02))


def test_opposite_signs_in_two_contexts_are_conditional() -> None:
    rows = [[1.0 + 0.01 * seed, -1.0 - 0.01 * seed] for seed in range(6)]
    (found,) = judge(table(rows))
    assert found.verdict == "conditional"
    assert {group.name for group in found.groups} >= {"D earlier", "nothing earlier"}


def test_more_pairs_ask_for_more() -> None:
    weak = [[0.50], [0.30], [0.75], [0.40]]
    alone = judge(table(weak))[0]
    noise = [table([[0.5], [-0.5], [0.4], [-0.45]], (a, b)) for a, b in ("DP", "DQ", "DE", "PE", "QE")]
    among = judge(table(weak), *noise, rules=Rules(prior_cap=0))[0]
    assert alone.verdict == "before"
    assert among.adjusted_p == pytest.approx(6 * alone.adjusted_p)
    assert among.verdict == "undecided"


def test_the_shares_of_all_looks_add_up_to_the_whole_error() -> None:
    rules = Rules()
    shares = [rules.at_look(further).alpha / rules.alpha for further in range(2000)]
    assert shares[:3] == pytest.approx([1 / 2, 1 / 4, 1 / 12])
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert rules.at_look(-1) == rules.at_look(0)  # fewer seeds than planned are no further look
    assert rules.at_look(1).level == pytest.approx(1 - 0.05 / 4)


def test_a_look_at_further_seeds_asks_for_more() -> None:
    effects = [[0.50], [0.30], [0.75], [0.40]]
    named = {("P", "Q"): table(effects)}
    verdicts = {
        planned: gather(named, TRUST, rules=Rules(), bound=10, rng=np.random.default_rng(0), planned=planned)[
            0
        ].verdict
        for planned in (None, 4, 3)
    }
    assert verdicts == {None: "before", 4: "before", 3: "undecided"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"margin": -1.0}, "margin must not be negative, got -1.0"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1, got 0.0"),
        ({"level": 1.0}, "level must lie between 0 and 1, got 1.0"),
        ({"prior_cap": -1.0}, "prior_cap must not be negative, got -1.0"),
    ],
)
def test_rules_are_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**wrong)  # type: ignore[arg-type]


def test_an_effect_that_flips_with_intensity_is_conditional() -> None:
    truth = Planted(stages="DPQ", effects={("P", "Q"): 1.0}, intensity={("P", "Q"): (1, -1)}, knobs=KNOBS)
    law = derive_law(simulate(truth, seeds=5, rng=np.random.default_rng(0)), stages="DPQ")
    verdicts = {(pair.first, pair.second): pair.verdict for pair in law.pairs}
    assert verdicts["P", "Q"] == "conditional"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """A quick form of benchmarks/calibration.py: 150 runs of 4 seeds, 3 pairs each."""
    held, edges = [], []
    for number in range(150):
        rng = np.random.default_rng(number)
        shared = rng.normal(0, 0.1, size=(4, 1))
        tables = [
            table(shared + rng.normal(0, 0.3, size=(4, 5)), pair)
            for pair in (("D", "P"), ("D", "Q"), ("P", "Q"))
        ]
        found = judge(*tables)
        held += [one.effect.low <= 0 <= one.effect.high for one in found]
        edges += [one.verdict in ("before", "after") for one in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)
    assert np.mean(edges) <= 0.03
