"""Verdicts on pairs, read off draws of the chains' values."""

import numpy as np
import numpy.typing as npt
import pytest

from ordercomp.analysis.pairs import Evidence, pair_evidence
from ordercomp.analysis.statistics import Rules
from ordercomp.analysis.values import ValueTable
from ordercomp.sequence import permutations

FloatArray = npt.NDArray[np.float64]


def judge(
    values: dict[str, float], *, spread: float = 0.05, seeds: int = 4, short: frozenset[str] = frozenset()
) -> dict[str, Evidence]:
    """The pairs of chains of these values, drawn with this spread, at so many seeds; groups too."""
    orders, means = tuple(values), np.array(list(values.values()))
    stages = "".join(dict.fromkeys("".join(orders)))
    noise = np.random.default_rng(0).standard_normal((2000, len(orders)))
    measured = means[:, None] + np.zeros(seeds)
    table = ValueTable(stages, orders, tuple(range(seeds)), measured)
    found = pair_evidence(table, means + spread * noise, short=short, grouped=True)
    return {pair.first + pair.second: pair for pair in found}


@pytest.mark.parametrize(
    ("values", "spread", "verdict"),
    [
        ((2.0, 1.0), 0.05, "before"),
        ((1.0, 2.0), 0.05, "after"),
        ((1.0, 1.01), 0.01, "tied"),
        ((1.0, 1.3), 0.5, "undecided"),
    ],
)
def test_verdicts_by_hand(values: tuple[float, float], spread: float, verdict: str) -> None:
    (found,) = judge(dict(zip(("PQ", "QP"), values, strict=True)), spread=spread).values()
    assert found.verdict == verdict
    assert found.decided == (verdict in ("before", "after"))
    assert found.effect.mean == pytest.approx(values[0] - values[1], abs=0.05)
    assert found.effect.low < found.effect.mean < found.effect.high


def test_a_pair_is_judged_by_the_best_chains_that_hold_both() -> None:
    found = judge({"D": 9.0, "PDQ": 5.0, "QPD": 1.0, "DPQ": 4.0, "DQP": 4.5})
    assert found["PQ"].effect.mean == pytest.approx(0.5, abs=0.05)  # PDQ against DQP, whatever D alone does
    assert found["PQ"].contexts == 2
    assert found["DP"].edge[:2] == ("P", "D")


@pytest.mark.parametrize(("further", "decided"), [({}, True), ({"D": 0.0}, False), ({"D": 5.0}, True)])
def test_of_several_pairs_the_surest_must_pass_the_bound_for_their_number(
    further: dict[str, float], decided: bool
) -> None:
    gain = 2.1 * np.sqrt(2)  # standard deviations: a probability of 0.98
    values = {"PQ": gain, "QP": 0.0}
    for stage, size in further.items():
        values |= {f"{stage}P": size, f"P{stage}": 0.0, f"{stage}Q": 0.0, f"Q{stage}": 0.0}
    assert judge(values, spread=1.0)["PQ"].decided == decided


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_decide_nothing_and_tell_no_chance(seeds: int) -> None:
    (found,) = judge({"PQ": 2.0, "QP": 1.0}, seeds=seeds).values()
    assert (found.verdict, found.effect.probability, found.effect.interval) == ("undecided", 0.5, (-2, 2))
    assert found.effect.mean == pytest.approx(1.0, abs=0.01)


def test_a_pair_that_never_ran_either_way_round_is_open() -> None:
    found = judge({"PQ": 2.0, "D": 1.0})
    assert {(pair.verdict, pair.contexts, pair.seeds) for pair in found.values()} == {("undecided", 0, 0)}


def test_the_guard_counts_for_what_lies_behind_alone() -> None:
    values = {"DPQ": 3.0, "PQD": 1.0, "QPD": 0.5, "DQP": 2.0}
    plain, guarded = judge(values), judge(values, short=frozenset({"PQD"}))
    assert plain["DP"].verdict == guarded["PQ"].verdict == "before"
    assert (guarded["DP"].verdict, guarded["DP"].under_trained) == ("undecided", True)
    assert judge(values, short=frozenset({"DPQ"}))["DP"].verdict == "before"  # being ahead is no artefact
    assert [pair.left_out for pair in guarded.values()] == [1, 1, 1]


def test_a_third_stage_in_each_place_makes_a_group() -> None:
    values = {order: float(order.index("P") < order.index("Q")) for order in permutations("DPQ")}
    values |= {"PDQ": 0.0, "QDP": 1.0}  # turned where D stands between
    groups = {group.name: group for group in judge(values)["PQ"].groups or ()}
    assert {name: group.sign for name, group in groups.items()} == {
        "D before": 1,
        "D between": -1,
        "D after": 1,
    }
    assert [group.contexts for group in groups.values()] == [1, 1, 1]


def test_groups_of_opposite_directions_make_an_open_pair_conditional() -> None:
    values = {"DPQ": 1.0, "DQP": 0.0, "PQD": 0.0, "QPD": 1.0}
    assert judge(values)["PQ"].verdict == "conditional"


def test_p_values_stand_beside_and_are_adjusted_for_their_number() -> None:
    found = judge({order: -0.03 * place for place, order in enumerate(permutations("DPQ"))})
    assert all(pair.adjusted_p >= pair.p_value for pair in found.values())
    assert min(pair.adjusted_p for pair in found.values()) == pytest.approx(
        3 * min(pair.p_value for pair in found.values())
    )
    assert {pair.sign_flip_p for pair in found.values()} == {2.0 ** (1 - 4)}


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
