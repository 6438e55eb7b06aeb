"""How often does the law that a sampler's trials suggest agree with that of the paired design, by budget?

    python benchmarks/adaptive_law.py --budgets 50 100 200 --seeds 5

runs a search without any design on the synthetic world for each budget of stage trainings and seed, reads its
adaptive evidence, and compares the best-supported order with that of a paired design of three seeds on
the same world. Prints one JSON line per budget: share of equal orders, mean number of pairs turned
around, share of decided pairs, and share of these that are right.
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
import optuna

from ordercomp.analysis.adaptive import AdaptiveEvidence, adaptive_evidence
from ordercomp.analysis.law import derive_law
from ordercomp.orders import Order, kendall_distance, permutations
from ordercomp.search.evidence import records_from_study
from ordercomp.search.objective import Objectives
from ordercomp.search.running import Question, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.search.synthetic import SYNTHETIC_KNOBS, SyntheticWorld
from ordercomp.search.tabular import TableRunner
from ordercomp.sequence import StageSequence

__all__ = ["agreement", "designed_order"]

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


def designed_order(world: SyntheticWorld, seeds: int) -> Order:
    """The order that the whole paired design supports best."""
    study = _study("random", 0)
    enqueue_paired_design(study, SPACE, map(StageSequence.parse, permutations("DPQE")), range(seeds))
    list(run_study(study, TableRunner(world), Question(space=SPACE, objectives=Objectives())))
    return derive_law(records_from_study(study)).kemeny


def agreement(
    world: SyntheticWorld, truth: Order, *, sampler: str, budget: int, seeds: Sequence[int]
) -> dict[str, float]:
    """Compare the adaptive evidence of one search per seed with `truth`."""
    found = [_evidence(world, sampler, budget, seed) for seed in seeds]
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


def _evidence(world: SyntheticWorld, sampler: str, budget: int, seed: int) -> AdaptiveEvidence:
    study, runner = _study(sampler, seed), TableRunner(world)
    question = Question(space=SPACE, objectives=Objectives(), seed=seed)
    for _ in run_study(study, runner, question, trials=100_000):
        if runner.trainings >= budget:
            break
    return adaptive_evidence(records_from_study(study), rng=np.random.default_rng(seed), resamples=200)


def _study(sampler: str, seed: int) -> optuna.Study:
    return open_study(
        None,
        name="agreement",
        space=SPACE,
        objectives=Objectives(),
        sampler=make_sampler(sampler, SPACE, seed=seed),
        task="synthetic",
    )


def main() -> None:
    """Measure all budgets."""
    parser = argparse.ArgumentParser(description="Agreement of adaptive and paired laws, by budget.")
    parser.add_argument("--budgets", type=int, nargs="*", default=[50, 100, 200, 400])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe"])
    parser.add_argument("--penalty", type=float, default=0.02, help="accuracy lost by a pair against the law")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    world = SyntheticWorld(penalty=chosen.penalty)
    truth = designed_order(world, 3)
    for sampler in chosen.samplers:
        for budget in chosen.budgets:
            found = agreement(world, truth, sampler=sampler, budget=budget, seeds=range(chosen.seeds))
            print(json.dumps({"sampler": sampler, "trainings": budget, "paired": truth, **found}), flush=True)


if __name__ == "__main__":
    main()
