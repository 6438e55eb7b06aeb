"""Records: what one measured sequence at one seed achieved, as plain JSON lines. No torch here."""

import gc
import gzip
import json
import logging
import lzma
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, NotRequired, TypedDict, cast, get_args

from ordercomp.codec import OMITTED, REST, Number, Plain, check, decode, encode, format_json, parse_json
from ordercomp.files import checksum_of, lock_of, read_bytes, refuse_link, replacing
from ordercomp.sequence import Order, StageSequence

Convention = Literal["paper", "honest", "apot", "nonzero"]  # of counting costs
CostName = Literal["bitops", "storage", "macs", "latency"]  # what a reduction is of
_log = logging.getLogger(__name__)
_COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
_MOST = sys.float_info.max
_CHECKSUM = b', "checksum": "'  # what stands between a record and its checksum
PAIRED, ADAPTIVE = "paired", "adaptive"  # `extra["design"]`: chosen by a design, or by a sampler


def check_cost(name: str) -> CostName:
    """Return the name of a cost. Raises ValueError."""
    if name not in get_args(CostName):
        raise ValueError(f"cost must be bitops, storage, macs or latency, got {name!r}")
    return cast("CostName", name)


class RecordError(ValueError):
    """A record that lacks a key or holds a value of the wrong kind; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCount:
    """How many trainings results took. Baselines count apart: every order needs one, shared or not."""

    done: int = 0  # of stages
    reused: int = 0  # found in a store
    baselines: int | None = field(default=None, metadata=OMITTED)  # done beside; records do not tell
    unshared: int = 0  # if no two sequences shared their first stages

    def __add__(self, other: "TrainingCount") -> "TrainingCount":
        return TrainingCount(
            done=self.done + other.done,
            reused=self.reused + other.reused,
            baselines=(self.baselines or 0) + (other.baselines or 0),
            unshared=self.unshared + other.unshared,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The uncompressed network at the record's seed: accuracy, or the record's metric, in [0, 1]."""

    accuracy: Number  # on validation data
    test_accuracy: Number
    extra: Plain = field(default_factory=dict, metadata=REST)

    def __post_init__(self) -> None:
        _check_accuracies("baseline", self.accuracy, self.test_accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Accuracy, or the record's metric, and cost at one exit threshold.

    Reductions say how many times smaller than the baseline.
    """

    threshold: Number | None  # confidence above which a sample leaves early; None: all go to the end
    accuracy: Number  # on validation data, a fraction
    test_accuracy: Number
    bitops_cr: Number  # convention "paper"; larger is better
    cr: Number  # storage, convention "paper"; larger is better
    extra: Plain = field(default_factory=dict, metadata=REST)  # e.g. "honest"

    def __post_init__(self) -> None:
        _check_accuracies("point", self.accuracy, self.test_accuracy)
        if self.threshold is not None:
            _check_finite("point", "threshold", self.threshold)
        for name, value in (("bitops_cr", self.bitops_cr), ("cr", self.cr)):
            _check_finite("point", name, value)
            if value <= 0:
                raise RecordError(f"point key {name!r} must be positive, got {value!r}")


class _Achieved(TypedDict):
    step: str
    notice: NotRequired[str]


class _Extras(TypedDict, total=False):
    """The extra keys of a record that are more than text to show."""

    notices: list[str]
    achieved: list[_Achieved]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measured sequence at one seed. A failed stage leaves `error` set and no points."""

    order: Order  # stage letters; "" is the baseline itself
    sequence: str  # text that StageSequence.parse reads
    task: str
    seed: int
    epochs: Number  # spent since the baseline, all stages together
    seconds: Number  # of the last stage alone
    baseline: Baseline
    points: tuple[OperatingPoint, ...]
    error: str | None = field(default=None, metadata=OMITTED)
    extra: Plain = field(default_factory=dict, metadata=REST)  # provenance and more

    def __post_init__(self) -> None:
        _check_finite("record", "epochs", self.epochs)
        _check_finite("record", "seconds", self.seconds)
        if self.seed < 0:
            raise RecordError(f"record key 'seed' must not be negative, got {self.seed}")

    @property
    def metric(self) -> str:
        """What its figures are: accuracy, where nothing else is said."""
        return str(self.extra.get("metric", "accuracy"))

    @property
    def accounting(self) -> str:
        """How epochs were counted when this was trained."""
        return str(self.extra.get("accounting", "per-stage"))

    @classmethod
    def from_json(cls, data: Plain) -> "Record":
        """Build a record from a JSON object; unknown keys go to `extra`. Raises RecordError."""
        try:
            record = decode(data, cls, "record")
            check(record.extra, _Extras, "record")
        except RecordError:
            raise
        except ValueError as error:
            raise RecordError(str(error)) from None
        _check_origin(record)
        return record

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this record, extras at the top level as they were read."""
        data: dict[str, Any] = encode(self)
        return data


def metric_of(records: Iterable[Record]) -> str:
    """What the figures of records are, which are of one task; accuracy if nothing is measured."""
    return next((record.metric for record in records if record.points), "accuracy")


def is_paired(record: Record) -> bool:
    """Whether a record may be paired: unless it says that a sampler chose it."""
    return record.extra.get("design") != ADAPTIVE


def record_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """A flat row for each operating point, and one for each failure, as `pandas.DataFrame` takes them.

    The baseline's figures stand as `baseline_accuracy` and `baseline_test_accuracy` in each; what stages were
    asked for stands in `sequence`. Keys beside those of docs/records.md are left out.
    """
    rows = []
    for record in records:
        own = {
            name: getattr(record, name) for name in ("task", "order", "sequence", "seed", "epochs", "seconds")
        }
        own |= {f"baseline_{name}": getattr(record.baseline, name) for name in ("accuracy", "test_accuracy")}
        own |= {"metric": record.metric, "error": record.error}
        measured = ("threshold", "accuracy", "test_accuracy", "bitops_cr", "cr")
        for point in record.points or (None,):
            rows.append(own | {name: getattr(point, name, None) for name in measured})
    return rows


def read_records(path: Path | str) -> list[Record]:
    """Read a JSON-lines file, `.gz` and `.xz` too; a torn last line without its newline is told and left out.

    Raises RecordError with file and line number, FileNotFoundError if the file is missing.
    """
    path = Path(path)
    try:
        lines = read_bytes(path).split(b"\n")
    except ValueError as error:
        raise RecordError(str(error)) from None
    records = []
    with _collector_paused():
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if number == len(lines) and not _is_json(line):  # a process died while writing it, or is at it
                _log.warning("%s: its last line is incomplete and was left out", path)
                continue
            try:
                records.append(parse_record(line))
            except RecordError as error:
                raise RecordError(f"{path}, line {number}: {error}") from None
    return records


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Look for no cycles among many new objects that hold none: that takes longer than to make them."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def parse_record(line: bytes) -> Record:
    """The record in a line, whose checksum must be right if it has one. Raises RecordError."""
    line, marker, checksum = line.rpartition(_CHECKSUM) if _CHECKSUM in line else (line, b"", b"")
    if marker and checksum.strip() != _checksum(line):
        raise RecordError("its checksum says that it was damaged, or changed by hand")
    return Record.from_json(_object(line + b"}" if marker else line))


def append_record(path: Path | str, record: Record) -> None:
    """Append one line and flush it to disk; a torn last line is cut off first.

    Many processes may append to one file. Raises ValueError for a compressed file, a link and an extra that
    JSON cannot hold; OSError if it cannot be written, and no part of the line is left then.
    """
    path = Path(path)
    if path.suffix in _COMPRESSED:
        raise ValueError(f"path must be an uncompressed file to append to, got {path}; use write_records")
    refuse_link(path)
    line = format_record(record)
    with lock_of(path), path.open("ab+", buffering=0) as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                _mend_last_line(file)
        start = file.tell()
        try:
            unwritten = memoryview(line)
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise


def write_records(path: Path | str, records: Iterable[Record]) -> None:
    """Write all records at once, replacing the file atomically; `.gz` and `.xz` are compressed."""
    path = Path(path)
    content = b"".join(format_record(record) for record in records)
    with replacing(path) as draft:
        draft.write_bytes(_COMPRESSED.get(path.suffix, bytes)(content))


def format_record(record: Record) -> bytes:
    """The line of a record, with its line break; its last key is a checksum over all before it."""
    text = format_json(record).encode()[:-1]
    return text + _CHECKSUM + _checksum(text) + b"\n"


def _checksum(text: bytes) -> bytes:
    """How a line ends."""
    return f'{checksum_of(text)}"}}'.encode()


def _mend_last_line(file: IO[bytes]) -> None:
    """Close a last line that lacks only its newline, cut off one that is torn."""
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    if _is_json(content[start:]):
        file.write(b"\n")
    else:
        file.truncate(start)
        file.seek(0, os.SEEK_END)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
        return False
    return True


def _object(line: bytes) -> Plain:
    try:
        data = parse_json(line)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if not isinstance(data, dict):
        raise RecordError(f"expected a JSON object, got {type(data).__name__}")
    return data


def _check_origin(record: Record) -> None:
    """Raise RecordError unless the sequence can be read and has the record's order."""
    try:
        order = StageSequence.parse(record.sequence).order
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RecordError(f"record key 'sequence' cannot be read: {reason}") from None
    if order != record.order:
        raise RecordError(f"record key 'order' must be that of the sequence, {order!r}, got {record.order!r}")


def _check_finite(what: str, name: str, value: Number) -> None:
    if not -_MOST <= value <= _MOST:  # nor is it NaN, nor an integer beyond all floats
        raise RecordError(f"{what} key {name!r} must be finite, got {str(value)[:40]}")


def _check_accuracies(what: str, accuracy: float, test_accuracy: float) -> None:
    if 0 <= accuracy <= 1 and 0 <= test_accuracy <= 1:
        return
    for name, value in (("accuracy", accuracy), ("test_accuracy", test_accuracy)):
        if not 0 <= value <= 1:
            raise RecordError(f"{what} key {name!r} must be a fraction in [0, 1], got {value!r}")


# Builds of this package, as records name them: which make the same results

# Builds that named results by a hash over their source, and what the same results were called later.
RENAMED: Mapping[str, str] = MappingProxyType({"0.1.0+bbcba8a9b22a0d95": "3526b5f9fa08"})


def results_of(build: str) -> str:
    """What the results of a build, such as "0.2.0+3526b5f9fa08", are known by: those of a name are equal."""
    return RENAMED.get(build, build.partition("+")[2] or build)
