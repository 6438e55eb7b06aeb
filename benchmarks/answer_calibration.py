"""Does the answer tell the truth, and better than simple ways? Worlds with a known best, answered many times.

    python benchmarks/answer_calibration.py                     # 300 simulations of each world
    python benchmarks/answer_calibration.py --simulations 40    # a quick look
    python benchmarks/answer_calibration.py --race              # with the race, at every stop
    python benchmarks/answer_calibration.py --many-stages       # races of 5, 6 and 8 stages, at their end

For each world and number of seeds, or of trainings in a race (0: where it answers first), of chains that ran:
how often anything was told; how often the best set holds the best chains, ties included; how many are left;
the regret that was stated and the one that came; how often the stated bound held; how many false precedences
were told. Beside it, on the same draws, what simple rivals reach.
"""

import argparse
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt
from answer_rivals import RIVALS
from answer_worlds import LETTERS, WORLDS, Planted, World

from ordercomp.analysis.answer import LEAST_SEEDS, AnswerAt, answer_of, precedence_of, read_answer
from ordercomp.analysis.order_model import Draws, draw_tables
from ordercomp.analysis.race import LOOK, TOGETHER, Cell, block_of, first_cells, look, next_cells
from ordercomp.analysis.values import ValueTable
from ordercomp.jobs.race import with_prefixes
from ordercomp.sequence import Order

FloatArray = npt.NDArray[np.float64]

SEEDS = (3, 5, 8)
STOPS, MOST = 40, 6  # trainings between two lines about races, and how many lines there are
AT_ONCE = 50  # simulations that are fitted at once
BUDGETS = {5: 250, 6: 400, 8: 600}  # trainings of a race of so many stages
OURS = "ordercomp"
TIE = 0.1  # doublings below which chains tie


@dataclass(frozen=True, slots=True)
class Score:
    """One answer beside the truth; stated and bounded are NaN for a rival that states neither."""

    held: float  # share of the best chains, ties included, that are in the best set
    left: float  # chains in the set
    stated: float  # expected regret
    realized: float
    bounded: float  # realized regret within the stated bound
    false_edges: float  # some precedence that a best chain does not keep
    false_pairs: float  # some decided pair that a best chain does not keep; NaN for a rival


def score_of(
    world: World,
    pick: int,
    inside: Sequence[bool],
    stated: float = np.nan,
    upper: float = np.nan,
    decided: Collection[tuple[str, str]] | None = None,
) -> Score:
    """Set a choice and its set beside the true values."""
    truth, orders = world.truth(), world.orders
    realized = float(truth.max() - truth[pick])
    near = [order for order, value in zip(orders, truth, strict=True) if value >= truth.max() - TIE]
    best_set = [order for order, may_win in zip(orders, inside, strict=True) if may_win]
    held = {*precedence_of(best_set, world.stages)}
    broken, misjudged = (
        any((second, first) in edges for first, second in _pairs(near)) for edges in (held, decided or ())
    )
    return Score(
        held=float(np.mean([order in best_set for order in near])),
        left=float(len(best_set)),
        stated=stated,
        realized=realized,
        bounded=float(realized <= upper + 1e-9) if np.isfinite(upper) else np.nan,
        false_edges=float(broken),
        false_pairs=np.nan if decided is None else float(misjudged),
    )


def _pairs(orders: Sequence[str]) -> Iterator[tuple[str, str]]:
    for order in orders:
        for place, first in enumerate(order):
            yield from ((first, second) for second in order[place + 1 :])


def of_answer(world: World, answer: AnswerAt) -> Score | None:
    """Set an answer beside the truth; None where it recommends nothing."""
    if answer.recommended is None or answer.regret is None:
        return None
    inside = [order in answer.best_set for order in world.orders]
    pick = world.orders.index(answer.recommended)
    decided = {(first, second) for first, second, _ in answer.decided}
    return score_of(world, pick, inside, answer.regret.expected, answer.regret.upper95, decided)


def table_of(world: World, columns: FloatArray) -> ValueTable:
    """Values of shape (orders, seeds)."""
    return ValueTable(world.stages, world.orders, tuple(range(columns.shape[1])), columns, world.floor)


def looks(worlds: Sequence[World], columns: Sequence[FloatArray]) -> list[Draws]:
    """Draws for tables of the same orders and number of seeds."""
    first = worlds[0]
    return draw_tables(np.stack(columns), first.orders, first.stages, floor=first.floor)


