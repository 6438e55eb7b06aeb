"""The record log: the one file of records that a run leaves, and that several runs may write at once."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ordercomp.codec import encode, format_json, read_json, write_json
from ordercomp.files import drop_drafts, lock_of, refuse_link, replacing
from ordercomp.records import Record, RecordError, append_record, format_record, parse_record, read_records
from ordercomp.running.jobs import Finished, Request, key_of_record, node_key, torch_version
from ordercomp.running.task import Task
from ordercomp.running.versions import FORMER_BUILDS, results_version
from ordercomp.sequence import StageSequence

Identity = tuple[str, str, int, object]


def identity(record: Record) -> Identity:
    """What two records of the same node share: task, sequence, seed and the node's key."""
    return record.task, record.sequence, record.seed, record.extra.get("digest")


class RecordLog:
    """Records in a JSON-lines file: each node once, whatever run, process or day it comes from.

    A success takes the place of a failure of the same node; a failure that may pass is never written. A file
    belongs to one task, whose facts lie beside it in task.json.
    """

    def __init__(self, path: Path, *, task: Task | None = None, same_digest: bool = True) -> None:
        """Open the file, which is made with the first record; drafts left beside it are removed.

        Raises ValueError for a link, and for records of another task than `task` (None: of whatever task), by
        its name and, with `same_digest`, by its model, data and recipe, naming what differs.
        """
        self._path = path
        self._task = task if same_digest else None
        self._records: dict[Identity, Record] = {}
        self._state: tuple[int, int] | None = None  # inode and length of the file as far as it was read
        refuse_link(path)
        drop_drafts(path.parent)
        self._catch_up()
        for record in self.records:
            if task is not None and record.task != task.name:
                raise ValueError(
                    f"{path} holds records of task {record.task!r}, not {task.name!r}; choose another folder"
                )
            if self._task is not None and not is_made_with(self._task, record):
                raise ValueError(
                    f"{path} holds records of the same task with {self._difference()}; choose another "
                    "folder, or set it back"
                )

    @property
    def records(self) -> list[Record]:
        """The records in the order of their first line, those of other processes as far as seen."""
        return list(self._records.values())

    def lacks(self, requests: Iterable[Request]) -> list[Request]:
        """What the file lacks of these sequences and their prefixes, each by itself.

        A prefix is to be asked for: where the store holds what follows it, nothing else would bring it.
        """
        written = {(record.sequence, record.seed) for record in self._records.values()}
        nodes = (Request(prefix, asked.seed) for asked in requests for prefix in asked.sequence.prefixes)
        return [node for node in dict.fromkeys(nodes) if (str(node.sequence), node.seed) not in written]

    def add(self, finished: Finished) -> None:
        """Write the record of a finished node, unless the file has it or its failure is to pass.

        Raises OSError if it cannot be written; the file is then as it was.
        """
        if not finished.kept:
            return
        record, name = finished.record, identity(finished.record)
        if name in self._records and self._records[name].error is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._task is not None and not self._facts_path.exists():
            write_json(self._facts_path, self._task.facts)
        with lock_of(self._path):
            self._catch_up()
            if self._is_there(record):
                return
            if name in self._records:
                self._replace(record)
            else:
                append_record(self._path, record)
            self._records[name] = record
            self._state = self._look()

    @property
    def _facts_path(self) -> Path:
        return self._path.with_name("task.json")

    def _difference(self) -> str:
        """In which facts the task differs from the one that the file was begun with."""
        assert self._task is not None
        try:
            then = read_json(self._facts_path)
        except (OSError, ValueError):
            then = None
        now = json.loads(format_json(self._task.facts))
        if not isinstance(then, Mapping) or then == now:
            return "another model, data or recipe"
        keys = [key for key in now if then.get(key) != now[key]]
        return ", ".join(f"{key} = {encode(then.get(key))!r}, not {now[key]!r}" for key in keys)

    def _is_there(self, record: Record) -> bool:
        stored = self._records.get(identity(record))
        return stored is not None and (stored.error is None or record.error is not None)

    def _catch_up(self) -> None:
        """Read what others have written since the last look."""
        now = self._look()
        if now == self._state or now is None:
            return
        start = 0
        if self._state is not None and now[0] == self._state[0] and now[1] > self._state[1]:
            start = self._state[1]
        with self._path.open("rb") as file:
            file.seek(start)
            text = file.read()
        if start == 0:
            self._records.clear()
        for record in _whole_lines(text) if start > 0 else read_records(self._path):
            if not self._is_there(record):
                self._records[identity(record)] = record
        self._state = now[0], start + text.rfind(b"\n") + 1  # a torn last line is read again once it is whole

    def _look(self) -> tuple[int, int] | None:
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            return None
        return facts.st_ino, facts.st_size

    def _replace(self, record: Record) -> None:
        """Put a record in the place of its failure; every other line stays as it is, byte for byte."""
        new = format_record(record).removesuffix(b"\n")
        lines = [
            new
            if (written := _read_line(line)) is not None and identity(written) == identity(record)
            else line
            for line in self._path.read_bytes().split(b"\n")
        ]
        with replacing(self._path) as draft, draft.open("wb") as file:
            file.write(b"\n".join(lines))
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(text: bytes) -> list[Record]:
    return [record for line in text.split(b"\n") if (record := _read_line(line)) is not None]


def _read_line(line: bytes) -> Record | None:
    """The record of a line; None for what a writer of ours did not write."""
    try:
        return parse_record(line)
    except RecordError:
        return None


def is_made_with(task: Task, record: Record) -> bool:
    """Whether a record is of this task, as far as its digest tells: not where another code or torch made it.

    The precision is the record's own.
    """
    versions = record.extra.get("versions")
    made_with = versions if isinstance(versions, Mapping) else {}
    build, torch = (str(made_with.get(name)) for name in ("ordercomp", "torch"))
    if torch != torch_version() or not (
        build in FORMER_BUILDS or results_version(build) == results_version()
    ):
        return True
    precision = record.extra.get("precision")
    if precision in ("float32", "bfloat16"):
        task = replace(task, recipe=replace(task.recipe, precision=precision))
    key = key_of_record(task.digest, record)
    return key is None or key == node_key(task.digest, StageSequence.parse(record.sequence), record.seed)
