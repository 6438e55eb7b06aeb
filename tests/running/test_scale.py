"""A quick form of benchmarks/scale.py: the true runner on simulated trainings."""

import pytest

from benchmarks import scale


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of every state with every other one, which hundreds of nodes make slow."""
    monkeypatch.delenv("ORDERCOMP_CHECK_STATES", raising=False)


@pytest.mark.integration
def test_workers_find_work_while_new_seeds_have_a_baseline_only() -> None:
    found = scale.load(4, 32, trainings=800)
    assert found["trainings"] >= 800
    assert found["efficiency"] > 0.85  # 0.78 where only two requests a worker are looked at


@pytest.mark.integration
def test_a_race_trains_less_than_all_orders_and_finds_the_planted_one() -> None:
    found = scale.race(4, 8)
    assert found["agrees_with_the_law"]
    assert found["trainings"] < found["exhaustive_trainings"] * 2 / 3  # chains of all lengths compete
