"""A runner without training: every node is answered from recorded or computed results.

It makes search itself measurable: a study on a table of records takes milliseconds a trial, and counts the
stage trainings that a real runner would have paid for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ordercomp.jobs import Finished, Request
from ordercomp.records import Record
from ordercomp.sequence import StageSequence

__all__ = ["Oracle", "TableRunner", "oracle_of"]

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

    def run(self, requests: Iterable[Request], *, lookahead: int = 64) -> Iterator[Finished]:
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
