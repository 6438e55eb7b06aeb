"""Does the answer tell the truth? Worlds with a known best order, answered thousands of times.

    python benchmarks/answer_calibration.py                     # 500 simulations of each world
    python benchmarks/answer_calibration.py --simulations 40    # a quick look
    python benchmarks/answer_calibration.py --race              # with the race, at every stop

For each world and number of seeds: how often anything was told, and of what was told, how often the best set
holds the best order, how many orders are left, the regret that was stated and the one that came, how often
the stated bound held, and how many false precedences were told. Worlds called after a data set are fitted to
its recorded runs: the means of its orders, and seeds that deviate from them as the recorded ones do, in
chance mixtures.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ordercomp.analysis.answer import LEAST_SEEDS, AnswerAt, answers_of, read_answer
from ordercomp.analysis.order_model import Draws, draw_values, parts_of, shared_prefixes
from ordercomp.analysis.race import LOOK, in_halves, losing
from ordercomp.analysis.values import ValueTable, networks_of, order_values, settings_of
from ordercomp.jobs.race import load_recorded
from ordercomp.sequence import permutations

FloatArray = npt.NDArray[np.float64]
Seed = Callable[[np.random.Generator], FloatArray]

STAGES = "DPQE"
ORDERS = tuple(permutations(STAGES))
SEEDS = (3, 5, 8)
TOGETHER = 50  # simulations that are fitted at once
TIE = 0.1  # doublings below which orders tie: what 4,000 draws leave of no difference


@dataclass(frozen=True, slots=True)
class World:
    """True values of the orders, and how a seed is drawn."""

    seed: Seed
    floor: float | None = None

    def truth(self) -> FloatArray:
        """Values to be expected, shape (orders,)."""
        rng = np.random.default_rng(7)
        return np.mean([self.seed(rng) for _ in range(4000)], axis=0)


def planted(
    *,
    scores: float = 0.0,
    cycles: float = 0.0,
    triplets: float = 0.0,
    own: float = 0.0,
    noise: float = 0.7,
    wild: float = 1.0,
    degrees_of_freedom: float = np.inf,
    diverged: float = 0.0,
    level: float = 8.0,
    floor: float | None = None,
) -> Callable[[np.random.Generator], World]:
    """Worlds whose parts have these standard deviations; half of the noise is shared along prefixes.

    `wild` multiplies the noise of the orders in which E comes first or second; `diverged` is the chance that
    the networks of a prefix diverge at a seed, which puts all orders behind it at 0.
    """
    parts = parts_of(ORDERS, STAGES)
    prefixes = shared_prefixes(ORDERS)
    late = np.array([wild if "E" in order[:2] else 1.0 for order in ORDERS])

    def draw(rng: np.random.Generator) -> World:
        value = level + own * rng.standard_normal(len(ORDERS))
        for size, part in ((scores, parts.scores), (cycles, parts.cycles), (triplets, parts.triplets)):
            value = value + size * (part @ rng.standard_normal(part.shape[1]))

        def seed(rng: np.random.Generator) -> FloatArray:
            shared = prefixes @ rng.standard_normal(prefixes.shape[1]) / np.sqrt(2)
            alone = rng.standard_normal(len(ORDERS))
            if np.isfinite(degrees_of_freedom):
                alone = alone / np.sqrt(rng.chisquare(degrees_of_freedom, len(ORDERS)) / degrees_of_freedom)
            found = value + rng.standard_normal() + noise * late * (shared + alone) / np.sqrt(2)
            if diverged:
                gone = prefixes @ (rng.random(prefixes.shape[1]) < diverged) > 0
                found = np.where(gone, 0.0, found)
            return found if floor is None else np.maximum(found, floor)

        return World(seed, floor)

    return draw


def tied(rng: np.random.Generator) -> World:
    """The six orders with E last are the best, all alike; each step forward costs E a doubling."""
    value = np.array([order.index("E") for order in ORDERS], dtype=float)
    return World(lambda rng: value + rng.standard_normal() + 0.5 * rng.standard_normal(len(ORDERS)))


def fitted(name: str, loss: float, *, hard: bool = False) -> Callable[[np.random.Generator], World]:
    """The world of a recorded data set: at the front over its settings, or at its hardest setting alone."""
    networks = networks_of(load_recorded(name), STAGES)
    settings = settings_of(networks)
    chosen = [min(settings, key=lambda one: one.steps[2])] if hard else list(settings)  # fewest bits of Q
    table = order_values(networks, STAGES, loss=loss, settings=chosen)
    values = table.values[[table.orders.index(order) for order in ORDERS]]
    mean = values.mean(axis=1)
    around = (values - mean[:, None]) / np.sqrt(values.shape[1] - 1)

    def seed(rng: np.random.Generator) -> FloatArray:
        return np.maximum(mean + around @ rng.standard_normal(around.shape[1]), 0.0)

    world = World(seed, 0.0)
    return lambda rng: world


WORLDS: Mapping[str, Callable[[], Callable[[np.random.Generator], World]]] = {
    "no effect": lambda: planted(),
    "no effect, little noise": lambda: planted(noise=0.2),
    "six orders tie": lambda: tied,
    "scores": lambda: planted(scores=1.0),
    "cyclic": lambda: planted(scores=0.3, cycles=0.8),
    "triplets": lambda: planted(scores=0.5, triplets=0.8),
    "quirks": lambda: planted(scores=0.7, own=0.9),
    "one stage varies 5x": lambda: planted(scores=1.0, wild=5.0, noise=0.4),
    "heavy tails": lambda: planted(scores=1.0, degrees_of_freedom=3.0),
    "a prefix may diverge": lambda: planted(scores=1.0, diverged=0.02),
    "half at the floor": lambda: planted(scores=2.0, level=0.0, floor=0.0),
    "digits, 2 %": lambda: fitted("digits", 0.02),
    "digits, 5 %": lambda: fitted("digits", 0.05),
    "digits, hard, 5 %": lambda: fitted("digits", 0.05, hard=True),
    "digits, hard, 8 %": lambda: fitted("digits", 0.08, hard=True),
    "fashion-mnist, 2 %": lambda: fitted("fashion-mnist", 0.02),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer beside the truth."""

    held: float  # share of the best orders, ties included, that are in the best set
    left: float  # share of the orders in the set
    stated: float  # expected regret
    realized: float
    random: float  # realized regret of an order taken at random
    bounded: bool  # realized regret within the stated bound
    false_edges: bool  # some precedence that a best order does not keep


