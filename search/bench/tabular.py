"""A runner without training: every node is answered from recorded or computed results.

It makes search itself measurable: a study on a table of records takes milliseconds a trial, and counts the
stage trainings that a real runner would have paid for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ordercomp.knobs import Knob
from ordercomp.records import Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.search.space import Space
from ordercomp.sequence import KnobValue, StageSequence

Oracle = Callable[[StageSequence, int], Record]


def oracle_of(records: Iterable[Record]) -> Oracle:
    """Turn records into a function of sequence and seed; what was not recorded is a failed record.

    Raises ValueError if there are no records.
    """
    table: Mapping[tuple[str, int], Record] = {(record.sequence, record.seed): record for record in records}
    if not table:
        raise ValueError("records must not be empty")
    some = next(iter(table.values()))

    def look_up(sequence: StageSequence, seed: int) -> Record:
        missing = replace(
            some,
            order=sequence.order,
            sequence=str(sequence),
            seed=seed,
            points=(),
            error="not in the table",
        )
        return table.get((str(sequence), seed), missing)

    return look_up


def space_of(records: Iterable[Record]) -> Space:
    """The space of a table: orders of some of its stages, each knob with the values that occur.

    Controls (F) are no part of it. Raises ValueError if there are no records of other stages.
    """
    found: dict[str, dict[str, set[KnobValue]]] = {}
    for record in records:
        for step in StageSequence.parse(record.sequence).steps:
            values = found.setdefault(step.stage, {})
            for name, value in step.settings.items():
                values.setdefault(name, set()).add(value)
    knobs = {
        stage: {
            name: Knob(default=min(some, key=str), help="", choices=tuple(sorted(some, key=str)))
            for name, some in values.items()
        }
        for stage, values in found.items()
        if stage != "F"
    }
    stages = sorted(knobs, key=lambda stage: ("DPQE".find(stage) % 9, stage))
    return Space("".join(stages), knobs, optional=True)


class TableRunner:
    """Answers requests in the order in which they come, prefix by prefix, as a runner with one worker would.

    Nodes that failed cost nothing.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.workers = 1
        self._done: set[tuple[str, int]] = set()
        self.trainings = 0  # stage trainings so far
        self.seconds = 0.0  # that they would have taken, by the records

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        """Yield every node of every request, each distinct node once; never looks ahead."""
        del lookahead
        yielded: set[tuple[str, int]] = set()
        for request in requests:
            failed: Record | None = None
            for prefix in request.sequence.prefixes:
                key = (str(prefix), request.seed)
                if failed is not None:
                    record = replace(failed, order=prefix.order, sequence=str(prefix), seconds=0.0)
                    yield Finished(Request(prefix, request.seed), record, False)
                    continue
                record = self._oracle(prefix, request.seed)
                failed = record if record.error is not None else None
                reused = key in self._done
                if not reused and failed is None:
                    self._done.add(key)
                    self.trainings += 1
                    self.seconds += record.seconds
                if key not in yielded:
                    yielded.add(key)
                    yield Finished(Request(prefix, request.seed), record, reused)
