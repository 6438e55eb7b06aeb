"""How many trainings does the race need? Worlds fitted to recorded runs, raced many times, beside older ways.

    python benchmarks/race.py                  # 150 races in each world and way
    python benchmarks/race.py --races 20       # a quick look

A world has the recorded means of all chains and seeds that deviate from them as the recorded ones do, in
chance mixtures; what a seed lacks without a knob setting is what one of the recorded seeds does, so that a
setting that changed nothing there changes nothing here.
After each block of a race its best guess is set beside the truth: how far it lies behind the best chain of
the world, in doublings. Told is after how many trainings, baselines included, this regret is small enough on
average, and after how many half of the races state a bound of the regret below 0.7 doublings, among the
chains that ran. Beside the race by doubt stand one that hears the recordings of other data, and a race seed
by seed, as in 0.1.0, in which chains leave as they lose, and one in which three seeds of a chain are one
network, which takes as long as on digits.
"""

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import BAND, BOUND, FEW_BOUND, lower_bounds
from ordercomp.analysis.order_model import Draws, draw_tables
from ordercomp.analysis.race import (
    BLOCK,
    LOOK,
    TOGETHER,
    Cell,
    doubts,
    first_cells,
    idle_setting,
    next_cells,
    starting_orders,
)
from ordercomp.analysis.statistics import RULES
from ordercomp.analysis.values import chain_values, networks_of, settings_of
from ordercomp.jobs.recordings import RACED, load_recorded, raced_elsewhere, recorded_hints
from ordercomp.records import Record
from ordercomp.sequence import Order, prefixes

FloatArray = npt.NDArray[np.float64]

STAGES = "DPQE"
AT_ONCE = 75  # races that are fitted at once
SEEDS = 12  # at most
FIRM = 0.7  # doublings, the stated bound of a firm answer
PACES = {1: 1.0, 2: 1.35, 3: 1.63}  # of so many seeds as one network: digits, `stack.py`
STEP = 5  # trainings between two places at which the regret is read
CASES = (  # recording, tolerated loss, regret to reach, trainings after which a race is given up
    ("digits", 0.02, 0.20, 450),
    ("digits", 0.05, 0.20, 400),
    ("cifar10", 0.02, 0.13, 200),
    ("fashion-mnist-raced", 0.02, 0.10, 250),
)


@dataclass(frozen=True, slots=True)
class World:
    """True values of chains at every subset of the knob settings, and how a seed deviates from them."""

    orders: tuple[Order, ...]
    subsets: tuple[tuple[int, ...], ...]  # of the settings, all of them first
    means: FloatArray  # shape (orders,), with all settings
    around: FloatArray  # shape (orders, recorded seeds)
    lacks: FloatArray  # shape (subsets, orders, recorded seeds): what values lack with some settings alone
    truth: FloatArray  # shape (orders,), with all settings
    prior: FloatArray  # shape (orders,): what the recordings of other data say

    @classmethod
    def recorded(cls, name: str, loss: float) -> "World":
        """The world of a recording, by the seeds at which all its chains were run."""
        hints = recorded_hints(raced_elsewhere(RACED[name]), STAGES).at(loss).chains
        return cls.of(load_recorded(name), loss, hints)

    @classmethod
    def of(
        cls, records: Sequence[Record], loss: float, hints: Mapping[Order, float] | None = None
    ) -> "World":
        """The world of records, likewise; `hints` are what is expected of each chain beforehand."""
        networks = networks_of(records, STAGES)
        settings = settings_of(networks)
        full = chain_values(networks, STAGES, loss=loss, settings=settings)
        seeds = [
            seed for seed, column in zip(full.seeds, full.values.T, strict=True) if np.isfinite(column).all()
        ]
        sizes = range(len(settings), 0, -1)
        subsets = [subset for size in sizes for subset in itertools.combinations(range(len(settings)), size)]
        tables = []
        for subset in subsets:
            some_settings = [settings[place] for place in subset]
            table = chain_values(networks, STAGES, loss=loss, settings=some_settings).at(seeds)
            tables.append(table.values[[table.orders.index(order) for order in full.orders]])
        lacks, means = tables[0] - np.array(tables), tables[0].mean(axis=1)
        around = (tables[0] - means[:, None]) / np.sqrt(len(seeds) - 1)
        chance = np.random.default_rng(7).standard_normal((len(seeds), 4000))
        truth = np.maximum(means[:, None] + around @ chance, 0.0).mean(axis=1)
        prior = np.array([(hints or {}).get(order, 0.0) for order in full.orders])
        return cls(full.orders, tuple(subsets), means, around, lacks, truth, prior)

    def seed(self, rng: np.random.Generator) -> FloatArray:
        """What a new seed gives, shape (subsets, orders)."""
        number = self.around.shape[1]
        values = np.maximum(self.means + self.around @ rng.standard_normal(number), 0.0)
        return np.maximum(values - self.lacks[:, :, rng.integers(number)], 0.0)


