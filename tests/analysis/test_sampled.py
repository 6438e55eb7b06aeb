"""Evidence from networks that a sampler chose."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from builders import make_record

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.analysis.report.result_files import AdaptiveFile, LawFile
from ordercomp.analysis.report.text import read_verdict
from ordercomp.analysis.sampled import adaptive_evidence
from ordercomp.codec import format_json
from ordercomp.jobs.study_law import law_of_study
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.sequence import StageSequence, permutations

optuna.logging.set_verbosity(optuna.logging.WARNING)


def networks(order: str, count: int, bitops_cr: float) -> list[Record]:
    return [make_record(order, seed, 0.95, bitops_cr * (1 + 0.01 * seed)) for seed in range(count)]


def test_the_side_that_reaches_the_better_front_comes_first() -> None:
    records = [*networks("DP", 8, 32.0), *networks("PD", 20, 16.0)]
    (pair,) = adaptive_evidence(records, rng=np.random.default_rng(0)).pairs
    assert (pair.verdict, pair.contexts, pair.effect.probability) == ("before", 8, 1.0)
    assert 0 < pair.effect.low <= pair.effect.mean <= pair.effect.high


def test_more_networks_on_one_side_are_no_advantage() -> None:
    rng = np.random.default_rng(1)
    records = [
        make_record(order, seed, 0.95, float(2 ** rng.normal(5, 1)))
        for order, count in (("DP", 100), ("PD", 10))
        for seed in range(count)
    ]
    (pair,) = adaptive_evidence(records, rng=rng).pairs
    assert pair.contexts == 10
    assert pair.verdict == "undecided"


def test_few_networks_decide_nothing() -> None:
    records = [*networks("DP", 4, 64.0), *networks("PD", 4, 2.0)]
    evidence = adaptive_evidence(records, rng=np.random.default_rng(0))
    assert evidence.pairs[0].verdict == "undecided"
    assert evidence.law is None
    assert set(evidence.orders) == {"DP", "PD"}


def test_one_seed_decides_nothing_however_many_networks_it_has() -> None:
    records = [
        make_record(order, seed, 0.95, size * (1 + 0.01 * number))
        for seed in (0, 1)
        for order, size in (("DP", 64.0), ("PD", 2.0))
        for number in range(20)
    ]
    (pair,) = adaptive_evidence(records, rng=np.random.default_rng(0)).pairs
    assert (pair.contexts, pair.seeds, pair.verdict) == (40, 2, "undecided")


def test_networks_of_a_seed_are_no_independent_evidence() -> None:
    """Seeds that differ in which order they like, with many networks each: no order is better."""
    decided = 0
    for number in range(10):
        rng = np.random.default_rng(number)
        tastes = rng.normal(0, 1, size=4)
        records = [
            make_record(order, seed, 0.95, float(2 ** (5 + sign * tastes[seed] / 2 + rng.normal(0, 0.3))))
            for seed in range(4)
            for order, sign in (("DP", 1), ("PD", -1))
            for _ in range(10)
        ]
        (pair,) = adaptive_evidence(records, rng=rng, resamples=100).pairs
        decided += pair.verdict != "undecided"
    assert decided <= 2


def test_a_pair_that_never_met_is_even() -> None:
    records = [*networks("DQ", 6, 8.0), *networks("P", 6, 4.0)]
    found = {(p.first, p.second): p for p in adaptive_evidence(records, rng=np.random.default_rng(0)).pairs}
    assert found["D", "P"].effect.probability == 0.5
    assert found["D", "P"].contexts == 0


def test_orders_are_valued_at_equal_numbers() -> None:
    records = [
        r for place, order in enumerate(permutations("DPQ")) for r in networks(order, 6, 64.0 / 2**place)
    ]
    evidence = adaptive_evidence(records, rng=np.random.default_rng(0), resamples=50)
    assert list(evidence.values) == permutations("DPQ")
    assert list(evidence.values.values()) == sorted(evidence.values.values(), reverse=True)


def test_the_same_generator_gives_the_same_evidence() -> None:
    records = [*networks("DP", 8, 32.0), *networks("PD", 9, 30.0)]
    one, other = (adaptive_evidence(records, rng=np.random.default_rng(7)) for _ in range(2))
    assert one == other


def test_its_json_reads_like_a_law() -> None:
    records = [*networks("DP", 8, 32.0), *networks("PD", 8, 16.0)]
    found = adaptive_evidence(records, rng=np.random.default_rng(0))
    data = json.loads(format_json(found))
    assert (data["evidence"], data["law"], data["unique"]) == ("adaptive", "DP", True)
    assert read_verdict(found).order == "DP"


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "at least one measured network"),
        ([make_record("D", error="gone")], {}, "at least one measured network"),
        ([make_record("D"), make_record("D", task="other")], {}, "of one task, got other, synthetic"),
        ([make_record("D")], {"resamples": 0}, "resamples must be at least 1"),
        ([make_record("D")], {"alpha": 0}, "alpha must lie in"),
    ],
)
def test_bad_input_is_refused(records: list[Record], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adaptive_evidence(records, rng=np.random.default_rng(0), **options)  # type: ignore[arg-type]


def stored(path: Path, *, seeds: int, trials: int) -> Path:
    space = Space("DPQ", SYNTHETIC_KNOBS, optional=True)
    study = open_study(
        path,
        name="law",
        space=space,
        objectives=Objectives(),
        sampler=make_sampler("random", space, seed=2),
        task="synthetic",
    )
    enqueue_paired_design(study, space, map(StageSequence.parse, permutations("DPQ")), range(seeds))
    spec = StudySpec(space=space, objectives=Objectives())
    list(run_study(study, TableRunner(SyntheticWorld(penalty=0.05)), spec, trials=trials))
    return path


@pytest.mark.integration
def test_a_designed_study_gives_a_paired_law_with_the_rest_beside_it(tmp_path: Path) -> None:
    law = law_of_study(stored(tmp_path / "study.db", seeds=3, trials=24))
    assert isinstance(law, LawFile)
    assert law.law.trainings.done == 3 * 15
    assert law.adaptive is not None
    assert law_of_study(tmp_path / "study.db", "law", seed=0) == law


def test_a_study_without_a_design_is_labelled_adaptive(tmp_path: Path) -> None:
    law = law_of_study(stored(tmp_path / "study.log", seeds=0, trials=12))
    assert isinstance(law, AdaptiveFile)
    assert "bias" in law.law.notes[0]


def test_an_empty_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished trial"):
        law_of_study(stored(tmp_path / "study.db", seeds=0, trials=0))
