"""The part of law.json that answers: the answer, whether the law agrees with it, and the networks to take."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ordercomp.analysis.answer.answer import Answer
from ordercomp.analysis.answer.networks import Taken, networks_to_take
from ordercomp.records import Record

__all__ = ["answer_keys", "make_command"]


def answer_keys(
    answer: Answer,
    law: Mapping[str, Any],
    records: Sequence[Record],
    *,
    store: Path | None = None,
    certified: Sequence[Taken] | None = None,
) -> dict[str, Any]:
    """Give the keys `answer` and `networks` of the law.json of these records.

    `answer` says under `topological_sorts` how many orders satisfy the law's decided pairs (fewer are listed
    there than exist, if they are many) and how many of these may be the best. The commands of `networks` name
    `store`, if there is one. `certified` networks take the place of those that the records alone would name.
    """
    sorts = [] if law["cycle"] else list(law["orders"])
    inside = sum(order in answer.best_set for order in sorts)
    told = {**answer.to_json(), "topological_sorts": {"number": len(sorts), "in_best_set": inside}}
    taken = networks_to_take(records, answer, law["stages"]) if certified is None else certified
    return {
        "answer": told,
        "networks": [
            {**one.to_json(), "command": make_command(one, store=store, exact=certified is not None)}
            for one in taken
        ],
    }


def make_command(taken: Taken, *, store: Path | None, exact: bool = False) -> str:
    """The command that makes the network; its threshold follows from the loss, or stands there if `exact`."""
    record, threshold = taken.record, taken.point.threshold
    told = "none" if threshold is None else f"{threshold:.6g}"
    words = [
        *("ordercomp", "compress", record.sequence),
        *("--task", str(record.extra.get("task_source", record.task)), "--seed", str(record.seed)),
        *(() if store is None else ("--store", str(store))),
        *(("--threshold", told) if exact else ("--loss", f"{100 * taken.loss:g}%")),
        *("--out", f"{record.order}.safetensors"),
    ]
    return shlex.join(words)
