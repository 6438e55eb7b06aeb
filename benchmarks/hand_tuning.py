"""Does the search beat a person who turns knobs, and plain Optuna? The same task and time, one worker each.

    python benchmarks/hand_tuning.py                        # five minutes each, three seeds
    python benchmarks/hand_tuning.py --minutes 1 --seeds 0  # a quick look

The hand takes the source paper's order, DPQE, with the task's own knobs, and turns one knob a notch harder at
a time, one after the other; a notch that reaches a larger reduction within the tolerated loss stays, another
is taken back. It starts anew with gentler knobs when no notch is left. All that it has trained is reused.
Plain Optuna (TPE, two objectives) tunes the same notches of that order. The search is `ordercomp search` with
its defaults, over all orders and knobs, for all of the time or after a `discover` of half of it. All choose
on validation data; the loss on test data is told beside it.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from ordercomp.analysis.fronts import Candidate
from ordercomp.jobs.discover import discover
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.jobs.search_folder import Ranking
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task

ORDER = "DPQE"
WAYS = ("hand", "plain Optuna", "search", "race, search")
NOTCHES: tuple[tuple[str, tuple[Mapping[str, float], ...]], ...] = (  # gentle to hard
    ("D", tuple({"depth": depth} for depth in (0.7, 0.5, 0.35, 0.25))),
    ("P", tuple({"ratio": ratio} for ratio in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))),
    (
        "Q",
        tuple({"weights": w, "activations": a} for w, a in ((8, 8), (4, 8), (4, 4), (2, 4), (1, 4), (1, 2))),
    ),
    ("E", tuple({"exits": exits} for exits in (1, 2, 3, 4))),
)
STARTS = ((1, 2, 3, 1), (0, 0, 1, 1), (0, 2, 3, 1), (1, 0, 3, 2))  # places of the knobs; first the task's own


@dataclass(frozen=True, slots=True)
class Reached:
    """The network of the largest reduction within the tolerated loss."""

    sequence: str
    reduction: float  # of bit operations, paper convention
    loss: float  # on validation data, a fraction
    test_loss: float
    networks: int  # trained


def best_of(records: Iterable[Record], tolerance: float) -> Candidate | None:
    """As the search chooses."""
    ranking = Ranking(Objectives())
    return ranking.best(ranking.candidates(records), tolerance)


def reached(records: list[Record], tolerance: float) -> Reached:
    """What a set of records reaches; a reduction of 1 where no network keeps to the tolerance."""
    best = best_of(records, tolerance)
    if best is None:
        return Reached("", 1.0, 0.0, 0.0, len(records))
    test = best.record.baseline.test_accuracy - best.point.test_accuracy
    return Reached(best.record.sequence, best.bitops_cr, best.loss, test, len(records))


def by_hand(task: Task, runner: Runner, seed: int, seconds: float, tolerance: float) -> list[Record]:
    """Turn knobs until the time is up."""
    end = time.monotonic() + seconds
    records: dict[str, Record] = {}

    def gain(places: tuple[int, ...]) -> float:
        knobs = {
            letter: dict(notches[place]) for (letter, notches), place in zip(NOTCHES, places, strict=True)
        }
        sequence = task.sequence(ORDER, knobs)
        if str(sequence) not in records:
            for finished in runner.run([Request(sequence, seed)]):
                records[finished.record.sequence] = finished.record
        best = best_of([records[str(sequence)]], tolerance) if str(sequence) in records else None
        return best.bitops_cr if best is not None else 0.0

    for start in STARTS:
        places, best = start, gain(start)
        turned = True
        while turned and time.monotonic() < end:
            turned = False
            for harder in _harder(places):
                if time.monotonic() >= end:
                    break
                if (value := gain(harder)) > best:
                    places, best, turned = harder, value, True
                    break
    return list(records.values())


def _harder(places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """One knob a notch harder: the bits first, as they save most, then channels, exits, depth."""
    for knob in (2, 1, 3, 0):
        if places[knob] + 1 < len(NOTCHES[knob][1]):
            yield tuple(place + (k == knob) for k, place in enumerate(places))


def plain(task: Task, runner: Runner, seed: int, seconds: float) -> list[Record]:
    """Plain Optuna over the same notches; no prefix is trained twice, all exit thresholds are swept."""
    end = time.monotonic() + seconds
    study = optuna.create_study(
        directions=["maximize", "maximize"], sampler=optuna.samplers.TPESampler(seed=seed)
    )
    records: dict[str, Record] = {}
    while time.monotonic() < end:
        trial = study.ask()
        places = {letter: trial.suggest_int(letter, 0, len(notches) - 1) for letter, notches in NOTCHES}
        sequence = task.sequence(ORDER, {letter: notches[places[letter]] for letter, notches in NOTCHES})
        for finished in runner.run([Request(sequence, seed)]):
            records[finished.record.sequence] = finished.record
        record = records.get(str(sequence))
        if record is None or not record.points:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, Objectives().values(record))
    return list(records.values())


def by_search(plan: SearchPlan, seconds: float, *, race: bool) -> list[Record]:
    """Search for so long; with `race`, discover for the first half of it and go on from there."""
    if race:
        source = plan.out.with_name("raced")
        discover(plan.task, out=source, budget_seconds=seconds / 2, workers=1, first_seed=plan.seed)
        plan = replace(plan, source=source)
    return list(run_search(replace(plan, budget_seconds=seconds / 2 if race else seconds)).records)


def found_by(way: str, task: Task, folder: Path, seed: int, seconds: float) -> list[Record]:
    """What a way trains in its time, in a folder of its own."""
    if way in ("hand", "plain Optuna"):
        with Runner(task, Store(folder / "store"), workers=1) as runner:
            if way == "hand":
                return by_hand(task, runner, seed, seconds, task.loss)
            return plain(task, runner, seed, seconds)
    plan = SearchPlan(task=task, out=folder / "search", seed=seed, trials=10_000, workers=1)
    return by_search(plan, seconds, race=way != "search")


def main() -> None:
    """Let every way have its time at each seed, and print what each reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits", help="a built-in task or a TOML file")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--loss", type=float, default=0.01, help="tolerated, a fraction")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = replace(load_task(options.task), loss=options.loss)
    lines = []
    for seed, way in itertools.product(options.seeds, options.ways):
        with tempfile.TemporaryDirectory() as folder:
            records = found_by(way, task, Path(folder), seed, 60 * options.minutes)
        outcome = reached(records, options.loss)
        lines.append({"seed": seed, "by": way, **{key: getattr(outcome, key) for key in outcome.__slots__}})
        if not options.json:
            print(
                f"seed {seed} {way:13} {outcome.reduction:8.0f}x  loss {100 * outcome.loss:.2f} %, on test "
                f"data {100 * outcome.test_loss:.2f} %  {outcome.networks} networks  {outcome.sequence}",
                flush=True,
            )
    if options.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
