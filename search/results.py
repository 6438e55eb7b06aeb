"""Results of a study: what was measured goes into its trials, and comes out of them as records.

Trials of the paired design, and prefixes that they trained on the way, compare orders at equal knobs and
seeds. Trials that a sampler chose are biased by its preferences, so they are labelled: pairs must not be
drawn from them. Records that no trial can hold lie beside the trials, as attributes of the study.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from optuna.importance import MeanDecreaseImpurityImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ordercomp.objectives import Objectives
from ordercomp.records import ADAPTIVE, PAIRED, Record, RecordError
from ordercomp.search.space import Space
from ordercomp.search.study import Study, naming_damage, naming_the_storage, place_of
from ordercomp.search.trials import PREFIX, design_of, node_of, this_worker, was_released
from ordercomp.sequence import StageSequence

_log = logging.getLogger(__name__)
BESIDE = "record at seed "  # study attributes of this beginning hold records of no trial
_FEWEST = 10  # trials that a statement about parameters needs

_claims = itertools.count()


def finish_trial(study: Study, trial: Trial, record: Record, objectives: Objectives) -> None:
    """Finish `trial` with `record`: complete with values and constraints, or failed with the error.

    Raises ValueError if the record lacks what the objectives need; the trial is then left running.
    """
    values = None if record.error is not None else objectives.values(record)
    violations = {} if values is None else objectives.constraints(record)
    for name, violation in violations.items():
        trial.set_constraint(name, violation)
    for name, value in _facts(record).items():
        trial.set_user_attr(name, value)
    if values is None:
        fail_trial(study, trial, record)
    else:
        study.tell(trial, values)


def fail_trial(study: Study, trial: Trial, record: Record) -> None:
    """Fail `trial` with the error of `record`, without that record: another run may not meet the error."""
    trial.set_user_attr("error", record.error)
    study.tell(trial, state=TrialState.FAIL)


def abandon_trial(study: Study, trial: Trial, prefix: Record, reason: str) -> None:
    """Finish `trial` as pruned, in Optuna's sense: it ended after `prefix` for the `reason` given."""
    trial.set_user_attr("abandoned", reason)
    trial.set_user_attr("abandoned_after", prefix.sequence)
    study.tell(trial, state=TrialState.PRUNED)


