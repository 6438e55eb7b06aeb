"""Does the answer tell the truth, and better than simple ways? Worlds with a known best, answered many times.

    python benchmarks/answer_calibration.py                     # 300 simulations of each world
    python benchmarks/answer_calibration.py --simulations 40    # a quick look
    python benchmarks/answer_calibration.py --race              # with the race, at every stop

For each world and number of seeds: how often anything was told; how often the best set holds the best chains,
ties included; how many are left; the regret that was stated and the one that came; how often the stated bound
held; how many false precedences were told. Beside it, on the same draws, what simple rivals reach.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from answer_rivals import RIVALS
from answer_worlds import WORLDS, World

from ordercomp.analysis.answer import LEAST_SEEDS, AnswerAt, precedence_of, read_answer
from ordercomp.analysis.order_model import Draws, draw_tables
from ordercomp.analysis.race import LOOK, in_halves, losing
from ordercomp.analysis.values import ValueTable

FloatArray = npt.NDArray[np.float64]

SEEDS = (3, 5, 8)
TOGETHER = 50  # simulations that are fitted at once
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


def score_of(
    world: World, taken: int, inside: Sequence[bool], stated: float = np.nan, upper: float = np.nan
) -> Score:
    """Set a choice and its set beside the true values."""
    truth, orders = world.truth(), world.orders
    realized = float(truth.max() - truth[taken])
    near = [order for order, value in zip(orders, truth, strict=True) if value >= truth.max() - TIE]
    best_set = [order for order, kept in zip(orders, inside, strict=True) if kept]
    kept = {*precedence_of(best_set, world.stages)}
    broken = any((second, first) in kept for first, second in _pairs(near))
    return Score(
        held=float(np.mean([order in best_set for order in near])),
        left=float(len(best_set)),
        stated=stated,
        realized=realized,
        bounded=float(realized <= upper + 1e-9) if np.isfinite(upper) else np.nan,
        false_edges=float(broken),
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
    taken = world.orders.index(answer.recommended)
    return score_of(world, taken, inside, answer.regret.expected, answer.regret.upper95)


def table_of(world: World, columns: FloatArray) -> ValueTable:
    """Values of shape (orders, seeds)."""
    return ValueTable(world.stages, world.orders, tuple(range(columns.shape[1])), columns, world.floor)


def looks(worlds: Sequence[World], columns: Sequence[FloatArray]) -> list[Draws]:
    """Draws for tables of the same orders and number of seeds."""
    first = worlds[0]
    return draw_tables(np.stack(columns), first.orders, first.stages, floor=first.floor)


def full_designs(
    make: Callable[[np.random.Generator], World], simulations: int
) -> dict[int, dict[str, list[Score | None]]]:
    """All chains at all seeds: ours and the rivals' scores, by number of seeds and name."""
    rng = np.random.default_rng(1)
    worlds = [make(rng) for _ in range(simulations)]
    found: dict[int, dict[str, list[Score | None]]] = {}
    for seeds in SEEDS:
        columns = [np.stack([world.seed(rng) for _ in range(seeds)], axis=1) for world in worlds]
        ours: list[Score | None] = []
        for start in range(0, simulations, TOGETHER):
            part = slice(start, start + TOGETHER)
            for world, seen, draws in zip(
                worlds[part], columns[part], looks(worlds[part], columns[part]), strict=True
            ):
                ours.append(of_answer(world, read_answer(table_of(world, seen), draws)))
        found[seeds] = {"ordercomp": ours}
        for name, choose in RIVALS.items():
            found[seeds][name] = [
                score_of(world, *choose(seen, world.orders, world.stages))
                for world, seen in zip(worlds, columns, strict=True)
            ]
    return found


def races(
    make: Callable[[np.random.Generator], World], simulations: int, most: int = 8
) -> dict[int, dict[str, list[Score | None]]]:
    """The race, stopped after each seed from the third on; races side by side are fitted together."""
    rng = np.random.default_rng(2)
    found: dict[int, dict[str, list[Score | None]]] = {
        seeds: {"ordercomp": []} for seeds in range(LEAST_SEEDS, most + 1)
    }
    for start in range(0, simulations, TOGETHER):
        worlds = [make(rng) for _ in range(min(TOGETHER, simulations - start))]
        columns = [np.full((len(world.orders), 0), np.nan) for world in worlds]
        gone: list[set[str]] = [set() for _ in worlds]
        for block in range(most):
            for place, world in enumerate(worlds):
                left = [order for order in world.orders if order not in gone[place]]
                run = in_halves(world.stages, left, block)
                column = np.where([order in run for order in world.orders], world.seed(rng), np.nan)
                columns[place] = np.hstack([columns[place], column[:, None]])
            if block + 1 < LEAST_SEEDS:
                continue
            first = worlds[0]
            drawn = draw_tables(np.stack(columns), first.orders, first.stages, floor=first.floor, effort=LOOK)
            for place, (world, draws) in enumerate(zip(worlds, drawn, strict=True)):
                answer = read_answer(table_of(world, columns[place]), draws)
                found[block + 1]["ordercomp"].append(of_answer(world, answer))
                gone[place] |= losing(draws)
    return found


def summary(scores: Sequence[Score | None]) -> dict[str, float]:
    """Means over the simulations in which something was recommended."""
    told = [score for score in scores if score is not None]
    means: dict[str, float] = {"told": len(told) / len(scores)}
    for name in ("held", "left", "stated", "realized", "bounded", "false_edges") if told else ():
        means[name] = float(np.mean([getattr(score, name) for score in told]))
    return means


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--race", action="store_true", help="race instead of all orders at all seeds")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="names of worlds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines: list[Mapping[str, float | str]] = []
    for name in options.worlds:
        started = time.perf_counter()
        found = (races if options.race else full_designs)(WORLDS[name](), options.simulations)
        for seeds, by_way in found.items():
            for way, scores in by_way.items():
                means = summary(scores)
                lines.append({"world": name, "seeds": seeds, "way": way, **means})
                numbers = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
                if not options.json:
                    print(f"{name:24} {seeds}  {way:18} {numbers}", flush=True)
        if not options.json:
            print(f"{'':24} {time.perf_counter() - started:.0f} s", flush=True)
    if options.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
