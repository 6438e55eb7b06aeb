"""A check that tests share: a task that passed is not tried again by each test that starts a job of it."""

from collections.abc import Iterator

import pytest

from ordercomp.jobs import check, discover, proxy, search
from ordercomp.running.task import Task


@pytest.fixture(autouse=True, scope="package")
def checked_once() -> Iterator[None]:
    passed: set[str] = set()

    def check_task(task: Task) -> None:
        if repr(task) not in passed:
            check.check_task(task)
            passed.add(repr(task))

    with pytest.MonkeyPatch.context() as patch:
        for job in (discover, proxy, search):
            patch.setattr(job, "check_task", check_task)
        yield
