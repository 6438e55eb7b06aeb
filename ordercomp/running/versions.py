"""Which results are still what this code would make: declared versions of the rooms that shape a training.

Stored results are named by these numbers, not by the source, so that an upgrade keeps a user's days of
training. Whoever changes what a training comes out with bumps the room's number; the test of golden trainings
(tests/running/test_versions.py) fails until that is done.
"""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from types import MappingProxyType

from ordercomp.errors import FailedRunError

RESULT_VERSIONS: Mapping[str, int] = MappingProxyType(
    {"data": 2, "models": 1, "networks": 1, "training": 1, "stages": 4, "measuring": 1}
)

# Builds that named results by a hash over their source, and whose results are those of the numbers above.
FORMER_BUILDS: tuple[str, ...] = ()
_adopted: list[str] = []


class StaleCodeError(FailedRunError):
    """A worker makes other results than the runner that named the nodes."""


def code_version() -> str:
    """Return the package's version and, after a plus, what its results are known by.

    Two builds with the same part after the plus make the same results. Code outside of the package, such as a
    plug-in stage, is not covered: give such a task another folder when that code changes.
    """
    return _adopted[-1] if _adopted else _own_version()


def results_version(version: str | None = None) -> str:
    """The part of a code version, by default of this code's, by which results are named."""
    version = code_version() if version is None else version
    return version if version in FORMER_BUILDS else version.partition("+")[2]


def adopt_code_version(version: str) -> None:
    """Let this worker name nodes as the runner that started it does."""
    _adopted.append(version)


def check_code_version() -> None:
    """Raise StaleCodeError in a worker whose results are not those of the runner that started it.

    They would lie under the name of code that did not make them.
    """
    if results_version() != results_version(_own_version()):
        raise StaleCodeError(
            f"ordercomp was changed while a run went on, or differs between machines: it began with "
            f"{code_version()}, this worker has {_own_version()}; finished nodes are kept: run again"
        )


@functools.cache
def _own_version() -> str:
    text = json.dumps(dict(RESULT_VERSIONS), sort_keys=True)
    return f"{importlib.metadata.version('ordercomp')}+{hashlib.sha256(text.encode()).hexdigest()[:12]}"
