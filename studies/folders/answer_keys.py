"""The part of law.json that answers: the answer, whether the law agrees with it, and the networks to take."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ordercomp.analysis.answer.answer import Answer, AnswerAt, Sorts
from ordercomp.analysis.answer.networks import Taken, networks_to_take
from ordercomp.codec import encode
from ordercomp.records import Record, metric_of

__all__ = ["answer_keys", "make_command", "unless_under_trained"]


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
    `store`, if there is one. `metric`, here and in the answer, names what is lost where that is not accuracy.
    `certified` networks take the place of those that the records alone would name.
    """
    answer = unless_under_trained(answer, law)
    sorts = [] if law["cycle"] else list(law["orders"])
    inside = sum(order in answer.best_set for order in sorts)
    metric = metric_of(records)
    named = {} if metric == "accuracy" else {"metric": metric}
    told = replace(
        answer.rounded(), metric=metric, topological_sorts=Sorts(number=len(sorts), in_best_set=inside)
    )
    taken = networks_to_take(records, answer, law["stages"]) if certified is None else certified
    return {
        **named,
        "answer": encode(told),
        "networks": [
            {**one.to_json(), "command": make_command(one, store=store, exact=certified is not None)}
            for one in taken
        ],
    }


def unless_under_trained(answer: Answer, law: Mapping[str, Any]) -> Answer:
    """The answer, or one that recommends nothing where most controls of the law say that training was short.

    Under-trained stages fake an order: the epochs of a later stage serve an earlier one, too.
    """
    reason = _under_trained(law)
    if not reason:
        return answer

    def silent(one: AnswerAt) -> AnswerAt:
        return AnswerAt(loss=one.loss, rung=one.rung)

    return replace(
        answer,
        asked=silent(answer.asked),
        by_loss=tuple(map(silent, answer.by_loss)),
        by_rung=tuple(map(silent, answer.by_rung)),
        withheld=reason,
    )


def _under_trained(law: Mapping[str, Any]) -> str:
    """Why the training was too short to recommend an order; empty if it was not, as far as known."""
    controls = law.get("convergence") or ()
    short = sum(control["status"] == "under-trained" for control in controls)
    if 2 * short <= len(controls):
        return ""
    return f"{short} of {len(controls)} networks gain from further epochs alone: train for longer"


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
