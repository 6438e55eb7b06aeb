"""A study run through a runner: each trial told once, nothing trained twice, nothing lost."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.running.jobs import Finished, Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.search.drive import Abandonment, StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.sequence import StageSequence, permutations
from tests.fakes import FakeTask, calls, work

pytestmark = pytest.mark.integration

optuna.logging.set_verbosity(optuna.logging.WARNING)

PERMUTATIONS = Space("DPQE", SYNTHETIC_KNOBS)
SUBSETS = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


def opened(
    space: Space = SUBSETS, storage: Path | None = None, sampler: str = "random", seed: int = 0
) -> optuna.Study:
    return open_study(
        storage,
        name="test",
        space=space,
        objectives=Objectives(),
        sampler=make_sampler(sampler, space, seed=seed),
        task="synthetic",
    )


def spec(space: Space = SUBSETS, abandonment: Abandonment | None = None) -> StudySpec:
    return StudySpec(space=space, objectives=Objectives(), abandonment=abandonment)


def paired(study: optuna.Study, space: Space, seeds: Iterable[int] = (0,)) -> int:
    sequences = [StageSequence.parse(order) for order in permutations("DPQE")]
    return enqueue_paired_design(study, space, sequences, seeds)


def of_design(study: optuna.Study, design: str) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.user_attrs.get("design") == design]


def test_the_paired_design_trains_64_nodes_and_tells_24_trials() -> None:
    study, runner = opened(PERMUTATIONS), TableRunner(SyntheticWorld())
    assert paired(study, PERMUTATIONS) == 24
    finished = list(run_study(study, runner, spec(PERMUTATIONS)))
    assert len(finished) == runner.trainings == 64
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert [trial.user_attrs["sequence"][0] for trial in study.trials] == list("DDDDDDPPPPPPQQQQQQEEEEEE")
    assert len(study.trials) == 24


def test_a_prefix_in_the_space_becomes_one_completed_trial() -> None:
    study, runner = opened(), TableRunner(SyntheticWorld())
    paired(study, SUBSETS)
    list(run_study(study, runner, spec()))
    assert len(of_design(study, "paired")) == 24
    assert len(of_design(study, "prefix")) == 40  # 4 + 12 + 24 nodes that are not whole permutations
    assert len({trial.user_attrs["sequence"] for trial in study.trials}) == 64


def test_a_told_trial_carries_what_was_measured() -> None:
    study, world = opened(), SyntheticWorld()
    enqueue_paired_design(study, SUBSETS, [StageSequence.parse("DPE")], [5])
    list(run_study(study, TableRunner(world), spec()))
    (trial,) = of_design(study, "paired")
    sequence = StageSequence.parse(trial.user_attrs["sequence"])
    record = world(sequence, 5)
    assert sequence == SUBSETS.complete(StageSequence.parse("DPE"))
    assert trial.user_attrs["record"] == record.to_json()
    assert (trial.user_attrs["seed"], trial.user_attrs["epochs"]) == (5, record.epochs)
    assert trial.values == Objectives().values(record)
    assert trial.params == SUBSETS.params(sequence)


def test_the_number_of_trials_is_that_of_the_whole_study(tmp_path: Path) -> None:
    storage = tmp_path / "study.db"
    for total in (5, 5, 12):
        study = opened(storage=storage, seed=total)
        list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=total))
        assert len(of_design(study, "adaptive")) == total


def test_a_design_is_completed_in_a_study_that_is_full() -> None:
    study = opened()
    list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=3))
    enqueue_paired_design(study, SUBSETS, [StageSequence.parse("DPQE")], [7])
    list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=3))
    (trial,) = of_design(study, "paired")
    assert trial.state == TrialState.COMPLETE
    assert len(of_design(study, "adaptive")) == 3


def test_a_run_alone_on_a_study_does_not_read_it_again_for_each_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, looks = opened(PERMUTATIONS), []
    read = study.get_trials
    monkeypatch.setattr(study, "get_trials", lambda **how: looks.append(how) or read(**how))
    list(run_study(study, TableRunner(SyntheticWorld()), spec(PERMUTATIONS), trials=40))
    assert len(of_design(study, "adaptive")) == 40
    assert len(looks) <= 8  # one of them for what had failed before


@pytest.mark.parametrize("ahead", [1, 7, 30])
def test_runs_that_take_turns_on_a_study_fill_it_together(tmp_path: Path, ahead: int) -> None:
    studies = [opened(storage=tmp_path / "study.db", seed=seed) for seed in range(2)]
    one, other = (run_study(study, TableRunner(SyntheticWorld()), spec(), trials=20) for study in studies)
    for _ in range(ahead):
        next(one, None)
    list(other)
    list(one)
    trials = of_design(studies[0], "adaptive")
    assert len([trial for trial in trials if trial.state == TrialState.COMPLETE]) == 20
    assert not studies[0].get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_storage_that_fails_at_the_first_look_is_an_error_of_the_storage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = opened()

    def fail(**_: object) -> list[FrozenTrial]:
        raise StorageInternalError

    monkeypatch.setattr(study, "get_trials", fail)
    with pytest.raises(OSError, match="the storage of study 'test' failed"):
        list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=3))


class TakenForDead(RandomSampler):
    """Proposes the first two trials so slowly that another process fails them meanwhile."""

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        if trial.number < 2 and study.trials[trial.number].state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        return super().sample_independent(study, trial, param_name, param_distribution)


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_a_trial_that_others_took_for_dead_is_left_to_them(tmp_path: Path, file: str) -> None:
    study = opened(storage=tmp_path / file)
    study.sampler = TakenForDead(seed=0)
    list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=5))
    done = [trial for trial in of_design(study, "adaptive") if trial.state == TrialState.COMPLETE]
    assert len(done) == 5
    assert [trial.state for trial in study.trials[:2]] == [TrialState.FAIL] * 2


def test_a_duplicate_is_told_without_a_request() -> None:
    space = Space("Q", SYNTHETIC_KNOBS)  # 12 sequences
    study, runner = opened(space), TableRunner(SyntheticWorld())
    list(run_study(study, runner, spec(space), trials=40))
    assert runner.trainings <= 12
    assert len(study.trials) == 40
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


class StoppingRunner(TableRunner):
    """Ends after some nodes, as a runner does whose budget is spent, with one more request pulled."""

    def __init__(self, nodes: int) -> None:
        super().__init__(SyntheticWorld())
        self._nodes = nodes

    def run(self, requests: Iterable[Request], *, lookahead: int | None = None) -> Iterator[Finished]:
        for finished in super().run(requests, lookahead=lookahead):
            if self._nodes == 0:
                return
            self._nodes -= 1
            yield finished


def test_a_run_that_stops_early_puts_its_open_trials_back(tmp_path: Path) -> None:
    study = opened(storage=tmp_path / "study.log")
    paired(study, SUBSETS)
    list(run_study(study, StoppingRunner(10), spec()))
    assert not study.get_trials(states=(TrialState.RUNNING,))
    study = opened(storage=tmp_path / "study.log")
    list(run_study(study, TableRunner(SyntheticWorld()), spec()))
    told = study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(t.user_attrs["design"] for t in told) == ["paired"] * 24 + ["prefix"] * 40


def test_a_caller_that_stops_iterating_puts_open_trials_back() -> None:
    study = opened(PERMUTATIONS)
    paired(study, PERMUTATIONS)
    running = run_study(study, TableRunner(SyntheticWorld()), spec(PERMUTATIONS))
    next(running)
    running.close()
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 24


def test_a_failed_stage_fails_its_trials_and_the_rest_goes_on() -> None:
    world = SyntheticWorld()

    def broken(sequence: StageSequence, seed: int) -> Record:
        record = world(sequence, seed)
        failed = sequence.order == "DP"
        return replace(record, points=(), error="loss is not finite") if failed else record

    study = opened(PERMUTATIONS)
    paired(study, PERMUTATIONS)
    list(run_study(study, TableRunner(broken), spec(PERMUTATIONS)))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [StageSequence.parse(t.user_attrs["sequence"]).order for t in failed] == ["DPQE", "DPEQ"]
    assert all("not finite" in trial.user_attrs["error"] for trial in failed)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 22
    assert paired(study, PERMUTATIONS) == 0  # a stage that failed stays failed


def test_a_hopeless_prefix_ends_its_trial_early() -> None:
    rule = Abandonment(tolerance=0.01, recovery=0.0)
    study, runner = opened(PERMUTATIONS), TableRunner(SyntheticWorld())
    list(run_study(study, runner, spec(PERMUTATIONS, rule), trials=30))
    abandoned = study.get_trials(states=(TrialState.PRUNED,))
    assert abandoned
    assert len(abandoned) + len(study.get_trials(states=(TrialState.COMPLETE,))) == 30
    for trial in abandoned:
        after = StageSequence.parse(trial.user_attrs["abandoned_after"])
        assert trial.user_attrs["sequence"].startswith(str(after))
        assert "can recover to" in trial.user_attrs["abandoned"]


def test_what_earlier_runs_measured_counts_for_abandonment(tmp_path: Path) -> None:
    rule = Abandonment(tolerance=1.0, recovery=0.0, slack=0.0, evidence=1)
    study = opened(storage=tmp_path / "study.db")
    list(run_study(study, TableRunner(SyntheticWorld()), spec(), trials=60))
    again = opened(storage=tmp_path / "study.db", seed=1)
    list(run_study(again, TableRunner(SyntheticWorld()), spec(abandonment=rule), trials=63))
    assert any("behind the front" in trial.user_attrs.get("abandoned", "") for trial in again.trials)


def test_abandonment_without_its_objective_is_refused() -> None:
    objectives = Objectives(names=("accuracy", "log2_cr"))
    with pytest.raises(ValueError, match="abandonment goes by bit operations, so objectives must hold"):
        StudySpec(space=SUBSETS, objectives=objectives, abandonment=Abandonment())


def test_a_runner_that_refuses_to_go_on_ends_a_run_with_abandonment() -> None:
    rule = Abandonment(tolerance=1.0)
    study = opened(PERMUTATIONS)
    for nodes in range(6):
        list(run_study(study, StoppingRunner(nodes), spec(PERMUTATIONS, rule), trials=3))
        assert not study.get_trials(states=(TrialState.RUNNING,))


def test_the_paired_design_is_never_abandoned() -> None:
    rule = Abandonment(tolerance=0.0, recovery=0.0)
    study = opened(PERMUTATIONS)
    paired(study, PERMUTATIONS)
    list(run_study(study, TableRunner(SyntheticWorld()), spec(PERMUTATIONS, rule)))
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 24


def test_a_missing_number_is_an_error_and_leaves_no_running_trial() -> None:
    objectives = Objectives(names=("accuracy", "latency_ms"))
    study = open_study(
        None,
        name="x",
        space=SUBSETS,
        objectives=objectives,
        sampler=make_sampler("random", SUBSETS),
        task="t",
    )
    asked = StudySpec(space=SUBSETS, objectives=objectives)
    with pytest.raises(ValueError, match="lacks latency_ms"):
        list(run_study(study, TableRunner(SyntheticWorld()), asked, trials=3))
    assert not study.get_trials(states=(TrialState.RUNNING,))


@pytest.mark.parametrize("abandonment", [None, Abandonment()])
def test_a_study_runs_on_the_real_runner_and_trains_each_node_once(
    tmp_path: Path, abandonment: Abandonment | None
) -> None:
    task, study = FakeTask(tmp_path / "calls"), opened()
    enqueue_paired_design(study, SUBSETS, [StageSequence.parse("DPQE"), StageSequence.parse("PD")], [0])
    with ThreadPoolExecutor(2) as pool:
        runner = Runner(task, Store(tmp_path / "store"), workers=2, executor=pool, work=work)
        list(run_study(study, runner, spec(abandonment=abandonment), trials=8))
    assert len(calls(task)) == 1 + runner.trainings.done
    told = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(of_design(study, "paired")) == 2
    assert len(of_design(study, "adaptive")) == 6
    assert len({trial.user_attrs["sequence"] for trial in told}) == runner.trainings.done
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_budget_ends_a_study_with_what_is_there(tmp_path: Path) -> None:
    task, study = FakeTask(tmp_path / "calls", seconds=0.05), opened()
    with ThreadPoolExecutor(2) as pool:
        store = Store(tmp_path / "store")
        runner = Runner(task, store, workers=2, executor=pool, budget_seconds=0.5, work=work)
        list(run_study(study, runner, spec(), trials=1000))
    assert study.get_trials(states=(TrialState.COMPLETE,))
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert len(study.get_trials(states=(TrialState.WAITING,))) <= 4  # twice the workers are asked ahead


def test_further_work_is_asked_for_once_nothing_waits_and_ends_the_run_if_there_is_none() -> None:
    study, world = opened(PERMUTATIONS), SyntheticWorld()
    sequences = [PERMUTATIONS.complete(StageSequence.parse(order)) for order in ("DPQE", "QPDE", "EDPQ")]
    beside = SUBSETS.complete(StageSequence.parse("QE"))
    asked: list[int] = []

    def more() -> list[Request] | None:
        asked.append(len(of_design(study, "paired")))
        if len(asked) > len(sequences):
            return None
        enqueue_paired_design(study, PERMUTATIONS, [sequences[len(asked) - 1]], [0])
        return [Request(beside, len(asked))]

    finished = list(run_study(study, TableRunner(world), spec(PERMUTATIONS), more=more))
    done = [trial for trial in of_design(study, "paired") if trial.state == TrialState.COMPLETE]
    assert [trial.user_attrs["sequence"] for trial in done] == [str(one) for one in sequences]
    assert {one.request.seed for one in finished if one.request.sequence.order == "QE"} == {1, 2, 3}
    assert asked == [0, 1, 2, 3]