def compare(answer: AnswerAt, truth: FloatArray) -> Outcome | None:
    """Set one answer beside the true values; None where the answer recommends nothing."""
    if answer.recommended is None or answer.regret is None:
        return None
    realized = float(truth.max() - truth[ORDERS.index(answer.recommended)])
    near = [order for order, value in zip(ORDERS, truth, strict=True) if value >= truth.max() - TIE]
    kept = [
        pair for pair in answer.precedence if all(one.index(pair[0]) < one.index(pair[1]) for one in near)
    ]
    return Outcome(
        held=float(np.mean([order in answer.best_set for order in near])),
        left=len(answer.best_set) / len(ORDERS),
        stated=answer.regret.expected,
        realized=realized,
        random=float(truth.max() - truth.mean()),
        bounded=realized <= answer.regret.upper95 + 1e-9,
        false_edges=len(kept) < len(answer.precedence),
    )


def table_of(world: World, columns: FloatArray) -> ValueTable:
    """Values of shape (orders, seeds), the orders that were never run left out."""
    rows = np.flatnonzero(np.isfinite(columns).any(axis=1))
    return ValueTable(
        STAGES,
        tuple(ORDERS[row] for row in rows),
        tuple(range(columns.shape[1])),
        columns[rows],
        world.floor,
    )


