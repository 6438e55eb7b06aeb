"""Experiment: which law do the trials of a study support, if any?

Trials of a paired design are evidence like any records. Trials that a sampler chose are not: they are
compared by the fronts that they reach, and what follows from them is labelled "adaptive".
"""

from pathlib import Path
from typing import Any

import numpy as np

from ordercomp.analysis.adaptive import adaptive_evidence
from ordercomp.analysis.law import derive_law
from ordercomp.orders import Order
from ordercomp.search.evidence import is_paired, records_from_study
from ordercomp.search.study import find_study

__all__ = ["law_of_study"]


def law_of_study(
    storage: str | Path, study: str | None = None, *, stages: Order | None = None, seed: int = 0
) -> dict[str, Any]:
    """Give the law.json that a study supports, with `evidence` "paired" or "adaptive".

    With a paired design in the study, the law rests on its trials alone, and what the sampler's trials say
    stands beside it under `adaptive` (None if there are none). Without one, the whole is the adaptive
    reading. `study` may be left out if the storage holds only one. Raises ValueError if the storage
    cannot be read, the study is not there or not ours, or holds nothing measured.
    """
    records = records_from_study(find_study(storage, study))
    if not records:
        raise ValueError(f"the study in {str(storage)!r} holds no finished trial to derive a law from")
    rng = np.random.default_rng(seed)
    paired = [record for record in records if is_paired(record)]
    chosen = [record for record in records if not is_paired(record)]
    adaptive = adaptive_evidence(chosen, rng=rng).to_json() if chosen else None
    if not paired:
        assert adaptive is not None
        return adaptive
    law = derive_law(paired, stages=stages, seed=seed).to_json()
    return {**law, "evidence": "paired", "adaptive": adaptive}
