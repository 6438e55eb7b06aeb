"""A check that tests share: a task that passed is not tried again by each test that starts a job of it."""

from collections.abc import Iterator

import pytest

from ordercomp.jobs import check, discover, proxy, search
from ordercomp.running.task import Task

PASSED: set[str] = set()


def check_once(task: Task) -> None:
    if repr(task) not in PASSED:
        check.check_task(task)
        PASSED.add(repr(task))


@pytest.fixture(autouse=True, scope="module")
def checked_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for job in (discover, proxy, search):
            patch.setattr(job, "check_task", check_once)
        yield
