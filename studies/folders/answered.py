"""The answer in a law.json: whether it agrees with the law, and the networks to take."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ordercomp.analysis.answer import Answer, AnswerAt, Sorts
from ordercomp.analysis.networks import Taken, networks_to_take
from ordercomp.analysis.pairs import Control
from ordercomp.analysis.report.result_files import AnyFile, LawFile
from ordercomp.records import Record, metric_of


def answered(
    file: AnyFile,
    answer: Answer,
    records: Sequence[Record],
    *,
    store: Path | None = None,
    certified: Sequence[Taken] | None = None,
) -> AnyFile:
    """Give the law.json of these records with its answer, rounded, and the networks to take.

    The answer says under `topological_sorts` how many orders satisfy the law's decided pairs (fewer are
    listed there than exist, if they are many) and how many of these may be the best. The commands of the
    networks name `store`, if there is one. `metric`, here and in the answer, names what is lost. `certified`
    networks take the place of those that the records alone would name.
    """
    law, metric = file.law, metric_of(records)
    if isinstance(file, LawFile):
        answer = unless_under_trained(answer, file.law.convergence)
    sorts = () if law.cycle else law.orders
    inside = sum(order in answer.best_set for order in sorts)
    told = replace(
        answer.rounded(), metric=metric, topological_sorts=Sorts(number=len(sorts), in_best_set=inside)
    )
    taken = networks_to_take(records, answer, law.stages) if certified is None else certified
    picks = tuple(one.pick(make_command(one, store=store, exact=certified is not None)) for one in taken)
    return replace(file, metric=metric, answer=told, networks=picks)


def unless_under_trained(answer: Answer, controls: Sequence[Control]) -> Answer:
    """The answer, or one that recommends nothing where most controls of a law say that training was short.

    Under-trained stages fake an order: the epochs of a later stage serve an earlier one, too.
    """
    short = sum(control.status == "under-trained" for control in controls)
    if 2 * short <= len(controls):
        return answer

    def silent(one: AnswerAt) -> AnswerAt:
        return AnswerAt(loss=one.loss, rung=one.rung)

    return replace(
        answer,
        asked=silent(answer.asked),
        by_loss=tuple(map(silent, answer.by_loss)),
        by_rung=tuple(map(silent, answer.by_rung)),
        withheld=f"{short} of {len(controls)} networks gain from further epochs alone: train for longer",
    )


def make_command(taken: Taken, *, store: Path | None, exact: bool = False) -> str:
    """The command that makes the network; its threshold follows from the loss, or stands there if `exact`."""
    record, threshold = taken.record, taken.point.threshold
    told = "none" if threshold is None else f"{threshold:.6g}"
    words = [
        *("ordercomp", "compress", record.sequence),
        *("--task", str(record.extra.get("task_source", record.task)), "--seed", str(record.seed)),
        *(() if store is None else ("--store", str(store))),
        *(("--threshold", told) if exact else ("--loss", f"{100 * taken.loss:g}%")),
        *("--out", f"{record.order}-loss-{100 * taken.loss:g}.safetensors"),
    ]
    return shlex.join(words)