def add_prefix_trial(
    study: Study, space: Space, objectives: Objectives, sequence: StageSequence, record: Record
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
    rivals = [trial for trial in study.get_trials(deepcopy=False) if node_of(trial) == key]
    mine = next(trial.number for trial in rivals if trial.user_attrs.get("worker") == claim)
    if any(_stands_before(trial, mine) for trial in rivals):
        study.tell(mine, state=TrialState.FAIL)
    else:
        study.tell(mine, values)
    return mine


def attach_record(study: Study, space: Space, record: Record) -> None:
    """Keep with the study a record that no trial can hold, since its sequence lies outside the space.

    Such are prefixes and controls: together they say whether the training of the trials was long enough.
    """
    if not space.contains(StageSequence.parse(record.sequence)):
        study.set_user_attr(f"{BESIDE}{record.seed}: {record.sequence}", record.to_json())


def _stands_before(trial: FrozenTrial, number: int) -> bool:
    """Whether `trial` holds the result already, or claimed it with a number below `number`."""
    if trial.state == TrialState.COMPLETE:
        return trial.number != number
    claimed = trial.state == TrialState.RUNNING and design_of(trial) == PREFIX
    return claimed and trial.number < number


def _facts(record: Record) -> dict[str, object]:
    """What a trial carries of a record: all of it, and the parts that a dashboard shows by themselves."""
    shown = {name: record.extra[name] for name in ("checkpoint",) if name in record.extra}
    return {"record": record.to_json(), "epochs": record.epochs, "seconds": record.seconds, **shown}


def records_from_study(study: Study) -> list[Record]:
    """Give the distinct records of the completed trials, in the order of the trials, then those beside them.

    Each has `extra["design"]`: "paired" for the paired design and its prefixes, "adaptive" for what a sampler
    proposed and its prefixes. A sequence that both measured at a seed counts as paired, once.
    Trials without a record, which others have added, are left out with a warning. Raises ValueError if no
    completed trial has one, or if one is damaged.
    """
    with naming_the_storage(place_of(study)):
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        attributes = study.user_attrs
    ours = [trial for trial in trials if "record" in trial.user_attrs]
    if trials and not ours:
        raise ValueError(f"no trial of study {study.study_name!r} has a record; ordercomp did not run it")
    if foreign := len(trials) - len(ours):
        _log.warning("study %r: %d trials without a record are left out", study.study_name, foreign)
    with naming_damage(study._storage):
        designed = designed_nodes(ours)
    records: dict[tuple[str, int], Record] = {}
    for trial in ours:
        record = _record(trial.user_attrs.get("record"), f"trial {trial.number}", study.study_name)
        key = (record.sequence, record.seed)
        design = PAIRED if key in designed else ADAPTIVE
        records.setdefault(key, replace(record, extra={**record.extra, "design": design}))
    for name, data in attributes.items():
        if name.startswith(BESIDE):
            record = _record(data, name, study.study_name)
            extra = {**record.extra, "design": PAIRED}
            records.setdefault((record.sequence, record.seed), replace(record, extra=extra))
    return list(records.values())


def measured_nodes(study: Study) -> list[tuple[StageSequence, int]]:
    """Sequences and seeds that the finished trials have measured or, where abandoned, had measured last."""
    nodes: dict[tuple[str, int], None] = {}
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        if trial.state.is_finished() and "record" in attributes:
            nodes[attributes["sequence"], attributes["seed"]] = None
        elif trial.state == TrialState.PRUNED and "abandoned_after" in attributes:
            nodes[attributes["abandoned_after"], attributes["seed"]] = None
    return [(StageSequence.parse(text), seed) for text, seed in nodes]


def designed_nodes(trials: Iterable[FrozenTrial]) -> set[tuple[str, int]]:
    """Sequences and seeds of the paired design among the trials, with all their prefixes."""
    return {
        (str(prefix), trial.user_attrs["seed"])
        for trial in trials
        if design_of(trial) == PAIRED
        for prefix in StageSequence.parse(trial.user_attrs["sequence"]).prefixes
    }


def _record(data: object, place: str, study: str) -> Record:
    if not isinstance(data, dict):
        raise ValueError(f"{place} of study {study!r} has no record; ordercomp did not run it")
    try:
        return Record.from_json(data)
    except RecordError as error:
        raise ValueError(f"{place} of study {study!r}: {error}") from None


def count_states(study: Study) -> Mapping[str, int]:
    """Number of trials by state: "complete", "pruned", "fail", "waiting", "running"."""
    return Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))


def count_ended(study: Study) -> int:
    """Number of proposed trials that have ended, well or badly; prefixes on the way were not proposed.

    A trial that was failed to be enqueued again has not ended: the one in its stead will.
    """
    return sum(
        trial.state.is_finished() and design_of(trial) != PREFIX and not was_released(trial)
        for trial in study.get_trials(deepcopy=False)
    )


def parameter_importances(study: Study, objective: int = 0) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains in a random forest, largest first.

    Its mean decrease in impurity, since the time of Optuna's fANOVA doubles with every order that the trees
    tell apart, and its default looks at low values only. Only trials that have the most common set of
    parameters enter, since others lack some of them. Empty with fewer than ten such trials.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sets = Counter(frozenset(trial.params) for trial in trials)
    common = max(sets, key=sets.__getitem__, default=frozenset[str]())
    alike = [trial for trial in trials if common <= trial.params.keys()]
    if not common or len(alike) < _FEWEST or len({trial.values[objective] for trial in alike}) < 2:
        return {}
    shares = get_param_importances(
        study,
        evaluator=MeanDecreaseImpurityImportanceEvaluator(seed=0),
        params=sorted(common),
        target=lambda trial: float(trial.values[objective]),
    )
    return {name: float(share) for name, share in shares.items()}
