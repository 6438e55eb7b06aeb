"""The study of cheaper copies, on its recording: what it compares, and what it says of that."""

import pytest

from ordercomp.jobs.recordings import load_recorded
from ordercomp.records import Record
from ordercomp.studies.proxies import LOSSES, Compared, compare_all

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [*load_recorded("digits"), *load_recorded("proxies-digits")]


@pytest.fixture(scope="module")
def compared(records: list[Record]) -> list[Compared]:
    return compare_all(records)


def test_every_recorded_copy_is_compared_at_every_loss(compared: list[Compared]) -> None:
    by_error = {(one.proxy, one.chains.loss) for one in compared if one.rule == "error"}
    assert len(by_error) == 9 * len(LOSSES)
    assert {one.seeds for one in compared} == {1, 2}


def test_work_and_losses_follow_the_copy(compared: list[Compared]) -> None:
    one = next(
        one
        for one in compared
        if one.proxy == "epochs=0.25,width=0.5" and one.rule == "error" and one.chains.loss == 0.02
    )
    assert one.work == 0.25 * 0.25
    assert one.chains.proxy_loss > 5 * 0.02  # its baseline errs far more often


def test_copies_rank_the_chains_better_than_chance_and_worse_than_the_task(compared: list[Compared]) -> None:
    for one in compared:
        if one.rule == "error":
            assert 0.4 < one.chains.correlation < one.chains.reliability


def test_the_order_of_records_changes_nothing(records: list[Record], compared: list[Compared]) -> None:
    backward = _correlations(compare_all(records[::-1]))
    assert backward == pytest.approx(_correlations(compared))


def _correlations(compared: list[Compared]) -> dict[tuple[str, str, float], float]:
    return {(one.proxy, one.rule, one.chains.loss): one.chains.correlation for one in compared}
