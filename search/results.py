"""Records out of a study: what its finished trials measured, and whether a design or a sampler chose them.

Trials of the paired design, and prefixes that they trained on the way, compare orders at equal knobs and
seeds. Trials that a sampler chose are biased by its preferences, so they are labelled: pairs must not be
drawn from them. Records that no trial can hold lie beside the trials, as attributes of the study.
"""

from collections.abc import Iterable
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from ordercomp.records import Record, RecordError
from ordercomp.search.study import ADAPTIVE, PAIRED
from ordercomp.search.tell.storage import naming_the_storage
from ordercomp.search.tell.tell import BESIDE
from ordercomp.sequence import StageSequence


def records_from_study(study: optuna.Study) -> list[Record]:
    """Give the distinct records of the completed trials, in the order of the trials, then those beside them.

    Each has `extra["design"]`: "paired" for the paired design and its prefixes, "adaptive" for what a sampler
    proposed and its prefixes. A sequence that both measured at a seed counts as paired, once.
    Raises ValueError if the study holds completed trials that are not ours.
    """
    with naming_the_storage(f"study {study.study_name!r}"):
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        attributes = study.user_attrs
    designed = designed_nodes(trials)
    found: dict[tuple[str, int], Record] = {}
    for trial in trials:
        record = _record(trial.user_attrs.get("record"), f"trial {trial.number}", study.study_name)
        key = (record.sequence, record.seed)
        design = PAIRED if key in designed else ADAPTIVE
        found.setdefault(key, replace(record, extra={**record.extra, "design": design}))
    for name, data in attributes.items():
        if name.startswith(BESIDE):
            record = _record(data, name, study.study_name)
            extra = {**record.extra, "design": PAIRED}
            found.setdefault((record.sequence, record.seed), replace(record, extra=extra))
    return list(found.values())


def measured_nodes(study: optuna.Study) -> list[tuple[StageSequence, int]]:
    """Sequences and seeds that the finished trials have measured or, where abandoned, had measured last."""
    found: dict[tuple[str, int], None] = {}
    for trial in study.get_trials(deepcopy=False):
        told = trial.user_attrs
        if trial.state.is_finished() and "record" in told:
            found[told["sequence"], told["seed"]] = None
        elif trial.state == TrialState.PRUNED and "abandoned_after" in told:
            found[told["abandoned_after"], told["seed"]] = None
    return [(StageSequence.parse(text), seed) for text, seed in found]


def is_paired(record: Record) -> bool:
    """Whether a record may be paired: unless it says that a sampler chose it."""
    return record.extra.get("design") != ADAPTIVE


def designed_nodes(trials: Iterable[FrozenTrial]) -> set[tuple[str, int]]:
    """Sequences and seeds of the paired design among the trials, with all their prefixes."""
    return {
        (str(prefix), trial.user_attrs["seed"])
        for trial in trials
        if trial.user_attrs.get("design") == PAIRED
        for prefix in StageSequence.parse(trial.user_attrs["sequence"]).prefixes
    }


def _record(data: object, place: str, study: str) -> Record:
    if not isinstance(data, dict):
        raise ValueError(f"{place} of study {study!r} has no record; ordercomp did not run it")
    try:
        return Record.from_json(data)
    except RecordError as error:
        raise ValueError(f"{place} of study {study!r}: {error}") from None
