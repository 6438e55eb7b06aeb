"""Many workers on one study: is any trial lost, run twice, or counted twice?

    python benchmarks/study_concurrency.py --workers 200 --storage postgresql://user@host/name

forks worker processes that run a paired design on the synthetic world, all on one storage (default: a journal
file in a temporary folder), and checks that every sequence of the design and every prefix is told exactly
once. Prints one JSON line; the exit code is 1 if anything was lost or doubled.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import optuna
from optuna.trial import TrialState

from ordercomp.orders import permutations
from ordercomp.search.objective import Objectives
from ordercomp.search.running import Question, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import enqueue_paired_design, open_study
from ordercomp.search.synthetic import SYNTHETIC_KNOBS, SyntheticWorld
from ordercomp.search.tabular import TableRunner
from ordercomp.sequence import StageSequence

__all__ = ["measure"]

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)
ORDERS = permutations("DPQE")


def measure(storage: str, workers: int, seeds: int) -> dict[str, object]:
    """Run 24 orders at `seeds` seeds with `workers` processes and count what was told."""
    name = f"concurrency-{uuid.uuid4()}"
    enqueue_paired_design(_open(storage, name), SPACE, map(StageSequence.parse, ORDERS), range(seeds))
    context = multiprocessing.get_context("fork")
    start = time.perf_counter()
    processes = [context.Process(target=_work, args=(storage, name)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    trials = _open(storage, name).trials
    told = Counter(
        (trial.user_attrs["sequence"], trial.user_attrs["seed"], trial.user_attrs["design"])
        for trial in trials
        if trial.state == TrialState.COMPLETE
    )
    return {
        "storage": storage.partition(":")[0] if "://" in storage else Path(storage).suffix,
        "workers": workers,
        "workers_failed": sum(process.exitcode != 0 for process in processes),
        "trials": sum(told.values()),
        "lost": (24 + 40) * seeds - len(told),
        "doubled": sum(count - 1 for count in told.values()),
        "unfinished": sum(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials),
        "claims_given_up": sum(trial.state == TrialState.FAIL for trial in trials),
        "seconds": round(seconds, 1),
    }


def _open(storage: str, name: str) -> optuna.Study:
    return open_study(
        storage,
        name=name,
        space=SPACE,
        objectives=Objectives(),
        sampler=make_sampler("random", SPACE),
        task="synthetic",
    )


def _work(storage: str, name: str) -> None:
    question = Question(space=SPACE, objectives=Objectives())
    for _ in run_study(_open(storage, name), TableRunner(SyntheticWorld()), question):
        pass


def main() -> int:
    """Measure one storage."""
    parser = argparse.ArgumentParser(description="Many workers on one study.")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--storage")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(chosen.storage or f"{folder}/study.log", chosen.workers, chosen.seeds)
    print(json.dumps(found), flush=True)
    return int(any(found[key] for key in ("workers_failed", "lost", "doubled", "unfinished")))


if __name__ == "__main__":
    sys.exit(main())
