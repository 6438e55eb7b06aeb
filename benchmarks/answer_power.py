"""How much training does an answer take? The race replayed on recorded runs, and on planted six stages.

    python benchmarks/answer_power.py                   # 40 replays of each recording
    python benchmarks/answer_power.py --replays 10      # a quick look

A replay takes the recorded seeds in a random order and reads only what the race would have trained. The seeds
that are left judge the recommended order: its regret is how far their mean value of it lies behind that of
the order with the best mean over all recorded seeds. Rank counts the orders that these seeds put before it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import answer_of
from ordercomp.analysis.order_model import Effort, parts_of
from ordercomp.analysis.race import next_orders
from ordercomp.analysis.run_table import Setting
from ordercomp.analysis.values import ValueTable, networks_of, order_values, settings_of
from ordercomp.jobs.race import load_recorded
from ordercomp.sequence import Order, permutations

FloatArray = npt.NDArray[np.float64]

STAGES = "DPQE"
QUICK = Effort(draws=100)
RECORDED = (
    ("digits", "hard", 0.05, (3, 4, 5)),
    ("digits", "hard", 0.08, (3, 4, 5)),
    ("digits", "front", 0.02, (3, 4, 5)),
    ("digits", "front", 0.05, (3, 4, 5)),
    ("fashion-mnist", "front", 0.02, (3,)),
    ("fashion-mnist", "front", 0.05, (3,)),
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a race stood after a seed."""

    seeds: int
    trainings: int
    left: int
    stated: float
    regret: float  # of the recommended order, as the held-out seeds judge it
    random: float
    rank: int  # of the recommended order among all, as the held-out seeds judge it


def trainings_of(orders: Sequence[Order], settings: Sequence[Setting], stages: str) -> int:
    """Stage trainings of a block: distinct prefixes over all settings, and the baseline."""
    nodes = {
        tuple(steps[letter] for letter in order[:length])
        for setting in settings
        for steps in [dict(zip(stages, setting.steps, strict=True))]
        for order in orders
        for length in range(1, len(order) + 1)
    }
    return len(nodes) + 1


def replay(
    table: ValueTable, settings: Sequence[Setting], stops: Sequence[int], rng: np.random.Generator
) -> list[Stop]:
    """One race over the seeds of the table in a random order."""
    seeds = rng.permutation(len(table.seeds))
    columns = np.full((len(table.orders), 0), np.nan)
    trainings, found = 0, []
    for done, seed in enumerate(seeds[: max(stops)], start=1):
        run = next_orders(table.stages, None if done == 1 else _seen(table, columns))
        if not run:
            break
        trainings += trainings_of(run, settings, table.stages)
        there = np.array([order in run for order in table.orders])
        columns = np.hstack([columns, np.where(there, table.values[:, seed], np.nan)[:, None]])
        if done in stops:
            judge = table.values[:, seeds[done:]] if done < len(seeds) else table.values
            best = int(table.values.mean(axis=1).argmax())
            found.append(
                _stop(_seen(table, columns), judge.mean(axis=1), table.orders, best, done, trainings)
            )
    return found


def six_stages(rng: np.random.Generator, most: int = 400) -> Stop:
    """A race over planted values of all 720 orders of six stages, with triplets, until `most` trainings."""
    stages = "ABCDEG"
    orders = tuple(permutations(stages))
    parts = parts_of(orders, stages)
    truth = parts.scores @ rng.standard_normal(parts.scores.shape[1])
    truth = truth + 0.3 * (parts.triplets @ rng.standard_normal(parts.triplets.shape[1]))
    place = {order: row for row, order in enumerate(orders)}
    setting = Setting("per-stage", tuple(stages))
    known: dict[Order, list[float]] = {}
    trainings, done, table = 0, 0, None
    while run := next_orders(stages, table):
        cost = trainings_of(run, [setting], stages)
        if trainings + cost > most:
            break
        trainings, done = trainings + cost, done + 1
        level = rng.standard_normal()
        for order in run:
            known.setdefault(order, [np.nan] * (done - 1))
        for order, values in known.items():
            noise = 0.4 * rng.standard_normal()
            values.append(float(truth[place[order]] + level + noise) if order in run else np.nan)
        tried = tuple(sorted(known))
        table = ValueTable(stages, tried, tuple(range(done)), np.array([known[o] for o in tried]), None)
    assert table is not None
    return _stop(table, truth, orders, int(truth.argmax()), done, trainings)


def _seen(table: ValueTable, columns: FloatArray) -> ValueTable:
    rows = np.flatnonzero(np.isfinite(columns).any(axis=1))
    orders = tuple(table.orders[row] for row in rows)
    return ValueTable(table.stages, orders, tuple(range(columns.shape[1])), columns[rows], table.floor)


def _stop(
    seen: ValueTable, judge: FloatArray, orders: Sequence[Order], best: int, done: int, trainings: int
) -> Stop:
    answer = answer_of(seen, effort=QUICK)
    told = answer.recommended is not None and answer.regret is not None
    value = judge[list(orders).index(answer.recommended)] if answer.recommended else judge.mean()
    return Stop(
        seeds=done,
        trainings=trainings,
        left=len(answer.best_set) if told else len(orders),  # nothing told: an order at random
        stated=answer.regret.expected if answer.regret else float(judge.max() - judge.mean()),
        regret=float(judge[best] - value),
        random=float(judge[best] - judge.mean()),
        rank=1 + int((judge > value + 1e-12).sum()),
    )


def _line(name: str, stops: Sequence[Stop]) -> dict[str, float | str]:
    fields = ("seeds", "trainings", "left", "stated", "regret", "random", "rank")
    return {"world": name, **{one: float(np.mean([getattr(stop, one) for stop in stops])) for one in fields}}


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines = []
    for name, which, loss, stops in RECORDED:
        networks = networks_of(load_recorded(name), STAGES)
        settings = settings_of(networks)
        chosen = [min(settings, key=lambda one: one.steps[2])] if which == "hard" else list(settings)
        table = order_values(networks, STAGES, loss=loss, settings=chosen)
        rng = np.random.default_rng(0)
        races = [replay(table, chosen, stops, rng) for _ in range(options.replays)]
        lines += [
            _line(f"{name}, {which}, {100 * loss:g} %", [race[place] for race in races if len(race) > place])
            for place in range(len(stops))
        ]
        _show(lines[-len(stops) :], as_json=options.json)
    rng = np.random.default_rng(1)
    lines.append(_line("six stages, planted", [six_stages(rng) for _ in range(max(4, options.replays // 4))]))
    _show(lines[-1:], as_json=options.json)
    if options.json:
        print(json.dumps(lines))


def _show(lines: Sequence[dict[str, float | str]], *, as_json: bool) -> None:
    for line in () if as_json else lines:
        numbers = "  ".join(f"{key} {value:7.2f}" for key, value in line.items() if key != "world")
        print(f"{line['world']:28} {numbers}", flush=True)


if __name__ == "__main__":
    main()
