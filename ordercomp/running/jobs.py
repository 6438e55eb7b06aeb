"""What travels between caller, runner and workers: requests, jobs, results; and the key of a node.

A node is one sequence at one seed. Its key is a Merkle hash: key of the prefix, then the step, so that equal
keys mean equal training from the first epoch on.
"""

import functools
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ordercomp.files import digest_of, is_digest
from ordercomp.records import Record
from ordercomp.running.versions import FORMER_BUILDS, results_version
from ordercomp.sequence import StageSequence, Step

KEY_FORMAT = 1


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

    It covers every earlier step, the seed, the task, torch's version and that of this package's results.
    """
    *_, key = _keys(task_digest, sequence, seed, results_version())
    return key


def former_keys(task_digest: str, sequence: StageSequence, seed: int) -> list[str]:
    """Return the keys under which former builds stored the same result."""
    return [[*_keys(task_digest, sequence, seed, build)][-1] for build in FORMER_BUILDS]


def key_of_record(task_digest: str, record: Record) -> str | None:
    """Return the key under which the network of a record lies; None if the record names none.

    A record of a former build names its own key; where the result still holds, it lies under today's.
    """
    digest = record.extra.get("digest")
    if not is_digest(digest):
        return None
    sequence = StageSequence.parse(record.sequence)
    if digest in former_keys(task_digest, sequence, record.seed):
        return node_key(task_digest, sequence, record.seed)
    return str(digest)


def job_chain(task: TaskIdentity, request: Request, store_root: Path, store_url: str = "") -> list[NodeJob]:
    """The jobs that lead to a request, from the baseline to its own sequence."""
    jobs: list[NodeJob] = []
    sequences = (StageSequence(), *request.sequence.prefixes)
    keys = _keys(task.digest, request.sequence, request.seed, results_version())
    for sequence, key in zip(sequences, keys, strict=True):
        parent_key = jobs[-1].key if jobs else None
        jobs.append(NodeJob(task, sequence, request.seed, key, parent_key, store_root, store_url))
    return jobs


def loads_baseline(step: Step) -> bool:
    """Whether a step learns from the uncompressed network, which must then be in the store, too."""
    return step.stage == "K" or step.settings.get("teacher") == "baseline"


def _keys(task_digest: str, sequence: StageSequence, seed: int, version: str) -> Iterator[str]:
    """The keys of the baseline and of every prefix, as a version of the results has them."""
    key = digest_of(KEY_FORMAT, version, torch_version(), task_digest, seed)
    yield key
    for step in sequence.steps:
        key = digest_of(key, str(step))
        yield key


@functools.cache
def torch_version() -> str:
    """The installed version of torch, which is part of every key."""
    return importlib.metadata.version("torch")
