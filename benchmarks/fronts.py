"""How fast are fronts and hypervolume? One JSON line per measurement; best of several repeats.

Run: OMP_NUM_THREADS=1 python benchmarks/fronts.py
"""

import json
import time
from collections.abc import Callable

import numpy as np
import optuna

from ordercomp.analysis.fronts import FloatArray, hypervolume, is_nondominated

POINTS = 1_000_000
TRIALS = 10_000
REPEATS = 3


def main() -> None:
    """Measure the million points, then our front of a study's trials against Optuna's."""
    rng = np.random.default_rng(0)
    scattered = rng.random((POINTS, 2))
    curve = rng.random(POINTS)
    for name, costs in (
        ("scattered", scattered),
        ("all on the front", np.column_stack([curve, 1 - curve])),
    ):
        front = seconds(lambda costs=costs: is_nondominated(costs))
        volume = seconds(lambda costs=costs: hypervolume(costs, (1.0, 1.0)))
        report(what="front and hypervolume", points=POINTS, kind=name, front_s=front, hypervolume_s=volume)
    for objectives in (2, 3):
        compare_with_optuna(rng.random((TRIALS, objectives)))


def compare_with_optuna(costs: FloatArray) -> None:
    """Time `study.best_trials`, and ours both from a bare array and including the reading of all trials."""
    study = optuna.create_study(directions=["minimize"] * costs.shape[1])
    study.add_trials([optuna.trial.create_trial(values=row.tolist()) for row in costs])
    theirs = seconds(lambda: study.best_trials)
    bare = seconds(lambda: is_nondominated(costs))
    reading = seconds(lambda: is_nondominated([trial.values for trial in study.get_trials(deepcopy=False)]))
    agree = len(study.best_trials) == int(is_nondominated(costs).sum())
    report(
        what="front of a study",
        trials=len(costs),
        objectives=costs.shape[1],
        optuna_s=theirs,
        ours_s=bare,
        ours_with_reading_s=reading,
        ratio=round(theirs / bare, 1),
        ratio_with_reading=round(theirs / reading, 1),
        same_front=agree,
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of the fastest of a few repeats."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(min(times), 5)


def report(**facts: object) -> None:
    """Print one measurement."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
