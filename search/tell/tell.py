"""Tell Optuna what was measured: of a proposed trial, of an abandoned one, of a prefix, of no trial."""

import itertools

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ordercomp.records import Record
from ordercomp.search.objective import Objectives
from ordercomp.search.space import Space
from ordercomp.search.streams import PREFIX
from ordercomp.search.tell.owners import this_worker
from ordercomp.sequence import StageSequence

BESIDE = "record at seed "  # study attributes of this beginning hold records of no trial

_claims = itertools.count()


def tell_record(study: optuna.Study, trial: Trial, record: Record, objectives: Objectives) -> None:
    """Finish `trial` with `record`: complete with values and constraints, or failed with the error.

    Raises ValueError if the record lacks what the objectives need; the trial is then left running.
    """
    if record.error is not None:
        _note(trial, record)
        trial.set_user_attr("error", record.error)
        study.tell(trial, state=TrialState.FAIL)
        return
    values = objectives.values(record)
    for name, violation in objectives.constraints(record).items():
        trial.set_constraint(name, violation)
    _note(trial, record)
    study.tell(trial, values)


def tell_lost(study: optuna.Study, trial: Trial, record: Record) -> None:
    """Fail `trial` with the error of a `record` that another run may not meet, so without that record."""
    trial.set_user_attr("error", record.error)
    study.tell(trial, state=TrialState.FAIL)


def tell_abandoned(study: optuna.Study, trial: Trial, prefix: Record, reason: str) -> None:
    """Finish `trial` as pruned: it ended after `prefix` for the `reason` given."""
    trial.set_user_attr("abandoned", reason)
    trial.set_user_attr("abandoned_after", prefix.sequence)
    study.tell(trial, state=TrialState.PRUNED)


def add_prefix_trial(
    study: optuna.Study, space: Space, objectives: Objectives, sequence: StageSequence, record: Record
) -> int | None:
    """Add a prefix that was trained on the way as a completed trial, once in a study; return its number.

    Nothing is added if the space does not hold the sequence. Many processes may finish or reuse the same
    prefix at once, and no storage offers a unique key: each adds a running trial, and only the one with
    the lowest number is completed, so a rare loser shows as failed.
    """
    if not space.contains(sequence):
        return None
    key, claim = (str(sequence), record.seed), f"{this_worker()}#{next(_claims)}"
    attributes = {"sequence": key[0], "seed": key[1], "design": PREFIX, "worker": claim, **_facts(record)}
    values = objectives.values(record)
    trial = create_trial(
        state=TrialState.RUNNING,
        params=space.params(sequence),
        distributions=space.distributions(sequence),
        user_attrs=attributes,
        constraints=objectives.constraints(record),
    )
    study.add_trial(trial)
    rivals = [trial for trial in study.get_trials(deepcopy=False) if result_key(trial) == key]
    mine = next(trial.number for trial in rivals if trial.user_attrs.get("worker") == claim)
    if any(_stands_before(trial, mine) for trial in rivals):
        study.tell(mine, state=TrialState.FAIL)
    else:
        study.tell(mine, values)
    return mine


def keep_beside(study: optuna.Study, space: Space, record: Record) -> None:
    """Keep a record with the study that no trial can hold, since its sequence lies outside the space.

    Such are prefixes and controls: together they say whether the training of the trials was long enough.
    """
    if not space.contains(StageSequence.parse(record.sequence)):
        study.set_user_attr(f"{BESIDE}{record.seed}: {record.sequence}", record.to_json())


def result_key(trial: FrozenTrial) -> tuple[object, object]:
    """Give the sequence text and the seed of a trial: equal for trials that mean the same result."""
    return trial.user_attrs.get("sequence"), trial.user_attrs.get("seed")


def _stands_before(trial: FrozenTrial, number: int) -> bool:
    """Whether `trial` holds the result already, or claimed it with a number below `number`."""
    if trial.state == TrialState.COMPLETE:
        return trial.number != number
    claimed = trial.state == TrialState.RUNNING and trial.user_attrs.get("design") == PREFIX
    return claimed and trial.number < number


def _note(trial: Trial, record: Record) -> None:
    for name, value in _facts(record).items():
        trial.set_user_attr(name, value)


def _facts(record: Record) -> dict[str, object]:
    """What a trial carries of a record: all of it, and the parts that a dashboard shows by themselves."""
    facts: dict[str, object] = {
        "record": record.to_json(),
        "epochs": record.epochs,
        "seconds": record.seconds,
    }
    if "checkpoint" in record.extra:
        facts["checkpoint"] = record.extra["checkpoint"]
    return facts
