"""Samplers by name, and the choice of candidates by gain and price."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import optuna
import pytest
from builders import make_record
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner, oracle_of, space_of
from ordercomp.knobs import Knob
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.history import Front, FrontPoint, History, features
from ordercomp.search.samplers import SAMPLERS, CostOptions, make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_study
from ordercomp.sequence import StageSequence

optuna.logging.set_verbosity(optuna.logging.WARNING)

PERMUTATIONS = Space("DPQE", SYNTHETIC_KNOBS)
SUBSETS = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
WITHOUT_GRID = {"P": {"r": Knob(default=0.1, help="", low=0, high=1)}}


def run(
    sampler: str, space: Space = PERMUTATIONS, *, trials: int, seed: int = 0, cost: CostOptions | None = None
) -> tuple[optuna.Study, TableRunner]:
    made = make_sampler(sampler, space, seed=seed, trials=trials, cost=cost)
    study = open_study(None, name="s", space=space, objectives=Objectives(), sampler=made, task="t")
    runner = TableRunner(SyntheticWorld())
    list(run_study(study, runner, StudySpec(space=space, objectives=Objectives(), seed=seed), trials=trials))
    return study, runner


def proposed(study: optuna.Study) -> list[str]:
    return [t.user_attrs["sequence"] for t in study.trials if t.user_attrs["design"] == "adaptive"]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_every_sampler_fills_a_study_alike_for_the_same_seed(name: str) -> None:
    one, other = (run(name, trials=12, seed=3)[0] for _ in range(2))
    assert proposed(one) == proposed(other)
    assert len(proposed(one)) == 12


def failing_where(bad: Callable[[StageSequence], bool]) -> Callable[[StageSequence, int], Record]:
    """A world in which such sequences fail for good."""

    def world(sequence: StageSequence, seed: int) -> Record:
        record = SyntheticWorld()(sequence, seed)
        return replace(record, points=(), error="cannot be made") if bad(sequence) else record

    return world


def prunes_much(sequence: StageSequence) -> bool:
    return any(float(step.settings.get("ratio", 0)) > 0.5 for step in sequence.steps)


failing = failing_where(prunes_much)


@pytest.mark.integration
@pytest.mark.parametrize("cost", [None, CostOptions(startup=4, candidates=4, trees=4)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_failed_for_good_is_never_proposed_again(name: str, cost: CostOptions | None) -> None:
    if cost is not None and name in ("gp", "grid"):
        pytest.skip("cannot weigh costs")
    space = Space("DP", {name: SYNTHETIC_KNOBS[name] for name in "DP"}, optional=name != "gp")
    made = make_sampler(name, space, trials=24, cost=cost)
    study = open_study(None, name="s", space=space, objectives=Objectives(), sampler=made, task="t")
    spec = StudySpec(space=space, objectives=Objectives())
    list(run_study(study, TableRunner(failing), spec, trials=14))
    failed: set[str] = set()
    for trial in study.trials:
        sequence = trial.user_attrs["sequence"]
        assert not any(sequence.startswith(one) for one in failed)
        if trial.state == optuna.trial.TrialState.FAIL:
            failed.add(sequence)
    assert failed


@pytest.mark.integration
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda sequence: "P" in sequence.order, id="a stage"),
        pytest.param(lambda sequence: sequence.order == "PD", id="an order"),
        pytest.param(lambda sequence: sequence.order == "DP", id="what is best otherwise"),
        pytest.param(lambda sequence: len(sequence.order) == 2, id="two stages"),
        pytest.param(lambda sequence: len(str(sequence)) % 2 == 0, id="here and there"),
    ],
)
@pytest.mark.parametrize("name", ["tpe", "neighbors", "nsga2", "random"])
def test_what_failed_is_not_proposed_by_a_later_run_either(
    name: str, bad: Callable[[StageSequence], bool]
) -> None:
    space = Space("DP", {name: SYNTHETIC_KNOBS[name] for name in "DP"}, optional=True)
    study = None
    for _ in range(2):
        made = make_sampler(name, space, trials=24)
        study = study or open_study(
            None, name="s", space=space, objectives=Objectives(), sampler=made, task="t"
        )
        study.sampler = made  # which knows no more of the study than its trials tell
        spec = StudySpec(space=space, objectives=Objectives())
        list(run_study(study, TableRunner(failing_where(bad)), spec, trials=6))
    failed = [one.user_attrs["sequence"] for one in study.trials if one.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == len(set(failed))


def test_a_dense_space_lets_genes_be_inherited() -> None:
    dense = replace(SUBSETS, dense=True)
    one, other = (run(name, dense, trials=24)[0] for name in ("nsga2", "random"))
    assert proposed(one)[:4] == proposed(other)[:4]
    late = [trial.params for trial in one.trials if trial.user_attrs["design"] == "adaptive"][-8:]
    early = [trial.params for trial in one.trials][:-1]
    shared = [max(sum(a[k] == b[k] for k in a) for b in early if b is not a) for a in late]
    assert sum(shared) / len(shared) > len(late[0]) / 2


@pytest.mark.slow
def test_the_gaussian_process_fills_a_study() -> None:
    assert len(proposed(run("gp", Space("DP", SYNTHETIC_KNOBS), trials=6)[0])) == 6


@pytest.mark.integration
@pytest.mark.parametrize("name", ["tpe", "neighbors", "nsga2", "nsga3", "random"])
def test_cost_aware_samplers_propose_alike_for_the_same_seed(name: str) -> None:
    cost = CostOptions(startup=4, candidates=4, trees=4)
    one, other = (run(name, SUBSETS, trials=10, seed=3, cost=cost)[0] for _ in range(2))
    assert proposed(one) == proposed(other)


def test_the_grid_tries_every_sequence_once() -> None:
    knobs = {"D": {"depth": Knob(default=1, help="", low=1, high=3)}, "P": {}}
    space = Space("DP", knobs, optional=True)
    every = {str(sequence) for sequence in space.sequences()}
    made = make_sampler("grid", space)
    study = optuna.create_study(sampler=made)
    drawn = set()
    for _ in every:
        trial = study.ask()
        drawn.add(str(space.suggest(trial)))
        study.tell(trial, 0.0)
    assert drawn == every
    assert len(every) == 3 + 1 + 6


@pytest.mark.parametrize(
    ("name", "space", "cost", "message"),
    [
        (
            "annealing",
            SUBSETS,
            None,
            "sampler must be one of tpe, neighbors, nsga2, nsga3, gp, random, grid, got 'annealing'",
        ),
        ("gp", SUBSETS, None, "gp needs the same parameters in every trial"),
        ("grid", PERMUTATIONS, CostOptions(), "grid cannot weigh costs"),
        ("gp", PERMUTATIONS, CostOptions(), "gp cannot weigh costs"),
        (
            "grid",
            Space("P", {"P": {"r": Knob(default=0.1, help="", low=0, high=1)}}),
            None,
            "P.r has no step",
        ),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(
    name: str, space: Space, cost: CostOptions | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(name, space, cost=cost)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        make_sampler("tpe", SUBSETS, trials=0)
    with pytest.raises(ValueError, match="candidates must be at least 1"):
        CostOptions(candidates=0)
    with pytest.raises(ValueError, match="exponent must not be negative"):
        CostOptions(exponent=-1)


def test_weighing_costs_saves_trainings() -> None:
    cost = CostOptions(startup=5, candidates=4, trees=4)
    plain, saving = (run("random", SUBSETS, trials=20, cost=how)[1].trainings for how in (None, cost))
    assert saving < plain


points = st.lists(st.tuples(st.floats(0.5, 1), st.floats(0, 8)), max_size=12)


@given(points=points, new=st.tuples(st.floats(0.5, 1), st.floats(0, 8)))
def test_a_front_gains_exactly_the_area_that_a_point_adds(
    points: list[tuple[float, float]], new: tuple[float, float]
) -> None:
    front = Front(0.6)
    for point in points:
        front.add(FrontPoint(*point, StageSequence.parse("D")))
    assert front.gain(*new) == pytest.approx(area([*points, new], 0.6) - area(points, 0.6), abs=1e-9)


def area(points: list[tuple[float, float]], floor: float) -> float:
    """Slow and obvious: sum over the cells between all coordinates."""
    levels = sorted({floor, *(a for a, _ in points if a > floor)})
    places = sorted({0.0, *(r for _, r in points)})
    return sum(
        (high - low) * (right - left)
        for low, high in itertools.pairwise(levels)
        for left, right in itertools.pairwise(places)
        if any(a >= high and r >= right for a, r in points)
    )


def test_a_price_counts_only_untrained_stages() -> None:
    world, history = SyntheticWorld(), History(SUBSETS, Objectives(), 0)
    study = run("random", SUBSETS, trials=6)[0]
    history.update(study)
    known = StageSequence.parse(proposed(study)[0])
    assert history.missing_seconds(known) == 0.0
    assert all(str(prefix) in history.trained for prefix in known.prefixes)
    fresh = next(
        one
        for one in SUBSETS.sequences()
        if one.order == "ED" and str(one.prefixes[0]) not in history.trained
    )
    assert history.missing_seconds(fresh) == sum(world(prefix, 0).seconds for prefix in fresh.prefixes)


def test_features_tell_orders_and_knobs_apart() -> None:
    every = list(Space("DP", {s: SYNTHETIC_KNOBS[s] for s in "DP"}, optional=True).sequences())
    space = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
    rows = [tuple(features(space, sequence)) for sequence in every]
    assert len(set(rows)) == len(every)
    assert len({len(row) for row in rows}) == 1
    assert all(math.isfinite(number) for row in rows for number in row)


def test_a_table_answers_what_was_recorded_and_fails_the_rest() -> None:
    world = SyntheticWorld()
    records = [world(StageSequence.parse(text), 0) for text in ("D(depth=0.5)", "D(depth=0.5) P(ratio=0.4)")]
    oracle = oracle_of(records)
    assert oracle(StageSequence.parse(records[1].sequence), 0) == records[1]
    missing: Record = oracle(StageSequence.parse("P(ratio=0.4)"), 0)
    assert (missing.order, missing.points, missing.error) == ("P", (), "not in the table")
    with pytest.raises(ValueError, match="must not be empty"):
        oracle_of([])


def test_costs_are_weighed_by_bit_operations_only() -> None:
    objectives = Objectives(names=("accuracy", "log2_cr"))
    with pytest.raises(ValueError, match="weighing costs goes by bit operations, so objectives must hold"):
        make_sampler("tpe", SUBSETS, objectives=objectives, cost=CostOptions())


def test_the_space_of_a_table_has_its_stages_and_the_values_that_occur_but_no_control() -> None:
    texts = ("P(ratio=0.4) Q(weights=2)", "P(ratio=0.6) F", "D(depth=0.5)")
    records = [replace(make_record("D"), sequence=text) for text in texts]
    space = space_of(records)
    assert space.stages == "DPQ"
    assert space.knobs["P"]["ratio"].choices == (0.4, 0.6)
    assert all(space.contains(StageSequence.parse(text)) for text in (texts[0], texts[2]))
