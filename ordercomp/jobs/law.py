"""The law.json that records support: which order do they recommend, and which law do they show?

Trials of a paired design are evidence like any records. Trials that a sampler chose are not: they are
compared by the fronts that they reach, and what follows from them is labelled "adaptive".
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import Answer, AnswerAt, Sorts, derive_answer, rounded
from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.networks import Pick, networks_to_take
from ordercomp.analysis.pairs import Control
from ordercomp.analysis.report.result_files import AdaptiveFile, AnyFile, LawFile
from ordercomp.analysis.sampled import AdaptiveEvidence, adaptive_evidence
from ordercomp.records import CostName, Record, is_paired, metric_of
from ordercomp.sequence import Order


def law_of_records(
    records: Sequence[Record],
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
    store: Path | None = None,
    seed: int = 0,
) -> LawFile | AdaptiveFile:
    """Give the law.json that records support, with `evidence` "paired" or "adaptive".

    Args:
        records: of one task.
        stages: letters to order, default those that occur.
        loss: tolerated, a fraction of accuracy, for the `answer`.
        cost: whose reduction the answer is about.
        store: where the networks lie, for the commands that make them.
        seed: of the resampling.

    With records of a design among them, answer and law rest on these alone, and what a sampler's say stands
    beside them under `adaptive` (None if there are none, or none with all of `stages`). Without any, the
    whole is the adaptive reading, which recommends no order. Of several batches the larger one is told, and
    the answer says so (`analysis.batches`). Raises ValueError if nothing is measured, for stages that do not
    occur and for a loss outside of (0, 1].
    """
    records, batches = one_batch(records)
    designed = [record for record in records if is_paired(record)]
    chosen = [record for record in records if not is_paired(record) and record.points]
    if not designed:
        adaptive = AdaptiveFile(law=_adaptive(chosen, stages, seed))
        answer = derive_answer((), stages=adaptive.law.stages, loss=loss, cost=cost)
        return answered(adaptive, replace(answer, batches=batches), chosen, store=store)
    held = "".join(sorted({letter for record in designed for letter in record.order}))
    if missing := set(stages or "") - set(held):
        raise ValueError(f"stages must be among those that occur, {held}, got {min(missing)!r}")
    law = derive_law(designed, stages=stages, seed=seed)
    occurring = {letter for record in chosen for letter in record.order}
    speaks = bool(chosen) and set(stages or "") <= occurring
    file = LawFile(law=law, adaptive=_adaptive(chosen, stages, seed) if speaks else None)
    answer = derive_answer(designed, stages=law.stages, loss=loss, cost=cost)
    return answered(file, replace(answer, batches=batches), [*designed, *chosen], store=store)


def _adaptive(records: Sequence[Record], stages: Order | None, seed: int) -> AdaptiveEvidence:
    return adaptive_evidence(records, stages=stages, rng=np.random.default_rng(seed))


def answered(
    file: AnyFile,
    answer: Answer,
    records: Sequence[Record],
    *,
    store: Path | None = None,
    certified: Sequence[Pick] | None = None,
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
    left_alone: dict[int, float] = {}
    for record in records:
        if record.points:
            left_alone[record.seed] = float(record.baseline.test_accuracy)
    baseline = float(np.mean(list(left_alone.values()))) if left_alone else None
    shown = replace(
        rounded(replace(answer, baseline=baseline)),
        metric=metric,
        topological_sorts=Sorts(number=len(sorts), in_best_set=inside),
    )
    picks = networks_to_take(records, answer, law.stages, store=store) if certified is None else certified
    return replace(file, metric=metric, answer=shown, networks=tuple(picks))


def unless_under_trained(answer: Answer, controls: Sequence[Control]) -> Answer:
    """The answer, or one that recommends nothing where most controls of a law say that training was short.

    Under-trained stages fake an order: the epochs of a later stage serve an earlier one, too.
    """
    short = sum(control.status == "under-trained" for control in controls)
    if 2 * short <= len(controls):
        return answer

    def silent(at: AnswerAt) -> AnswerAt:
        return AnswerAt(loss=at.loss, setting=at.setting, at_floor=at.at_floor)

    return replace(
        answer,
        asked=silent(answer.asked),
        by_loss=tuple(map(silent, answer.by_loss)),
        by_setting=tuple(map(silent, answer.by_setting)),
        withheld=f"{short} of {len(controls)} networks gain from further epochs alone: train for longer",
    )