def full_designs(
    make: Callable[[np.random.Generator], World], simulations: int, numbers: Sequence[int] = SEEDS
) -> dict[int, dict[str, list[Score | None]]]:
    """All chains at all seeds: ours and the rivals' scores, by number of seeds and name."""
    rng = np.random.default_rng(1)
    worlds = [make(rng) for _ in range(simulations)]
    scores: dict[int, dict[str, list[Score | None]]] = {}
    for seeds in numbers:
        columns = [np.stack([world.seed(rng) for _ in range(seeds)], axis=1) for world in worlds]
        ours: list[Score | None] = []
        for start in range(0, simulations, AT_ONCE):
            part = slice(start, start + AT_ONCE)
            for world, seen, draws in zip(
                worlds[part], columns[part], looks(worlds[part], columns[part]), strict=True
            ):
                ours.append(of_answer(world, read_answer(table_of(world, seen), draws)))
        scores[seeds] = {OURS: ours}
        for name, choose in RIVALS.items():
            scores[seeds][name] = [
                score_of(world, *choose(seen, world.orders, world.stages))
                for world, seen in zip(worlds, columns, strict=True)
            ]
    return scores


def races(
    make: Callable[[np.random.Generator], World],
    simulations: int,
    stops: int = MOST,
    together: int = TOGETHER,
) -> dict[int, dict[str, list[Score | None]]]:
    """The race, stopped after each block from the second seed on; by trainings, in steps of `STOPS`.

    At 0 stand the first answers of all races. `together` seeds of a chain are trained at once.
    """
    rng = np.random.default_rng(2)
    scores: dict[int, dict[str, list[Score | None]]] = {}
    live = [_Raced(make(rng)) for _ in range(simulations)]
    for raced in live:
        raced.train(first_cells(raced.world.stages), rng)
    while live:
        going = []
        for raced, draws in _with_draws(live):
            if (np.isfinite(raced.values).sum(axis=0) > 1).sum() >= LEAST_SEEDS:
                score, place = raced.score(draws), STOPS * -(-raced.trainings // STOPS)
                for stop in (place, *(() if raced.answered else (0,))):
                    scores.setdefault(stop, {OURS: []})[OURS].append(score)
                raced.answered = True
            cells: tuple[Cell, ...] = ()
            if raced.trainings < STOPS * stops:
                cells = next_cells(draws, raced.ran, seeds=SEEDS[-1], together=together)
            if cells:
                raced.train(cells, rng)
                going.append(raced)
        live = going
    return dict(sorted(scores.items()))


def of_many_stages(stages: Order, budget: int, simulations: int) -> dict[str, float]:
    """Means over races of so many stages that not all chains can run, after a budget of trainings.

    What is held, left, stated, realized and bounded is of the chains that ran, as the answer is about them.
    `regret` is how far the recommended one lies behind the best of all that there are, as a share of what a
    chain at random loses; `best_ran` how often that best one, or its like, was among those that ran.
    """
    rng, make, rows = np.random.default_rng(3), Planted(stages=stages, chains=True), []
    for _ in range(simulations):
        raced = _Raced(make(rng))
        cells = first_cells(stages)
        while cells and raced.trainings < budget:
            raced.train(cells, rng)
            cells = next_cells(look(raced.table), raced.ran, seeds=SEEDS[-1], block=block_of(stages))
        truth, table = raced.world.truth(), raced.table
        ran = truth[[raced.world.orders.index(order) for order in table.orders]]
        score = of_answer(World(stages, table.orders, raced.world.seed, None, ran), answer_of(table))
        assert score is not None
        behind = truth.max() - ran.max() + score.realized
        rows.append(
            {
                **asdict(score),
                "regret": behind / (truth.max() - truth.mean()),
                "best_ran": float(ran.max() >= truth.max() - TIE),
                "chains": len(ran),
                "seeds": len(raced.columns),
                "trainings": raced.trainings,
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@dataclass(slots=True)
class _Raced:
    """A race in a world: what each seed would give, and what of it is known."""

    world: World
    columns: list[FloatArray] = field(default_factory=list)
    ran: set[Cell] = field(default_factory=set)
    answered: bool = False

    @property
    def trainings(self) -> int:
        """Those of the baselines are not counted."""
        return len(self.ran)

    @property
    def values(self) -> FloatArray:
        """Shape (orders, seeds), NaN where not run."""
        there = [
            [(order, seed) in self.ran for seed in range(len(self.columns))] for order in self.world.orders
        ]
        return np.where(there, np.stack(self.columns, axis=1), np.nan)

    @property
    def table(self) -> ValueTable:
        """The table of the chains that ran."""
        chains = {order for order, _ in self.ran}
        rows = [row for row, order in enumerate(self.world.orders) if order in chains]
        orders, seeds = tuple(self.world.orders[row] for row in rows), tuple(range(len(self.columns)))
        there = [[(order, seed) in self.ran for seed in seeds] for order in orders]
        values = np.where(there, np.stack([column[rows] for column in self.columns], axis=1), np.nan)
        return ValueTable(self.world.stages, orders, seeds, values, self.world.floor)

    def score(self, draws: Draws) -> Score | None:
        """Set the answer for the chains that ran beside the truth about these."""
        table = self.table
        rows = [self.world.orders.index(order) for order in table.orders]
        own = replace(
            draws,
            orders=table.orders,
            values=draws.values[..., rows],
            scores=draws.scores[..., rows],
            noise=draws.noise[rows],
        )
        return of_answer(self.world.only(rows), read_answer(table, own))

    def train(self, cells: Sequence[Cell], rng: np.random.Generator) -> None:
        """Add chains at seeds, with their prefixes."""
        self.ran |= with_prefixes(cells)
        while len(self.columns) <= max(seed for _, seed in self.ran):
            self.columns.append(self.world.seed(rng))


def _with_draws(races: Sequence[_Raced]) -> Iterator[tuple[_Raced, Draws]]:
    groups: dict[int, list[_Raced]] = {}
    for raced in races:
        groups.setdefault(len(raced.columns), []).append(raced)
    for group in groups.values():
        for start in range(0, len(group), AT_ONCE):
            part, first = group[start : start + AT_ONCE], group[start].world
            tables = np.stack([raced.values for raced in part])
            drawn = draw_tables(tables, first.orders, first.stages, floor=first.floor, effort=LOOK)
            yield from zip(part, drawn, strict=True)


def summary(scores: Sequence[Score | None]) -> dict[str, float]:
    """Means over the simulations in which something was recommended."""
    answered = [score for score in scores if score is not None]
    means: dict[str, float] = {"told": len(answered) / len(scores)}
    for name in (
        ("held", "left", "stated", "realized", "bounded", "false_edges", "false_pairs") if answered else ()
    ):
        means[name] = float(np.mean([getattr(score, name) for score in answered]))
    return means


def margin(by_way: Mapping[str, Sequence[Score | None]]) -> tuple[str, float, float] | None:
    """The rival of the least regret, how much more ours is, and the standard error of that, draw by draw."""
    rivals = [way for way in by_way if way != OURS]
    rows = zip(*(by_way[way] for way in (OURS, *rivals)), strict=True)
    regrets = np.array([[score.realized for score in row if score] for row in rows if None not in row])
    if not rivals or len(regrets) < 2:
        return None
    best = 1 + int(regrets[:, 1:].mean(axis=0).argmin())
    more = regrets[:, 0] - regrets[:, best]
    return rivals[best - 1], float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--race", action="store_true", help="race instead of all orders at all seeds")
    parser.add_argument("--stops", type=int, default=MOST, help=f"of a race, {STOPS} trainings each")
    parser.add_argument("--together", type=int, default=TOGETHER, help="seeds of a chain at once in a race")
    parser.add_argument("--many-stages", type=int, nargs="*", help="race so many stages: 5, 6, 8 by default")
    parser.add_argument(
        "--seeds", nargs="*", type=int, default=SEEDS, help="numbers of seeds, without --race"
    )
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="names of worlds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.many_stages is not None:
        for count in options.many_stages or BUDGETS:
            means = of_many_stages(LETTERS[:count], BUDGETS[count], options.simulations)
            print(f"{count} stages ", *(f"{key} {value:.3f} " for key, value in means.items()), flush=True)
        return
    lines: list[Mapping[str, float | str]] = []
    for name in options.worlds:
        started = time.perf_counter()
        make, simulations = WORLDS[name](), options.simulations
        results = (
            races(make, simulations, options.stops, options.together)
            if options.race
            else full_designs(make, simulations, options.seeds)
        )
        for seeds, by_way in results.items():
            for way, scores in by_way.items():
                means = summary(scores)
                lines.append({"world": name, "seeds": seeds, "way": way, **means})
                numbers = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
                if not options.json:
                    print(f"{name:24} {seeds}  {way:18} {numbers}", flush=True)
            if not options.json and (beside := margin(by_way)) is not None:
                rival, more, error = beside
                print(f"{'':24} {seeds}  regret beyond that of {rival}: {more:.3f}, error {error:.3f}")
        if not options.json:
            print(f"{'':24} {time.perf_counter() - started:.0f} s", flush=True)
    if options.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
