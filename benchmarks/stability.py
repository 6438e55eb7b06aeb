"""How alike are the answers of several runs? The main job in a recorded world, at other seeds each time.

    python benchmarks/stability.py                         # five runs on digits, 300 trainings each
    python benchmarks/stability.py --recording cifar10 --trainings 150

Each run races in the world that is fitted to a recording (see race.py), with seeds of its own, until so many
trainings are done, and answers. Told is what the runs recommend, how often they recommend the same chain, how
many of their best sets hold that chain and the truly best one, and how far each choice truly lies behind.
"""

import argparse
import json
from collections import Counter

import numpy as np
from race import STAGES, Run, World, by_doubt_dropping

from ordercomp.analysis.answer import AnswerAt, read_answer
from ordercomp.analysis.race import first_cells, look
from ordercomp.analysis.values import ValueTable


def answer_after(world: World, rng: np.random.Generator, trainings: int) -> AnswerAt:
    """Race until so many trainings are done, and answer."""
    run = Run(world, rng)
    run.train(first_cells(STAGES))
    while True:
        table = ValueTable(STAGES, world.orders, tuple(range(len(run.columns))), run.values())
        draws = look(table)
        run.judge(draws)
        cells = by_doubt_dropping(run, draws) if run.trainings < trainings else ()
        if not cells:
            return read_answer(table, draws)
        run.train(cells)


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", default="digits")
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trainings", type=int, default=300)
    options = parser.parse_args()
    world = World.recorded(options.recording, options.loss)
    streams = np.random.default_rng(0).spawn(options.runs)
    answers = [answer_after(world, rng, options.trainings) for rng in streams]
    taken = [str(answer.recommended) for answer in answers]
    (common, times), *_ = Counter(taken).most_common(1)
    best = world.orders[int(world.truth.argmax())]
    behind = [float(world.truth.max() - world.truth[world.orders.index(order)]) for order in taken]
    told = {
        "recommended": taken,
        "the same": f"{times} of {options.runs}",
        f"sets that hold {common}": sum(common in answer.best_set for answer in answers),
        f"sets that hold {best}, truly the best": sum(best in answer.best_set for answer in answers),
        "chains in a set": [len(answer.best_set) for answer in answers],
        "truly behind": [round(regret, 2) for regret in behind],
        "stated bound": [round(answer.regret.upper95, 2) if answer.regret else None for answer in answers],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
