"""How alike are the answers of several runs? The main job at other seeds each time.

    python benchmarks/stability.py                              # five runs in the recorded world of digits
    python benchmarks/stability.py --recording cifar10 --trainings 150
    python benchmarks/stability.py --task digits --budget 3m    # five runs that train, three minutes each

Each run races in the world that is fitted to a recording (see race.py), or trains with one worker, until so
many trainings or so much time are spent, and answers. Told is what the runs recommend, how often the same
chain, how many of their best sets hold that chain, and how far each bounds its regret; where the truth is
known also how many sets hold the truly best chain, and how far each choice truly lies behind it.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence

import numpy as np
import optuna
from race import STAGES, Run, World, by_doubt_dropping

from ordercomp.analysis.answer import AnswerAt, answer_of
from ordercomp.analysis.race import first_cells, look
from ordercomp.analysis.values import ValueTable
from ordercomp.cli.output import parse_duration
from ordercomp.jobs.discover import discover
from ordercomp.objectives import SEEDS
from ordercomp.running.task import load_task


def answer_after(world: World, rng: np.random.Generator, trainings: int) -> AnswerAt:
    """Race until so many trainings are done, and answer as `discover` does."""
    run = Run(world, rng)
    run.train(first_cells(STAGES))
    while True:
        table = ValueTable(STAGES, world.orders, tuple(range(len(run.columns))), run.values())
        draws = look(table)
        run.judge(draws)
        cells = by_doubt_dropping(run, draws) if run.trainings < trainings else ()
        if not cells:
            return answer_of(table.at(table.seeds))  # of the chains that ran
        run.train(cells)


def trained(task: str, budget: str, run: int) -> tuple[AnswerAt, int]:
    """Run the main job at seeds of its own; give its answer and how much it trained."""
    with tempfile.TemporaryDirectory() as folder:
        discovery = discover(
            load_task(task),
            out=folder,
            first_seed=SEEDS * run,
            budget_seconds=parse_duration(budget),
            workers=1,
        )
        return discovery.answer.asked, discovery.trainings.done


def alike(answers: Sequence[AnswerAt]) -> dict[str, object]:
    """How far the answers of several runs agree."""
    recommended = [str(answer.recommended) for answer in answers]
    (common, times), *_ = Counter(recommended).most_common(1)
    return {
        "recommended": recommended,
        "the same": f"{times} of {len(answers)}",
        f"sets that hold {common}": sum(common in answer.best_set for answer in answers),
        "chains in a set": [len(answer.best_set) for answer in answers],
        "of chains": [len(answer.standings) for answer in answers],
        "stated bound": [round(answer.regret.upper95, 2) if answer.regret else None for answer in answers],
    }


def beside_truth(answers: Sequence[AnswerAt], world: World) -> dict[str, object]:
    """How the answers stand in a world whose truth is known."""
    best = world.orders[int(world.truth.argmax())]
    behind = [
        world.truth.max() - world.truth[world.orders.index(answer.recommended)]
        for answer in answers
        if answer.recommended
    ]
    return {
        f"sets that hold {best}, truly the best": sum(best in answer.best_set for answer in answers),
        "truly behind": [round(float(regret), 2) for regret in behind],
    }


def main() -> None:
    """Run and print one line of JSON; each run that trains also as it ends."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", default="digits")
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trainings", type=int, default=300)
    parser.add_argument("--task", help="train this one instead, a built-in name or a TOML file")
    parser.add_argument("--budget", default="3m", help="of each run that trains")
    options = parser.parse_args()
    if options.task:
        answers = []
        for run in range(options.runs):
            answer, trainings = trained(options.task, options.budget, run)
            answers.append(answer)
            print(json.dumps({"run": run, "trainings": trainings, **alike([answer])}), flush=True)
        print(json.dumps(alike(answers)))
        return
    world = World.recorded(options.recording, options.loss)
    streams = np.random.default_rng(0).spawn(options.runs)
    answers = [answer_after(world, rng, options.trainings) for rng in streams]
    print(json.dumps({**alike(answers), **beside_truth(answers, world)}))


if __name__ == "__main__":
    main()
