"""The law.json that the trials of an Optuna study support."""

from pathlib import Path

from ordercomp.analysis.report.result_files import LawFile
from ordercomp.jobs.law import law_of_records
from ordercomp.records import CostName
from ordercomp.search.results import records_from_study
from ordercomp.search.study import find_study
from ordercomp.sequence import Order


def law_of_study(
    storage: str | Path,
    study: str | None = None,
    *,
    stages: Order | None = None,
    loss: float = 0.02,
    cost: CostName = "bitops",
) -> LawFile:
    """Give the law.json that a study supports, as `law_of_records` reads its trials.

    `study` may be left out if the storage holds only one. Raises ValueError if the storage cannot be read,
    the study is not there or not ours, or holds nothing measured.
    """
    records = records_from_study(find_study(storage, study))
    if not records:
        raise ValueError(f"the study in {str(storage)!r} holds no finished trial to derive a law from")
    return law_of_records(records, stages=stages, loss=loss, cost=cost)
