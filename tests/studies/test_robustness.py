"""Arms: the same orders trained in another way, and whether the recommended one survives."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from ordercomp.records import Record
from ordercomp.running.task import TASKS
from ordercomp.sequence import permutations
from ordercomp.studies.preset import load_preset
from ordercomp.studies.run import find_experiment

pytestmark = pytest.mark.integration

MINUTES = load_preset("minutes")


def world(first: str, task: str, seeds: int = 4, *, joint: bool = False) -> list[Record]:
    """Orders that begin with `first` reduce eight times more."""
    rng = np.random.default_rng(0)
    records = []
    for seed in range(seeds):
        for order in permutations("PQE"):
            reduction = (400.0 if order[0] == first else 50.0) * 2 ** (0.1 * rng.standard_normal())
            made = make_record(order, seed, 0.975, reduction, task=task)
            text = made.sequence.replace("E(exits=2)", "E(exits=2,train=joint)" if joint else "E(exits=2)")
            records.append(replace(made, sequence=text))
    return records


@pytest.mark.parametrize(("first", "verdict"), [("P", "agree"), ("Q", "disagree")])
def test_an_order_survives_where_the_other_way_recommends_it_too(first: str, verdict: str) -> None:
    decide = find_experiment("robust-rate").decide
    (finding,) = decide([*world("P", "digits"), *world(first, "digits-rate")]).findings
    assert finding.verdict == verdict
    assert finding.effect is not None
    assert (finding.effect < -2) == (verdict == "disagree")


def test_an_order_that_may_be_the_best_but_is_not_the_likeliest_is_undecided() -> None:
    decide = find_experiment("robust-rate").decide
    torn = zip(world("P", "digits-rate", 5), world("Q", "digits-rate", 5), strict=True)
    varied = [one if one.seed < 2 else other for one, other in torn]
    (finding,) = decide([*world("P", "digits"), *varied]).findings
    assert finding.verdict == "undecided"
    assert "this one Q" in finding.measured


def test_joint_exits_are_told_by_their_knob() -> None:
    decide = find_experiment("robust-joint").decide
    (finding,) = decide([*world("P", "digits"), *world("E", "digits", joint=True)]).findings
    assert finding.verdict == "disagree"
    assert "this one E" in finding.measured


def test_few_seeds_decide_nothing() -> None:
    decide = find_experiment("robust-ranges").decide
    (finding,) = decide([*world("P", "digits", 2), *world("P", "digits-ranges", 2)]).findings
    assert finding.verdict == "undecided"


def test_arms_train_the_same_orders_at_other_recipes_or_knobs() -> None:
    task = TASKS["digits"]
    plain, rate = find_experiment("robust-rate").parts(task, MINUTES)
    assert plain.requests == rate.requests
    assert (plain.task.recipe.fine_tune_factor, rate.task.recipe.fine_tune_factor) == (1.0, 0.1)
    assert len({request.sequence.order for request in plain.requests}) == 24
    _, ranges = find_experiment("robust-ranges").parts(task, MINUTES)
    assert not ranges.task.recipe.refit_ranges
    _, joint = find_experiment("robust-joint").parts(task, MINUTES)
    assert joint.task.digest == plain.task.digest
    assert all("train=joint" in str(request.sequence) for request in joint.requests)


def test_the_rival_is_narrower_trains_as_long_and_is_measured_against_the_full_network() -> None:
    plain, half, quarter = find_experiment("robust-scratch").parts(TASKS["digits"], MINUTES)
    assert (half.task.model, quarter.task.model) == ("resnet14(width=4)", "resnet14(width=2)")
    assert half.task.recipe.epochs * 3 == plain.task.recipe.epochs * 5  # Q, E and baseline against five

    def costing(records: list[Record], bitops: float) -> list[Record]:
        costs = {"paper": {"baseline_bitops": bitops}}
        return [replace(one, extra={**one.extra, "costs": costs}) for one in records]

    rivals = [make_record("QE", seed, 0.975, 64.0, task="digits-scratch0.5") for seed in range(4)]
    decide = find_experiment("robust-scratch").decide
    (finding,) = decide([*costing(world("P", "digits"), 1024.0), *costing(rivals, 256.0)]).findings
    assert finding.verdict == "agree"  # log2 400 against log2 (64 · 1024 / 256) = 8
    assert finding.effect == pytest.approx(np.log2(400) - 8, abs=0.3)
    (silent,) = decide([*world("P", "digits"), *rivals]).findings
    assert silent.verdict == "undecided"
