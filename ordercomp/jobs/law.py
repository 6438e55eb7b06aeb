"""The law.json that records support: which chain do they recommend, and which law do they show?

Trials of a paired design are evidence like any records. Trials that a sampler chose are not: what follows
from them is labelled "adaptive", and recommends nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import Answer, AnswerAt, Sorts, answer_from, rounded
from ordercomp.analysis.batches import one_batch
from ordercomp.analysis.hints import Hints
from ordercomp.analysis.law import derive_law, law_from
from ordercomp.analysis.networks import Pick, networks_to_take
from ordercomp.analysis.posterior import posterior_of
from ordercomp.analysis.report.result_files import LawFile
from ordercomp.analysis.statistics import RULES
from ordercomp.jobs.recordings import recorded_hints
from ordercomp.records import CostName, Record, is_paired, metric_of, read_records
from ordercomp.sequence import Order

PROXY_FOLDER = "proxy"  # in that of a race: the race on a cheaper copy of the task before it
SHARES = ("accuracy", "balanced accuracy")  # of which guessing gets one part in the number of classes


def law_of_records(
    records: Sequence[Record],
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
    store: Path | None = None,
    copied: Path | None = None,
    prior: Sequence[str] = (),
) -> LawFile:
    """Give the law.json that records support, with `evidence` "paired" or "adaptive".

    Args:
        records: of one task.
        stages: letters to order, default those that occur.
        loss: tolerated, a fraction of accuracy.
        cost: whose reduction values are about.
        store: where the networks lie, for the commands that make them.
        copied: folder of the race, in which a cheaper copy may have been raced before.
        prior: names of recorded tasks that are heard as a hint, where no copy is.

    With records of a design among them, answer and law rest on these alone, and what a sampler's say stands
    beside them under `adaptive` (None if there are none, or none with all of `stages`). Without any, the
    law is that of the sampler's networks, and no order is recommended. Of several batches the larger one is
    told, and the answer says so (`analysis.batches`). Raises ValueError if nothing is measured, for stages
    that do not occur and for a loss outside of (0, 1].
    """
    records, batches = one_batch(records)
    designed = [record for record in records if is_paired(record)]
    sampled = [record for record in records if not is_paired(record) and record.points]
    used = designed or sampled
    if not used:
        raise ValueError("records must hold at least one measured network, got none")
    held = "".join(sorted({letter for record in used for letter in record.order}))
    if missing := set(stages or "") - set(held):
        raise ValueError(f"stages must be among those that occur, {held}, got {min(missing)!r}")
    hints = hints_in(copied, designed, stages or held, cost=cost) if copied and designed else None
    if prior and designed and hints is None:
        hints = recorded_hints(prior, stages or held, cost=cost)
    posterior = posterior_of(used, stages=stages, loss=loss, cost=cost, hints=hints, sampled=not designed)
    law = law_from(posterior, cost=cost)
    if not designed:
        nothing = Answer(asked=AnswerAt(loss=loss, seeds_needed=RULES.least_seeds), cost=cost)
        return answered(LawFile(law=law), replace(nothing, batches=batches), sampled, store=store)
    beside = None
    if sampled and set(law.stages) <= {letter for record in sampled for letter in record.order}:
        beside = derive_law(sampled, stages=law.stages, loss=loss, cost=cost, sampled=True)
    heard = () if hints is None else hints.names
    answer = replace(answer_from(posterior, cost=cost), batches=batches, prior=heard)
    return answered(LawFile(law=law, adaptive=beside), answer, [*designed, *sampled], store=store)


def hints_in(folder: Path, records: Sequence[Record], stages: Order, *, cost: CostName) -> Hints | None:
    """What a copy says that was raced in a folder of `discover` before the task; None if there was none."""
    path = folder / PROXY_FOLDER / "records.jsonl"
    if not path.is_file():
        return None
    own = [record for record in read_records(path) if set(record.order) <= set(stages)]
    return Hints.of(records, own, stages, cost=cost)


def answered(
    file: LawFile,
    answer: Answer,
    records: Sequence[Record],
    *,
    store: Path | None = None,
    certified: Sequence[Pick] | None = None,
) -> LawFile:
    """Give the law.json of these records with its answer, rounded, and the networks to take.

    The answer says under `topological_sorts` how many orders satisfy the law's decided pairs (fewer are
    listed there than exist, if they are many) and how many of these may be the best. The commands of the
    networks name `store`, if there is one. `metric`, here and in the answer, names what is lost. `certified`
    networks take the place of those that the records alone would name.
    """
    law, metric = file.law, metric_of(records)
    best = (answer.asked.all_stages or answer.asked).best_set
    sorts = () if law.cycle else law.orders
    measured = [record for record in records if record.points]
    left_alone = {record.seed: float(record.baseline.test_accuracy) for record in measured}
    baseline = float(np.mean(list(left_alone.values()))) if left_alone else None
    classes = max((int(record.extra.get("classes", 0)) for record in measured), default=0)
    guessing = 1 / classes if classes and metric in SHARES else None
    shown = replace(
        rounded(replace(answer, baseline=baseline, guessing=guessing)),
        metric=metric,
        topological_sorts=Sorts(number=len(sorts), in_best_set=sum(order in best for order in sorts)),
    )
    picks = networks_to_take(records, answer, law.stages, store=store) if certified is None else certified
    return replace(file, metric=metric, answer=shown, networks=tuple(picks))
