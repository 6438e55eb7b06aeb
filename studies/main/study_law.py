"""Experiment: which law do the trials of a study support, if any?

Trials of a paired design are evidence like any records. Trials that a sampler chose are not: they are
compared by the fronts that they reach, and what follows from them is labelled "adaptive".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ordercomp.analysis.evidence.sampled import adaptive_evidence
from ordercomp.analysis.law.derive import derive_law
from ordercomp.orders import Order
from ordercomp.records import Record
from ordercomp.search.tell.read_back import is_paired, records_from_study
from ordercomp.search.tell.study import find_study

__all__ = ["law_of_records", "law_of_study"]


def law_of_study(
    storage: str | Path, study: str | None = None, *, stages: Order | None = None, seed: int = 0
) -> dict[str, Any]:
    """Give the law.json that a study supports, as `law_of_records` reads its trials.

    `study` may be left out if the storage holds only one. Raises ValueError if the storage cannot be read,
    the study is not there or not ours, or holds nothing measured.
    """
    records = records_from_study(find_study(storage, study))
    if not records:
        raise ValueError(f"the study in {str(storage)!r} holds no finished trial to derive a law from")
    return law_of_records(records, stages=stages, seed=seed)


def law_of_records(
    records: Sequence[Record], *, stages: Order | None = None, seed: int = 0
) -> dict[str, Any]:
    """Give the law.json that records support, with `evidence` "paired" or "adaptive".

    With records of a design among them, the law rests on these alone, and what a sampler's say stands beside
    it under `adaptive` (None if there are none, or none with all of `stages`). Without any, the whole is the
    adaptive reading. Raises ValueError if nothing is measured, or for stages that do not occur.
    """
    designed = [record for record in records if is_paired(record)]
    chosen = [record for record in records if not is_paired(record) and record.points]
    if not designed:
        return _adaptive(chosen, stages, seed)
    law = derive_law(designed, stages=stages, seed=seed).to_json()
    occurring = {letter for record in chosen for letter in record.order}
    speaks = bool(chosen) and set(stages or "") <= occurring
    return {**law, "evidence": "paired", "adaptive": _adaptive(chosen, stages, seed) if speaks else None}


def _adaptive(records: Sequence[Record], stages: Order | None, seed: int) -> dict[str, Any]:
    return adaptive_evidence(records, stages=stages, rng=np.random.default_rng(seed)).to_json()
