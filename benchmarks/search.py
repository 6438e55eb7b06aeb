"""Value of the front per stage training: each sampler against random search and against Optuna used plainly.

    python benchmarks/search.py [RECORDS.jsonl] --budget 200 --seeds 5
    python benchmarks/search.py --task digits --store out/store --budget 30 --seeds 5

runs every method on a table of records, on a task that is really trained, or else on the synthetic world.
Prints one JSON line per method: the mean value of the front after a quarter, half and all of the trainings,
and how many trainings it takes to reach what plain TPE reaches with all of them. "flat" methods are Optuna
used the plain way: every trial pays for all of its stages and shows one operating point, that without early
exits. What a table lacks fails at no cost; a search ends at the latest after thirty trials for each
training. Trainings in the store count as if they were done anew, so methods can be run side by side on one
store, and then once together for the table.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.search_worlds import (
    SPACE,
    Oracle,
    SyntheticWorld,
    TableRunner,
    oracle_of,
    space_of,
)
from ordercomp.analysis.fronts import Scale, front, front_value
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.jobs.search import task_space
from ordercomp.objectives import Objectives
from ordercomp.records import Record, read_records
from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import DENSE_SAMPLERS, CostOptions, make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_study
from ordercomp.sequence import KnobValue, StageSequence

SCALE = Scale(split="validation")
MOST_TRIALS = 30  # for each training of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to search."""

    sampler: str
    order: str = ""  # the one order whose knobs plain Optuna tunes
    flat: bool = False  # no shared prefixes, no prefixes as results, no sweep of exit thresholds
    cost: CostOptions | None = None


PAPER = (
    "plain tpe, DPQE, prefixes kept"  # the rival that knows the paper's order and pays for no prefix twice
)
METHODS: dict[str, Method] = {
    PAPER: Method(sampler="tpe", order="DPQE"),
    "flat random": Method(sampler="random", flat=True),
    "flat tpe": Method(sampler="tpe", flat=True),
    "flat nsga2": Method(sampler="nsga2", flat=True),
    "random": Method(sampler="random"),
    "tpe": Method(sampler="tpe"),
    "neighbors": Method(sampler="neighbors"),
    "nsga2": Method(sampler="nsga2"),
    "nsga3": Method(sampler="nsga3"),
    "random, gain": Method(sampler="random", cost=CostOptions(exponent=0, snap=False)),
    "random, gain per second": Method(sampler="random", cost=CostOptions()),
    "tpe, gain": Method(sampler="tpe", cost=CostOptions(exponent=0, snap=False)),
    "tpe, gain, snapped": Method(sampler="tpe", cost=CostOptions(exponent=0)),
    "tpe, gain per second, not snapped": Method(sampler="tpe", cost=CostOptions(snap=False)),
    "tpe, gain per second": Method(sampler="tpe", cost=CostOptions()),
    "neighbors, gain per second": Method(sampler="neighbors", cost=CostOptions()),
    "nsga2, gain per second": Method(sampler="nsga2", cost=CostOptions()),
}


def curve(
    method: Method, space: Space, oracle: Oracle, *, seed: int, budget: int, in_seconds: bool = False
) -> list[float]:
    """Give the value of the front after 0, 1, … `budget` stage trainings, or seconds of training."""
    ways = _fixed if method.order else _flat if method.flat else _shared
    results = ways(method, space, oracle, seed, budget, in_seconds)
    values = [0.0]
    best: list[Record] = []
    for paid, record in results:
        if paid > budget:
            break
        values += [values[-1]] * (paid + 1 - len(values))
        best = _on_front([*best, record])
        values[paid] = front_value(best, scale=SCALE)
    return values + [values[-1]] * (budget + 1 - len(values))


def _shared(
    method: Method, space: Space, oracle: Oracle, seed: int, budget: int, in_seconds: bool
) -> Iterator[tuple[int, Record]]:
    """Yield every measured node with what was paid so far."""
    space = replace(space, dense=method.sampler in DENSE_SAMPLERS)
    sampler = make_sampler(method.sampler, space, seed=seed, trials=budget // 3, cost=method.cost)
    study = open_study(
        None, name="benchmark", space=space, objectives=Objectives(), sampler=sampler, task="benchmark"
    )
    runner, spec = TableRunner(oracle), StudySpec(space=space, objectives=Objectives())
    for finished in run_study(study, runner, spec, trials=MOST_TRIALS * budget):
        yield (int(runner.seconds) if in_seconds else runner.trainings), finished.record


def _flat(
    method: Method, space: Space, oracle: Oracle, seed: int, budget: int, in_seconds: bool
) -> Iterator[tuple[int, Record]]:
    """Yield the network of each trial of plain Optuna, which pays for all of its stages."""
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=FLAT[method.sampler](seed))
    paid = 0.0
    while paid <= budget:
        trial = study.ask()
        sequence = space.suggest(trial)
        record = oracle(sequence, 0)
        paid += sum(oracle(prefix, 0).seconds if in_seconds else 1 for prefix in sequence.prefixes)
        ends = tuple(point for point in record.points if point.threshold is None)
        record = replace(record, points=ends)
        if ends:
            study.tell(trial, Objectives().values(record))
        else:
            study.tell(trial, state=TrialState.FAIL)
        yield int(paid), record


