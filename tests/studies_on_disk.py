"""Small studies of the synthetic world, opened and run: what the tests of searches share."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.objectives import Objectives
from ordercomp.running.jobs import Finished, Request
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.sequence import StageSequence, permutations

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
ASKED = StudySpec(space=SPACE, objectives=Objectives())
ORDERS = [StageSequence.parse(order) for order in permutations("DPQE")]


def opened(
    storage: Path | str | None,
    *,
    space: Space = SPACE,
    objectives: Objectives | None = None,
    task: str = "synthetic",
    name: str = "test",
) -> optuna.Study:
    return open_study(
        storage,
        name=name,
        space=space,
        objectives=objectives or Objectives(),
        sampler=make_sampler("random", space),
        task=task,
    )


def run(study: optuna.Study, trials: int | None = None) -> None:
    list(run_study(study, TableRunner(SyntheticWorld()), ASKED, trials=trials))


def paired_study(storage: Path | None, count: int = 4, seeds: int = 1) -> optuna.Study:
    study = opened(storage)
    enqueue_paired_design(study, SPACE, ORDERS[:count], range(seeds))
    return study


def told_sequences(study: optuna.Study) -> list[tuple[object, object]]:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted((t.user_attrs["sequence"], t.user_attrs["record"]["sequence"]) for t in done)


class ForgetfulRunner(TableRunner):
    """Runs out of memory at Q, and at whatever comes after it."""

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        for finished in super().run(requests, lookahead=lookahead):
            if "Q" not in finished.record.order:
                yield finished
                continue
            record = replace(finished.record, points=(), error="no memory left")
            yield replace(finished, record=record, kept=False)
