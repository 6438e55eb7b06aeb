"""What a proxy's values say about the task's: matched losses, rank correlations, regrets."""

import numpy as np
import pytest
from builders import make_record

from ordercomp.analysis.answer import AnswerAt, guessed_answer
from ordercomp.analysis.hints import COPY_SLOPE, LARGEST_LOSS, Hints, HintSource, baseline_error, matched_loss
from ordercomp.analysis.values import ValueTable, networks_of
from ordercomp.jobs.recordings import load_recorded
from ordercomp.sequence import permutations
from ordercomp.studies.proxies import agree, compare

ORDERS = tuple(permutations("DPQ"))


def table(values: np.ndarray, *, loss: float = 0.02) -> ValueTable:
    return ValueTable("DPQ", ORDERS, tuple(range(values.shape[1])), values, 0.0, loss)


def test_the_rules_match_losses() -> None:
    assert matched_loss(0.02, "same") == 0.02
    assert matched_loss(0.02, "error", errors=(0.1, 0.3)) == pytest.approx(0.06)
    assert matched_loss(0.02, "error", errors=(0.0, 0.3)) == 0.02
    assert matched_loss(0.1, "error", errors=(0.01, 0.9)) == LARGEST_LOSS


def test_the_quantile_rule_finds_the_same_loss_among_the_same_networks() -> None:
    networks = networks_of(load_recorded("cifar10"), "DPQE")
    assert matched_loss(0.02, "quantile", networks=(networks, networks)) == pytest.approx(0.02, abs=0.001)


def test_a_perfect_proxy_has_correlation_one_and_no_regret() -> None:
    means = np.arange(6.0)[:, None] + 1
    task = table(means + np.random.default_rng(0).normal(0, 0.01, (6, 4)))
    found = compare(task, table(means.repeat(2, axis=1), loss=0.05))
    assert found is not None
    assert found.correlation == pytest.approx(1.0)
    assert found.reliability == pytest.approx(1.0)
    assert (found.pick, found.proxy_loss) == (ORDERS[5], 0.05)
    assert found.regret == pytest.approx(0.0, abs=0.02)
    assert found.random == pytest.approx(2.5, abs=0.05)


def test_a_reversed_proxy_picks_the_worst() -> None:
    means = np.arange(6.0)[:, None] + 1
    found = compare(table(means.repeat(2, axis=1)), table(means[::-1].repeat(2, axis=1)))
    assert found is not None
    assert found.correlation == pytest.approx(-1.0)
    assert found.regret == pytest.approx(5.0)


def test_what_lies_at_the_floor_is_not_compared() -> None:
    values = np.zeros((6, 2))
    values[:2] = 3.0
    assert compare(table(values), table(values)) is None
    assert compare(table(np.ones((6, 1))), table(np.ones((6, 1)))) is None


def test_a_recording_agrees_with_itself() -> None:
    records = load_recorded("cifar10")
    networks, error = networks_of(records, "DPQE"), baseline_error(records)
    assert error == pytest.approx(0.24, abs=0.01)
    found = agree(networks, networks, "DPQE", loss=0.02, rule="error", errors=(error, error))
    assert found is not None
    assert found.correlation == pytest.approx(1.0)
    assert found.proxy_loss == pytest.approx(0.02)


def test_hints_tell_of_every_chain_at_the_matched_loss() -> None:
    records = [record for record in load_recorded("cifar10") if record.order not in ("DPQE", "QE")]
    networks = tuple(networks_of(records, "DPQE"))
    hints, direct = (
        Hints((HintSource(networks, errors),), "DPQE").at(loss).chains
        for errors, loss in (((0.12, 0.24), 0.01), ((0.24, 0.24), 0.02))
    )
    assert len(hints) == 64  # those that were left out, too
    assert hints == direct
    assert max(hints, key=lambda chain: hints[chain])[0] in "DQ"


def test_a_copy_that_reaches_nothing_gives_no_hint() -> None:
    networks = networks_of(load_recorded("cifar10"), "DPQE")
    whole = tuple(network for network in networks if network.order == "PEQD")
    assert Hints((HintSource(whole),), "DPQE").at(0.001).chains == {}


def test_several_sources_are_told_as_their_mean_each_in_its_own_spread() -> None:
    """What one says with ten times the spread weighs no more."""

    def source(values: dict[str, float]) -> HintSource:
        records = [
            make_record(chain, seed, 0.98, 2.0**value) for chain, value in values.items() for seed in range(3)
        ]
        return HintSource(tuple(networks_of(records, "PQ")))

    wide, narrow = (source({"P": 4 + step, "Q": 4.0, "PQ": 4.0, "QP": 4 - step}) for step in (3.0, 0.3))
    told = Hints((wide, narrow), "PQ").at(0.02).chains
    alone = Hints((narrow,), "PQ").at(0.02).chains
    assert sum(told.values()) == pytest.approx(0, abs=1e-6)
    assert sorted(told, key=lambda chain: told[chain]) == sorted(alone, key=lambda chain: alone[chain])
    reversed_ = Hints((wide, source({"P": 3.7, "Q": 4.0, "PQ": 4.0, "QP": 4.3})), "PQ").at(0.02).chains
    assert max(map(abs, reversed_.values())) < 0.2 * max(map(abs, told.values()))


def test_a_copy_alone_is_told_with_the_regret_that_copies_have() -> None:
    """Its own doubt would be too small: the chain that leads by far on the copy need not lead here."""
    hints = Hints((HintSource(tuple(networks_of(load_recorded("cifar10"), "DPQE"))),), "DPQE")
    draws = hints.draws(0.02)
    assert draws is not None
    guess = guessed_answer(draws, 0.02)
    expected = hints.at(0.02).chains
    assert guess.recommended == max(expected, key=lambda chain: expected[chain])
    behind = COPY_SLOPE * (draws.pooled.max(axis=1) - draws.pooled[:, draws.orders.index(guess.recommended)])
    assert guess.regret is not None
    assert behind.mean() + 0.2 < guess.regret.expected < guess.regret.upper95
    assert guess.regret.expected < guess.regret.random_order < 3 * guess.regret.expected  # it may mislead
    assert guess.recommended in guess.best_set
    assert guess.seeds_needed is None


def test_a_copy_that_reaches_nothing_recommends_nothing() -> None:
    networks = networks_of(load_recorded("cifar10"), "DPQE")
    whole = tuple(network for network in networks if network.order == "PEQD")
    assert guessed_answer(Hints((HintSource(whole),), "DPQE").draws(0.001), 0.001) == AnswerAt(loss=0.001)
