"""What travels between caller, runner and workers: requests, jobs, results; and the key of a node.

A node is one sequence at one seed. Its key is a Merkle hash: key of the prefix, then the step, so that equal
keys mean equal training from the first epoch on.
"""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ordercomp.failures import FailedRunError
from ordercomp.records import Record
from ordercomp.sequence import StageSequence, Step

__all__ = [
    "Finished",
    "NodeJob",
    "Request",
    "StaleCodeError",
    "TaskIdentity",
    "adopt_code_version",
    "check_code_version",
    "code_version",
    "job_chain",
    "loads_baseline",
    "node_key",
]

KEY_FORMAT = 1
_UPPER_LAYERS = {"analysis", "search", "studies"}


class StaleCodeError(FailedRunError):
    """A worker runs other code than the runner that named the nodes."""


class TaskIdentity(Protocol):
    """What the runner needs to know of a task; a worker gets the whole task."""

    @property
    def name(self) -> str:
        """What people call the task."""

    @property
    def digest(self) -> str:
        """A hash over everything in the task that shapes a result: model, data, recipe, precision."""


@dataclass(frozen=True, slots=True)
class Request:
    """A sequence that someone wants measured at a seed."""

    sequence: StageSequence
    seed: int


@dataclass(frozen=True, slots=True)
class Finished:
    """One measured node. `request.sequence` is the node's own sequence, a prefix of what was asked for."""

    request: Request
    record: Record
    reused: bool  # whether it came from the store instead of a training of this run
    kept: bool = True  # False: a failure of this run alone, or what it prevents; the next run tries again


@dataclass(frozen=True, slots=True)
class NodeJob:
    """All that a worker needs to train one node: the prefix is in the store, the last step is to be done."""

    task: TaskIdentity
    sequence: StageSequence  # empty: train the baseline
    seed: int
    key: str
    parent_key: str | None  # key of the prefix; None for the baseline
    store_root: Path
    store_url: str = ""  # of what stands behind that folder
    alone: bool = False  # trained for want of memory with nothing beside it: its batch may shrink


def node_key(task_digest: str, sequence: StageSequence, seed: int) -> str:
    """Return the SHA-256, in hexadecimal, that names the node `sequence` at `seed` of a task.

    It covers every earlier step, the seed, the task, the versions of torch and of this package's code.
    """
    *_, key = _keys(task_digest, sequence, seed)
    return key


def job_chain(task: TaskIdentity, request: Request, store_root: Path, store_url: str = "") -> list[NodeJob]:
    """The jobs that lead to a request, from the baseline to its own sequence."""
    jobs: list[NodeJob] = []
    sequences = (StageSequence(), *request.sequence.prefixes)
    for sequence, key in zip(sequences, _keys(task.digest, request.sequence, request.seed), strict=True):
        parent_key = jobs[-1].key if jobs else None
        jobs.append(NodeJob(task, sequence, request.seed, key, parent_key, store_root, store_url))
    return jobs


def loads_baseline(step: Step) -> bool:
    """Whether a step learns from the uncompressed network, which must then be in the store, too."""
    return step.stage == "K" or step.settings.get("teacher") == "baseline"


def _keys(task_digest: str, sequence: StageSequence, seed: int) -> Iterator[str]:
    """The keys of the baseline and of every prefix."""
    key = _hash(KEY_FORMAT, code_version(), _torch_version(), task_digest, seed)
    yield key
    for step in sequence.steps:
        key = _hash(key, str(step))
        yield key


@functools.cache
def _torch_version() -> str:
    return importlib.metadata.version("torch")


def code_version() -> str:
    """Return the package's version with a hash over the source of its core, as it was at the first call.

    An edited core therefore trains anew instead of mixing old results with new ones. Code outside of the
    package, such as a plug-in stage or a model of the user's own, is not covered: give such a task another
    name or another folder when that code changes.
    """
    return _adopted[-1] if _adopted else _read_code_version()


def adopt_code_version(version: str) -> None:
    """Let this worker name nodes as the runner that started it does."""
    _adopted.append(version)


def check_code_version() -> None:
    """Raise StaleCodeError in a worker that has read another source than the runner that started it.

    Its results would lie under the name of code that did not make them.
    """
    if code_version() != _read_code_version():
        raise StaleCodeError(
            f"the source of ordercomp was edited while a run went on: it began with {code_version()}, "
            f"a later worker has {_read_code_version()}; finished nodes are kept: run again"
        )


_adopted: list[str] = []


@functools.cache
def _read_code_version() -> str:
    root = Path(__file__).parent.parent
    sources = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    core = [name for name in sources if name.split("/")[0] not in _UPPER_LAYERS]
    digest = _hash(*(f"{name}\n{(root / name).read_text(encoding='utf-8')}" for name in core))
    return f"{importlib.metadata.version('ordercomp')}+{digest[:16]}"


def _hash(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