def full_designs(
    make: Callable[[np.random.Generator], World], simulations: int
) -> dict[int, list[Outcome | None]]:
    """All orders at all seeds."""
    rng = np.random.default_rng(1)
    worlds = [make(rng) for _ in range(simulations)]
    known = {id(world): world.truth() for world in {id(world): world for world in worlds}.values()}
    truths = [known[id(world)] for world in worlds]
    found: dict[int, list[Outcome | None]] = {}
    for seeds in SEEDS:
        tables = [table_of(w, np.stack([w.seed(rng) for _ in range(seeds)], axis=1)) for w in worlds]
        answers = [
            one
            for start in range(0, simulations, TOGETHER)
            for one in answers_of(tables[start : start + TOGETHER], effort=LOOK)
        ]
        found[seeds] = [compare(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
    return found


def races(
    make: Callable[[np.random.Generator], World], simulations: int, most: int = 8
) -> dict[int, list[Outcome | None]]:
    """The race, stopped after each seed from the third on; races side by side are fitted together."""
    rng = np.random.default_rng(2)
    found: dict[int, list[Outcome | None]] = {seeds: [] for seeds in range(LEAST_SEEDS, most + 1)}
    known: dict[int, tuple[World, FloatArray]] = {}
    for start in range(0, simulations, TOGETHER):
        worlds = [make(rng) for _ in range(min(TOGETHER, simulations - start))]
        for world in worlds:
            if id(world) not in known:
                known[id(world)] = world, world.truth()
        columns = [np.full((len(ORDERS), 0), np.nan) for _ in worlds]
        gone: list[set[str]] = [set() for _ in worlds]
        for block in range(most):
            for place, world in enumerate(worlds):
                run = in_halves(STAGES, [order for order in ORDERS if order not in gone[place]], block)
                column = np.where([order in run for order in ORDERS], world.seed(rng), np.nan)
                columns[place] = np.hstack([columns[place], column[:, None]])
            if block + 1 >= LEAST_SEEDS:
                tables = [table_of(world, seen) for world, seen in zip(worlds, columns, strict=True)]
                for place, (table, draws) in enumerate(zip(tables, looks(tables), strict=True)):
                    truth = known[id(worlds[place])][1]
                    found[block + 1].append(compare(read_answer(table, draws), truth))
                    gone[place] |= losing(draws)
    return found


def looks(tables: Sequence[ValueTable]) -> list[Draws]:
    """Draws for tables of the same orders and number of seeds."""
    values = np.stack([table.values for table in tables])
    return draw_values(values, ORDERS, STAGES, floor=tables[0].floor, effort=LOOK)


def report(name: str, seeds: int, found: list[Outcome | None]) -> dict[str, float | str]:
    """Means over the simulations in which an order was recommended."""
    outcomes = [one for one in found if one is not None]
    if not outcomes:
        return {"world": name, "seeds": seeds, "told": 0.0}
    return {
        "world": name,
        "seeds": seeds,
        "told": len(outcomes) / len(found),
        "held": float(np.mean([one.held for one in outcomes])),
        "left": 24 * float(np.mean([one.left for one in outcomes])),
        "stated": float(np.mean([one.stated for one in outcomes])),
        "realized": float(np.mean([one.realized for one in outcomes])),
        "random": float(np.mean([one.random for one in outcomes])),
        "bounded": float(np.mean([one.bounded for one in outcomes])),
        "false edges": float(np.mean([one.false_edges for one in outcomes])),
    }


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--race", action="store_true", help="race instead of all orders at all seeds")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="names of worlds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines = []
    for name in options.worlds:
        started = time.perf_counter()
        found = (races if options.race else full_designs)(WORLDS[name](), options.simulations)
        for seeds, outcomes in found.items():
            line = report(name, seeds, outcomes)
            lines.append(line)
            if not options.json:
                numbers = "  ".join(
                    f"{key} {value:6.3f}" for key, value in line.items() if key not in ("world", "seeds")
                )
                print(f"{name:26} {seeds} seeds  {numbers}", flush=True)
        if not options.json:
            print(f"{'':26} {time.perf_counter() - started:.0f} s", flush=True)
    if options.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