def _fixed(
    method: Method, space: Space, oracle: Oracle, seed: int, budget: int, in_seconds: bool
) -> Iterator[tuple[int, Record]]:
    """Yield every node that plain Optuna trains in tuning one order, all exit thresholds swept."""
    sequences = replace(space, optional=False).sequences()
    ends = [sequence for sequence in sequences if sequence.order == method.order]
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=FLAT[method.sampler](seed))
    knobs: dict[str, dict[KnobValue, None]] = {}
    for sequence in ends:
        for step in sequence.steps:
            for name, value in step.settings.items():
                knobs.setdefault(f"{step.stage}.{name}", {})[value] = None
    trained, paid = dict[str, Record](), 0.0
    for _ in range(MOST_TRIALS * len(ends)):  # it proposes some of them again
        trial = study.ask()
        proposal = {name: trial.suggest_categorical(name, list(values)) for name, values in knobs.items()}
        sequence = next(
            end for end in ends if all(_knob(end, name) == value for name, value in proposal.items())
        )
        for prefix in sequence.prefixes:
            if str(prefix) not in trained:
                record = trained[str(prefix)] = oracle(prefix, 0)
                paid += record.seconds if in_seconds else 1
                yield int(paid), record
        study.tell(trial, Objectives().values(trained[str(sequence)]))


def _knob(sequence: StageSequence, name: str) -> KnobValue:
    stage, _, knob = name.partition(".")
    return next(step.settings[knob] for step in sequence.steps if step.stage == stage)


FLAT: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}


def _on_front(records: list[Record]) -> list[Record]:
    return list({id(point.record): point.record for point in front(records, scale=SCALE)}.values())


@contextmanager
def trained(task: Task, store: Store) -> Iterator[Oracle]:
    """An oracle that trains what the store lacks."""
    with Runner(settle_precision(task, store), store, workers=1) as runner:

        def train(sequence: StageSequence, seed: int) -> Record:
            request = Request(sequence, seed)
            return next(node.record for node in runner.run([request]) if node.request == request)

        yield train


def summary(values: np.ndarray, goal: float) -> dict[str, object]:
    """Describe curves, shape (seeds, budget + 1): means, and what was paid until each reaches `goal`."""
    last = values.shape[1] - 1
    reached = [int(np.argmax(row >= goal)) if row[-1] >= goal else None for row in values]
    times = [time for time in reached if time is not None]
    return {
        "value": {
            f"{count}": round(float(values[:, count].mean()), 3) for count in (last // 4, last // 2, last)
        },
        "standard_error": round(float(values[:, last].std(ddof=1) / np.sqrt(len(values))), 3),
        "reached": f"{len(times)} of {len(values)}",
        "paid_to_goal": float(np.median([last if time is None else time for time in reached])),
    }


def main() -> None:
    """Run all methods, or those named, on one table."""
    parser = argparse.ArgumentParser(description="Value of the front per stage training, for each sampler.")
    parser.add_argument(
        "records", nargs="?", type=Path, help="a table of records instead of the synthetic world"
    )
    parser.add_argument("--task", help="a task to train instead: a built-in name or a TOML file")
    parser.add_argument("--store", type=Path, default=Path("out/store"), help="its trainings")
    parser.add_argument("--budget", type=int, default=200, help="stage trainings")
    parser.add_argument("--in-seconds", action="store_true", help="the budget is seconds of training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with ExitStack() as stack:
        space, oracle = SPACE, SyntheticWorld()
        if options.task is not None:
            task = load_task(options.task)
            space, oracle = task_space(task), stack.enter_context(trained(task, Store(options.store)))
        elif options.records is not None:
            records = [record for record in read_records(options.records) if record.seed == 0]
            space, oracle = space_of(records), oracle_of(records)
        compare(
            options.methods,
            space,
            oracle,
            seeds=options.seeds,
            budget=options.budget,
            in_seconds=options.in_seconds,
        )


def compare(
    methods: Sequence[str], space: Space, oracle: Oracle, *, seeds: int, budget: int, in_seconds: bool
) -> None:
    """Print a line for each method, plain TPE first: its end is the goal of the others."""
    goal: float | None = None
    for name in sorted(methods, key=lambda name: name != "flat tpe"):
        curves = [
            curve(METHODS[name], space, oracle, seed=seed, budget=budget, in_seconds=in_seconds)
            for seed in range(seeds)
        ]
        values = np.array(curves)
        goal = float(np.median(values[:, -1])) if goal is None else goal
        print(json.dumps({"method": name, **summary(values, goal)}), flush=True)


if __name__ == "__main__":
    main()
