"""Batches: records that one build's results, one version of torch and one precision made.

Networks of two batches may differ for reasons that have nothing to do with their order, so only one batch is
told, the larger, and a sentence says what was left out. Hardware alone makes no batch: orders are compared
within a seed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ordercomp.records import Record, is_paired, results_of


class RecordBatch(NamedTuple):
    """What made records, as far as they say."""

    results: str  # of the build
    torch: str  # its version, without the part after a plus, which names the hardware it was built for
    precision: str

    def __str__(self) -> str:
        named = (("results", self.results), ("torch", self.torch), ("", self.precision))
        return ", ".join(f"{name} {value}".strip() for name, value in named if value) or "of unknown make"


def batch_of(record: Record) -> RecordBatch:
    """The batch that a record belongs to."""
    stored = record.extra.get("versions")
    versions = stored if isinstance(stored, Mapping) else {}
    build, torch = (str(versions.get(name, "")) for name in ("ordercomp", "torch"))
    return RecordBatch(results_of(build), torch.partition("+")[0], str(record.extra.get("precision", "")))


def one_batch(records: Iterable[Record]) -> tuple[list[Record], str]:
    """The records of the larger batch, and a sentence on what was left out or pooled; empty for one batch.

    The larger batch has more runs of a design at whole seeds, at which it lacks nothing that another batch
    has; then more runs; then the later ones.
    """
    records = list(records)
    batches: dict[RecordBatch, list[Record]] = defaultdict(list)
    for record in records:
        if not _is_silent(record):
            batches[batch_of(record)].append(record)
    if len(batches) < 2:
        return records, _pooled(records)
    last = {batch_of(record): place for place, record in enumerate(records)}
    sizes = {batch: _runs_at_whole_seeds(own, records) for batch, own in batches.items()}
    larger = max(batches, key=lambda batch: (sizes[batch], len(batches[batch]), last[batch]))
    used = [record for record in records if _is_silent(record) or batch_of(record) == larger]
    others = {batch: own for batch, own in batches.items() if batch != larger}
    left_out = [f"{_described(own)} ({batch})" for batch, own in others.items()]
    twice = set(map(_run, batches[larger])) & {_run(record) for own in others.values() for record in own}
    again = f"; {len(twice)} of them at the same sequence and seed as one that is told" if twice else ""
    sentence = (
        f"Told are {_described(batches[larger])} ({larger}). Left out as another batch, which is never "
        f"pooled with them: {'; '.join(left_out)}{again}."
    )
    return used, " ".join(filter(None, (sentence, _pooled(used))))


def warn_of_others(records: Iterable[Record], own: RecordBatch) -> str:
    """Say which records are of another batch than those that come; empty where none is."""
    others = [record for record in records if not _is_silent(record) and batch_of(record) != own]
    if not others:
        return ""
    makes = "; ".join(sorted({str(batch_of(record)) for record in others}))
    return (
        f"{_described(others)} are of another batch ({makes}) and are never pooled with what this run adds "
        f"({own}): the larger batch is told; choose another folder to start anew"
    )


def _is_silent(record: Record) -> bool:
    """Whether it says nothing of what made it: one that was not trained, since what it needs failed."""
    return not record.points and batch_of(record) == RecordBatch("", "", "")


def _runs_at_whole_seeds(own: Sequence[Record], records: Sequence[Record]) -> int:
    """The runs of a design at the seeds at which a batch lacks nothing that was run."""
    every, mine = _by_seed(records), _by_seed(own)
    return sum(len(runs) for seed, runs in mine.items() if runs == every[seed])


def _by_seed(records: Iterable[Record]) -> dict[int, set[str]]:
    seeds: dict[int, set[str]] = defaultdict(set)
    for record in records:
        if record.order and is_paired(record):
            seeds[record.seed].add(record.sequence)
    return seeds


def _run(record: Record) -> tuple[str, int]:
    return record.sequence, record.seed


def _described(records: Sequence[Record]) -> str:
    return f"{len(records)} records at {seeds_text({record.seed for record in records})}"


def seeds_text(seeds: Collection[int]) -> str:
    """The seeds in words, neighbors as a span: "seed 3", "seeds 0 to 4 and 7"."""
    spans: list[tuple[int, int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], seed
        else:
            spans.append((seed, seed))
    words = [f"{low}" if low == high else f"{low} to {high}" for low, high in spans]
    return f"seed{'s' if len(seeds) > 1 else ''} {' and '.join(words)}"


def _pooled(records: Iterable[Record]) -> str:
    """Say which hardware is pooled; empty where it is one."""
    hardware = sorted({str(record.extra["hardware"]) for record in records if "hardware" in record.extra})
    return f"Pooled over hardware: {'; '.join(hardware)}." if len(hardware) > 1 else ""
