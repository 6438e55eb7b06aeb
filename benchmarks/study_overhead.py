"""What a study costs by itself: milliseconds to ask for, run, record and tell a trial, without any training.

    python benchmarks/study_overhead.py --trials 2000 --sampler tpe

fills a study with random trials and the prefixes that they bring, then runs a hundred more with the sampler
and prints one JSON line: the seconds to read the study once, then wall and processor time per trial.
What a sampler takes beyond `random` is Optuna's own model. `--storage` takes a path or URL (default: an
SQLite file in a temporary folder).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from benchmarks.search_worlds import SPACE, SyntheticWorld, TableRunner, open_world
from ordercomp.objectives import Objectives
from ordercomp.records import ADAPTIVE
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import SAMPLERS

MEASURED = 100  # trials


def measure(storage: str, sampler: str, trials: int) -> dict[str, object]:
    """Return the milliseconds per trial that a hundred trials take after `trials`, prefixes included."""
    study = open_world(storage, sampler, seed=1)
    spec = StudySpec(space=SPACE, objectives=Objectives())
    study.add_trials(_trials(trials))
    start = time.perf_counter()
    there = study.get_trials(deepcopy=False)
    reading = time.perf_counter() - start
    before, proposed = len(there), sum(trial.user_attrs["design"] == ADAPTIVE for trial in there)
    start, busy = time.perf_counter(), time.process_time()
    for _ in run_study(study, TableRunner(SyntheticWorld()), spec, trials=proposed + MEASURED):
        pass
    wall, busy = time.perf_counter() - start, time.process_time() - busy
    return {
        "sampler": sampler,
        "storage": storage.partition(":")[0] if "://" in storage else Path(storage).suffix,
        "trials_before": before,
        "prefixes_per_trial": round((len(study.get_trials(deepcopy=False)) - before) / MEASURED - 1, 2),
        "read_once_seconds": round(reading, 2),
        "milliseconds_per_trial": round(1e3 * wall / MEASURED, 1),
        "cpu_milliseconds_per_trial": round(1e3 * busy / MEASURED, 1),
    }


def _trials(count: int) -> list[FrozenTrial]:
    """Finished trials, at least `count`, as a run with a random sampler leaves them."""
    study = open_world(None)
    spec = StudySpec(space=SPACE, objectives=Objectives())
    proposed = 0
    while len(study.get_trials(deepcopy=False)) < count:
        proposed += MEASURED
        for _ in run_study(study, TableRunner(SyntheticWorld()), spec, trials=proposed):
            pass
    return study.get_trials(deepcopy=False)


def main() -> None:
    """Measure one sampler, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--sampler", choices=[*SAMPLERS, "all"], default="tpe")
    parser.add_argument("--storage")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for sampler in SAMPLERS if options.sampler == "all" else [options.sampler]:
        with tempfile.TemporaryDirectory() as folder:
            storage = options.storage or str(Path(folder) / "study.db")
            facts = measure(storage, sampler, options.trials)
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
