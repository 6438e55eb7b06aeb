"""Many workers on one study: is any trial lost, run twice, or counted twice?

    python benchmarks/study_concurrency.py --workers 200 --storage postgresql://user@host/name

forks worker processes that run a study on the synthetic world, all on one storage (default: a journal file in
a temporary folder). They share a paired design: every sequence of it and every prefix must be told exactly
once; then with `--sampled N` a second study, which must end with N trials of the sampler and no prefix twice.
Prints one JSON line for each; the exit code is 1 if anything was lost or doubled.
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

from benchmarks.search_worlds import SPACE, SyntheticWorld, TableRunner, open_world
from ordercomp.objectives import Objectives
from ordercomp.records import ADAPTIVE
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.study import enqueue_paired_design
from ordercomp.search.trials import PREFIX
from ordercomp.sequence import StageSequence, permutations

ORDERS = permutations("DPQE")


def measure(storage: str, workers: int, *, seeds: int) -> dict[str, object]:
    """Run 24 orders at `seeds` seeds with `workers` processes and count what was told."""
    name = f"concurrency-{uuid.uuid4()}"
    enqueue_paired_design(
        open_world(storage, name=name), SPACE, map(StageSequence.parse, ORDERS), range(seeds)
    )
    facts = _run(storage, name, workers, None)
    counts = Counter(_results(open_world(storage, name=name)))
    doubled = sum(count - 1 for count in counts.values())
    lost = (24 + 40) * seeds - len(counts)
    return {**facts, "trials": sum(counts.values()), "lost": lost, "doubled": doubled}


def measure_sampled(storage: str, workers: int, *, trials: int) -> dict[str, object]:
    """Run `trials` random trials with `workers` processes and count what was told."""
    name = f"sampled-{uuid.uuid4()}"
    open_world(storage, name=name)
    facts = _run(storage, name, workers, trials)
    counts = Counter(_results(open_world(storage, name=name)))
    sampled = sum(count for (_, _, design), count in counts.items() if design == ADAPTIVE)
    distinct = sum(design == ADAPTIVE for _, _, design in counts)
    doubled = sum(count - 1 for (_, _, design), count in counts.items() if design == PREFIX)
    return {
        **facts,
        "trials": sum(counts.values()),
        "lost": max(0, trials - sampled),
        "doubled": doubled + max(0, sampled - trials),
        "distinct": distinct,
    }


def _run(storage: str, name: str, workers: int, trials: int | None) -> dict[str, object]:
    """Let the processes fill the study, and tell how that went."""
    context = multiprocessing.get_context("fork")
    start = time.perf_counter()
    processes = [context.Process(target=_work, args=(storage, name, trials)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    states = Counter(trial.state for trial in open_world(storage, name=name).trials)
    return {
        "storage": storage.partition(":")[0] if "://" in storage else Path(storage).suffix,
        "workers": workers,
        "workers_failed": sum(process.exitcode != 0 for process in processes),
        "unfinished": states[TrialState.RUNNING] + states[TrialState.WAITING],
        "given_up": states[TrialState.FAIL],  # claims on a prefix that another has, and surplus trials
        "seconds": round(seconds, 1),
    }


def _results(study: optuna.Study) -> list[tuple[object, ...]]:
    return [
        tuple(trial.user_attrs[key] for key in ("sequence", "seed", "design"))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]


def _work(storage: str, name: str, trials: int | None) -> None:
    spec = StudySpec(space=SPACE, objectives=Objectives())
    for _ in run_study(open_world(storage, name=name), TableRunner(SyntheticWorld()), spec, trials=trials):
        pass


def main() -> int:
    """Measure one storage."""
    parser = argparse.ArgumentParser(description="Many workers on one study.")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--sampled", type=int, default=0, help="trials of a second study")
    parser.add_argument("--storage")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        storage = options.storage or f"{folder}/study.log"
        lines = [measure(storage, options.workers, seeds=options.seeds)]
        if options.sampled:
            lines.append(measure_sampled(storage, options.workers, trials=options.sampled))
    for line in lines:
        print(json.dumps(line), flush=True)
    bad = ("workers_failed", "lost", "doubled", "unfinished")
    return int(any(line[key] for line in lines for key in bad))


if __name__ == "__main__":
    sys.exit(main())