@dataclass(slots=True)
class Run:
    """One race in a world: what was trained, and how its best guess fared."""

    world: World
    rng: np.random.Generator
    columns: list[FloatArray] = field(default_factory=list)  # what each seed would give
    ran: set[Cell] = field(default_factory=set)
    subset: int = 0  # place of the subset of settings that are trained
    lost: set[Order] = field(default_factory=set)  # chains that left, where they do
    regrets: list[tuple[int, float]] = field(default_factory=list)  # trainings, regret
    bounds: list[tuple[int, float]] = field(default_factory=list)  # trainings, the regret's stated bound
    together: int = 1  # seeds of a chain that are chosen at once
    paid: float = 0.0  # trainings, those side by side at their pace

    @property
    def trainings(self) -> int:
        """What it took so far, as if one after the other."""
        return round(self.paid)

    @property
    def settings(self) -> int:
        """How many settings are trained."""
        return len(self.world.subsets[self.subset])

    def train(self, cells: Sequence[Cell]) -> None:
        """Add chains at seeds, with their prefixes and baselines."""
        for chain, group in itertools.groupby(cells, key=lambda cell: cell[0]):
            seeds = [seed for _, seed in group]
            pace = PACES[min(len(seeds), max(PACES))] if self.together > 1 else 1.0
            for seed in seeds:
                while seed >= len(self.columns):
                    self.columns.append(self.world.seed(self.rng))
                    self.paid += 1 / pace
                new = {(prefix, seed) for prefix in prefixes(chain)} - self.ran
                self.ran |= new
                self.paid += self.settings * len(new) / pace

    def values(self, subset: int | None = None) -> FloatArray:
        """What is known, shape (orders, seeds), NaN where not run."""
        place = self.subset if subset is None else subset
        ran = np.array(
            [[(order, seed) in self.ran for seed in range(len(self.columns))] for order in self.world.orders]
        )
        return np.where(ran, np.stack([column[place] for column in self.columns], axis=1), np.nan)

    def drop_idle(self, draws: Draws) -> None:
        """Leave out settings that decide nothing."""
        weights, subsets = doubts(draws.pooled), self.world.subsets
        while True:
            subset = subsets[self.subset]
            fewer = [subsets.index(tuple(set(subset) - {k})) for k in subset] if len(subset) > 1 else []
            idle = idle_setting(self.values(), [self.values(place) for place in fewer], weights)
            if idle is None:
                return
            self.subset = fewer[idle]

    def judge(self, draws: Draws) -> None:
        """Set the best guess beside the truth."""
        truth = self.world.truth
        pick = int(draws.pooled.mean(axis=0).argmax())
        self.regrets.append((self.trainings, float(truth.max() - truth[pick])))
        known = np.isfinite(self.values()).sum(axis=1)
        ran = [place for place, order in enumerate(draws.orders) if known[self.world.orders.index(order)]]
        values = draws.pooled[:, ran]
        best = int(values.mean(axis=0).argmax())
        firm = known[self.world.orders.index(draws.orders[ran[best]])] >= RULES.least_seeds
        behind = np.quantile(values.max(axis=1) - values[:, best], BOUND if firm else FEW_BOUND)
        self.bounds.append((self.trainings, float(behind)))

    def regret_after(self, trainings: int) -> float:
        """Of the best guess that stood then; an order at random before the first."""
        regrets = [regret for at, regret in self.regrets if at <= trainings]
        return regrets[-1] if regrets else float(self.world.truth.max() - self.world.truth[-24:].mean())


Choice = Callable[[Run, Draws], Sequence[Cell]]


def by_doubt(run: Run, draws: Draws) -> Sequence[Cell]:
    """What discover does, without the ladder."""
    # A block is chosen before the one that is in training is known, so its values come two by two.
    return next_cells(
        draws,
        run.ran,
        seeds=SEEDS,
        settings=run.settings,
        block=2 * BLOCK,
        together=run.together,
    )


def by_doubt_dropping(run: Run, draws: Draws) -> Sequence[Cell]:
    """What discover does: settings that decide nothing at the first look stop."""
    if len(run.regrets) == 1:
        run.drop_idle(draws)
    return by_doubt(run, draws)


