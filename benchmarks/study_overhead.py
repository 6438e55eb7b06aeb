"""What a study costs by itself: milliseconds to ask for, run, record and tell a trial, without any training.

    python benchmarks/study_overhead.py --trials 2000 --sampler tpe

fills a study with random trials, then runs the last hundred with the sampler and prints one JSON line:
wall and processor time per trial. `--storage` takes a path or URL (default: an SQLite file in a temporary
folder).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import optuna

from ordercomp.search.objective import Objectives
from ordercomp.search.running import Question, run_study
from ordercomp.search.samplers import SAMPLERS, make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_study
from ordercomp.search.synthetic import SYNTHETIC_KNOBS, SyntheticWorld
from ordercomp.search.tabular import TableRunner

__all__ = ["measure"]

MEASURED = 100  # trials at the end of a study


def measure(storage: str, sampler: str, trials: int) -> dict[str, object]:
    """Return the milliseconds per trial that the last hundred of `trials` take."""
    space = Space("DPQE", SYNTHETIC_KNOBS)
    study = open_study(
        storage,
        name="overhead",
        space=space,
        objectives=Objectives(),
        sampler=make_sampler(sampler, space, trials=trials),
        task="synthetic",
    )
    question = Question(space=space, objectives=Objectives())
    _fill(study, space, trials - MEASURED)
    start, busy = time.perf_counter(), time.process_time()
    for _ in run_study(study, TableRunner(SyntheticWorld()), question, trials=trials):
        pass
    return {
        "sampler": sampler,
        "storage": storage.partition(":")[0] if "://" in storage else Path(storage).suffix,
        "trials": len(study.trials),
        "milliseconds_per_trial": round(1e3 * (time.perf_counter() - start) / MEASURED, 1),
        "cpu_milliseconds_per_trial": round(1e3 * (time.process_time() - busy) / MEASURED, 1),
    }


def _fill(study: optuna.Study, space: Space, trials: int) -> None:
    """Add finished trials, as a run with a random sampler would leave them."""
    source = open_study(
        None,
        name="source",
        space=space,
        objectives=Objectives(),
        sampler=make_sampler("random", space),
        task="synthetic",
    )
    question = Question(space=space, objectives=Objectives())
    for _ in run_study(source, TableRunner(SyntheticWorld()), question, trials=trials):
        pass
    study.add_trials(source.get_trials(deepcopy=False))


def main() -> None:
    """Measure one sampler, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--sampler", choices=[*SAMPLERS, "all"], default="tpe")
    parser.add_argument("--storage")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for sampler in SAMPLERS if chosen.sampler == "all" else [chosen.sampler]:
        with tempfile.TemporaryDirectory() as folder:
            storage = chosen.storage or str(Path(folder) / "study.db")
            found = measure(storage, sampler, chosen.trials)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
