"""How often does the law that a sampler's trials suggest agree with that of the paired design, by budget?

    python benchmarks/adaptive_law.py [RECORDS.jsonl] --budgets 50 100 200 --seeds 5

runs a search without any design on a table of records (or, without one, on the synthetic world) for each
budget of stage trainings and seed, reads its adaptive evidence, and compares the best-supported order with
that of the paired design: all records of the table, or three seeds on the synthetic world. Nothing is
trained. Prints one JSON line per budget: share of equal orders, mean number of pairs turned around, share of
decided pairs, and share of these that are right. What a table lacks fails at no cost; a search ends at the
latest after thirty trials for each training of its budget.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from benchmarks.search_worlds import (
    SPACE,
    Oracle,
    SyntheticWorld,
    TableRunner,
    open_world,
    oracle_of,
    space_of,
)
from ordercomp.analysis.law import derive_law
from ordercomp.analysis.sampled import AdaptiveEvidence, adaptive_evidence
from ordercomp.objectives import Objectives
from ordercomp.records import read_records
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.results import records_from_study
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design
from ordercomp.sequence import Order, StageSequence, kendall_distance, permutations

MOST_TRIALS = 30  # for each training of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What searches run on, and the order that its paired design supports best."""

    space: Space
    oracle: Oracle
    seeds: Sequence[int]  # of the trainings; searches take them in turn
    truth: Order


def recorded(path: Path) -> Ground:
    """A table of records, all of which are the design."""
    records = [record for record in read_records(path) if record.order]
    truth = derive_law(records).kemeny
    seeds = sorted({record.seed for record in records})
    return Ground(space=space_of(records), oracle=oracle_of(records), seeds=seeds, truth=truth)


def synthetic(penalty: float) -> Ground:
    """The synthetic world, with a design of three seeds."""
    world, study = SyntheticWorld(penalty=penalty), open_world(None)
    enqueue_paired_design(study, SPACE, map(StageSequence.parse, permutations("DPQE")), range(3))
    list(run_study(study, TableRunner(world), StudySpec(space=SPACE, objectives=Objectives())))
    truth = derive_law(records_from_study(study)).kemeny
    return Ground(space=SPACE, oracle=world, seeds=range(1000), truth=truth)


def agreement(ground: Ground, *, sampler: str, budget: int, seeds: Sequence[int]) -> dict[str, float]:
    """Compare the adaptive evidence of one search per seed with that of the design."""
    truth = ground.truth
    found = [_evidence(ground, sampler, budget, seed) for seed in seeds]
    decided = [pair for one in found for pair in one.pairs if pair.verdict != "undecided"]
    right = [
        (truth.index(pair.first) < truth.index(pair.second)) == (pair.verdict == "before") for pair in decided
    ]
    return {
        "same_order": float(np.mean([one.kemeny == truth for one in found])),
        "pairs_turned": float(np.mean([kendall_distance(one.kemeny, truth) for one in found])),
        "decided": len(decided) / sum(len(one.pairs) for one in found),
        "decided_right": float(np.mean(right)) if right else 1.0,
    }


def _evidence(ground: Ground, sampler: str, budget: int, seed: int) -> AdaptiveEvidence:
    study = open_world(None, sampler, space=ground.space, seed=seed)
    runner = TableRunner(ground.oracle)
    trained_at = ground.seeds[seed % len(ground.seeds)]
    spec = StudySpec(space=ground.space, objectives=Objectives(), seed=trained_at)
    for _ in run_study(study, runner, spec, trials=MOST_TRIALS * budget):
        if runner.trainings >= budget:
            break
    return adaptive_evidence(records_from_study(study), rng=np.random.default_rng(seed), resamples=200)


def main() -> None:
    """Measure all budgets."""
    parser = argparse.ArgumentParser(description="Agreement of adaptive and paired laws, by budget.")
    parser.add_argument("records", nargs="?", type=Path, help="a table instead of the synthetic world")
    parser.add_argument("--budgets", type=int, nargs="*", default=[50, 100, 200, 400])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe"])
    parser.add_argument("--penalty", type=float, default=0.02, help="accuracy lost by a pair against the law")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ground = synthetic(chosen.penalty) if chosen.records is None else recorded(chosen.records)
    for sampler in chosen.samplers:
        for budget in chosen.budgets:
            found = agreement(ground, sampler=sampler, budget=budget, seeds=range(chosen.seeds))
            line = {"sampler": sampler, "trainings": budget, "paired": ground.truth, **found}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
