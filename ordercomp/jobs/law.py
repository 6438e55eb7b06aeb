"""Experiment: which order do the records of a design or of a study recommend, and which law do they show?

Trials of a paired design are evidence like any records. Trials that a sampler chose are not: they are
compared by the fronts that they reach, and what follows from them is labelled "adaptive".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ordercomp.analysis.answer import derive_answer
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.report.result_files import AdaptiveFile, LawFile
from ordercomp.analysis.sampled import AdaptiveEvidence, adaptive_evidence
from ordercomp.jobs.law_folder import answered
from ordercomp.records import Record
from ordercomp.search.results import is_paired, records_from_study
from ordercomp.search.study import find_study
from ordercomp.sequence import Order


def law_of_study(
    storage: str | Path,
    study: str | None = None,
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    seed: int = 0,
) -> LawFile | AdaptiveFile:
    """Give the law.json that a study supports, as `law_of_records` reads its trials.

    `study` may be left out if the storage holds only one. Raises ValueError if the storage cannot be read,
    the study is not there or not ours, or holds nothing measured.
    """
    records = records_from_study(find_study(storage, study))
    if not records:
        raise ValueError(f"the study in {str(storage)!r} holds no finished trial to derive a law from")
    return law_of_records(records, stages=stages, loss=loss, seed=seed)


def law_of_records(
    records: Sequence[Record],
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    store: Path | None = None,
    seed: int = 0,
) -> LawFile | AdaptiveFile:
    """Give the law.json that records support, with `evidence` "paired" or "adaptive".

    Args:
        records: of one task.
        stages: letters to order, default those that occur.
        loss: tolerated, a fraction of accuracy, for the `answer`.
        store: where the networks lie, for the commands that make them.
        seed: of the resampling.

    With records of a design among them, answer and law rest on these alone, and what a sampler's say stands
    beside them under `adaptive` (None if there are none, or none with all of `stages`). Without any, the
    whole is the adaptive reading, which recommends no order. Raises ValueError if nothing is measured, for
    stages that do not occur and for a loss outside of (0, 1].
    """
    designed = [record for record in records if is_paired(record)]
    chosen = [record for record in records if not is_paired(record) and record.points]
    if not designed:
        adaptive = AdaptiveFile(law=_adaptive(chosen, stages, seed))
        answer = derive_answer((), stages=adaptive.law.stages, loss=loss)
        return answered(adaptive, answer, chosen, store=store)
    held = "".join(sorted({letter for record in designed for letter in record.order}))
    if missing := set(stages or "") - set(held):
        raise ValueError(f"stages must be among those that occur, {held}, got {min(missing)!r}")
    law = derive_law(designed, stages=stages, seed=seed)
    occurring = {letter for record in chosen for letter in record.order}
    speaks = bool(chosen) and set(stages or "") <= occurring
    file = LawFile(law=law, adaptive=_adaptive(chosen, stages, seed) if speaks else None)
    answer = derive_answer(designed, stages=law.stages, loss=loss)
    return answered(file, answer, [*designed, *chosen], store=store)


def _adaptive(records: Sequence[Record], stages: Order | None, seed: int) -> AdaptiveEvidence:
    return adaptive_evidence(records, stages=stages, rng=np.random.default_rng(seed))