def seed_by_seed(run: Run, draws: Draws) -> Sequence[Cell]:
    """As in 0.1.0: halves at the first four seeds, from the third on chains that lose leave."""
    lost = run.lost
    done = len(run.columns)
    if done >= 3:
        behind = lower_bounds(draws.pooled, BAND / 8)
        lost |= {order for order, least in zip(draws.orders, behind, strict=True) if least > 0}
    left = [order for order in run.world.orders if order not in lost]
    begun = {order[:length] for order in left for length in range(1, len(order))}
    longest = [order for order in left if order not in begun]
    if len(left) < 2 or done >= SEEDS:
        return ()
    half = starting_orders(STAGES, done)
    if done < 4 and len(longest) > len(half):
        longest = [order for order in longest if len(order) < len(STAGES) or order in half]
    return [(order, done) for order in longest]


SIDE_BY_SIDE = "by doubt, seeds side by side"
PRIOR = "by doubt, told by others"  # with the recordings of other data as a hint
WAYS: Mapping[str, Choice] = {
    "by doubt": by_doubt_dropping,
    "by doubt, all settings": by_doubt,
    SIDE_BY_SIDE: by_doubt_dropping,
    PRIOR: by_doubt_dropping,
    "seed by seed": seed_by_seed,
}


STARTS: Mapping[str, Sequence[Cell]] = {"seed by seed": [(order, 0) for order in starting_orders(STAGES, 0)]}


def races(world: World, way: str, *, number: int, most: int) -> list[Run]:
    """Race side by side, so that races of the same shape are fitted together."""
    rng = np.random.default_rng(0)
    runs = [Run(world, rng, together=TOGETHER if way == SIDE_BY_SIDE else 1) for _ in range(number)]
    choose = WAYS[way]
    for run in runs:
        run.train(STARTS.get(way, first_cells(STAGES)))
    live = list(runs)
    while live:
        going = []
        for run, draws in _with_draws(live, world.prior if way == PRIOR else None):
            run.judge(draws)
            cells = choose(run, draws) if run.trainings < most else ()
            if cells:
                run.train(cells)
                going.append(run)
        live = going
    return runs


def _with_draws(runs: Sequence[Run], hint: FloatArray | None) -> Iterator[tuple[Run, Draws]]:
    groups: defaultdict[int, list[Run]] = defaultdict(list)
    for run in runs:
        groups[len(run.columns)].append(run)
    for group in groups.values():
        for start in range(0, len(group), AT_ONCE):
            part = group[start : start + AT_ONCE]
            tables = np.stack([run.values() for run in part])
            drawn = draw_tables(tables, part[0].world.orders, STAGES, floor=0.0, hint=hint, effort=LOOK)
            yield from zip(part, drawn, strict=True)


def trainings_to(runs: Sequence[Run], regret: float, most: int) -> int | None:
    """Trainings from which on the mean regret is as small; None: it is not at the end."""
    places = range(STEP, most + 1, STEP)
    means = [np.mean([run.regret_after(place) for run in runs]) for place in places]
    large = [place for place, mean in zip(places, means, strict=True) if mean > regret]
    trainings = max(large, default=0) + STEP
    return trainings if trainings <= most else None


def trainings_to_bound(runs: Sequence[Run], bound: float) -> float:
    """Median over races of the trainings after which the stated bound first lies below; inf: in fewer."""
    return float(
        np.median([next((at for at, stated in run.bounds if stated < bound), np.inf) for run in runs])
    )


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=150)
    parser.add_argument("--worlds", nargs="*", type=int, default=list(range(len(CASES))))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), help=f"of {', '.join(WAYS)}; none: no race")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines: list[dict[str, object]] = []
    for name, loss, regret, most in [CASES[place] for place in options.worlds]:
        world = World.recorded(name, loss)
        if not options.json:
            alike = float(np.corrcoef(world.prior, world.truth)[0, 1])
            behind = float(world.truth.max() - world.truth[world.prior.argmax()])
            print(
                f"{name}, {100 * loss:g} %: what others say correlates {alike:.2f}, first {behind:.2f} behind"
            )
        for way in options.ways:
            runs = races(world, way, number=options.races, most=most)
            after = {
                at: round(float(np.mean([run.regret_after(at) for run in runs])), 2)
                for at in (100, 150, 200, 250, 300, 400)
            }
            needed = trainings_to(runs, regret, most)
            stated = trainings_to_bound(runs, FIRM)
            lines.append(
                {
                    "world": name,
                    "loss": loss,
                    "way": way,
                    "regret": regret,
                    "trainings": needed,
                    "firm": stated,
                }
            )
            if not options.json:
                words = needed or f"more than {most}"
                print(
                    f"{name}, {100 * loss:g} %, {way:24} {regret:.2f} after {words} trainings, bound below "
                    f"{FIRM} after {stated:.0f}; {after}",
                    flush=True,
                )
    if options.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
