"""What does a race on a cheaper copy save, and does the answer that hears it tell the truth?

    python benchmarks/proxy.py                      # 40 races with each recorded copy
    python benchmarks/proxy.py --pace digits        # seconds of the same networks on the task and its copies

Worlds are fitted to recordings of a task and of its copies, as in `race.py`. A race on the copy's world, cut
off after so many trainings, tells the race on the task's world what to expect of each chain. Told are the
trainings of the task, those of the copy counted by their seconds, until the recommended chain lies no more
than so many doublings behind the best on average, beside the race alone; and of all answers on the way
whether the best chains were held, what regret was stated and what came, and how often the bound held.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from answer_calibration import Score, of_answer, summary
from answer_worlds import World as KnownWorld
from race import STAGES, STEP, Run, World, by_doubt

from ordercomp.analysis.answer import LEAST_SEEDS, AnswerAt, guessed_answer, read_answer
from ordercomp.analysis.hints import COPY_SLOPE, baseline_error, matched_loss
from ordercomp.analysis.race import first_cells, look
from ordercomp.analysis.values import Hint, ValueTable
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.jobs.proxy import NAMED, Proxy, proxy_task
from ordercomp.jobs.recordings import load_recorded
from ordercomp.running.jobs import Request, job_chain
from ordercomp.running.node import train_node
from ordercomp.running.store import Store
from ordercomp.running.task import load_task
from ordercomp.sequence import Order

LOSS, REGRET = 0.02, 0.3
MOST = 400  # trainings of the task after which a race is given up
PACED = (("DPQE", 0), ("EQPD", 1))  # orders at settings, whose networks are timed
# Recordings of a task and of its copies, and the share of the seconds that a training takes there (`--pace`);
# that of CIFAR-10 was not timed: a sixteenth of the multiplications, and as many images to measure on.
CASES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "digits": ("proxies-digits", {"epochs=0.25": 0.34, "images=0.25": 0.34, "epochs=0.25,width=0.5": 0.34}),
    "fashion-mnist-raced": ("proxies-fashion-mnist-raced", {"images=0.25,width=0.5": 0.18}),
    "cifar10": ("proxies-cifar10", {"epochs=0.25,width=0.5": 0.1}),
}


@dataclass(slots=True)
class Copied(Run):
    """A race on a task, which may hear what a race on a copy said before."""

    hint: Hint = field(default_factory=Hint)
    spent: float = 0.0  # on the copy, in trainings of the task
    guess: AnswerAt | None = None  # by the copy alone
    answers: list[tuple[float, Score]] = field(default_factory=list)  # after how many trainings, and its fate

    def race(self, most: float) -> "Copied":
        """Train block after block, and set each answer beside the truth."""
        cells: Sequence[tuple[Order, int]] = first_cells(STAGES, self.hint.chains)
        while cells and self.spent + self.trainings < most:
            self.train(cells)
            table = self.table.hinted(self.hint)
            draws = look(table)
            answer = read_answer(table, draws)
            self.regrets.append((self.trainings, self.regret(answer)))
            if len(table.seeds) >= LEAST_SEEDS:
                places = [self.world.orders.index(order) for order in table.orders]
                known = KnownWorld(STAGES, table.orders, lambda _: np.zeros(0), 0.0, self.world.truth[places])
                if score := of_answer(known, answer):
                    self.answers.append((self.spent + self.trainings, score))
            cells = by_doubt(self, draws)
        return self

    def after(self, copy: "Copied", share: float) -> "Copied":
        """This race, told what one on a copy said, of whose trainings each takes a `share` of one here."""
        draws = look(copy.table)
        self.hint, self.spent = Hint(draws.expected, slope=COPY_SLOPE), share * copy.trainings
        self.guess = guessed_answer(draws, LOSS)
        self.regrets.append((0, self.regret(self.guess)))
        return self

    def regret(self, answer: AnswerAt) -> float:
        """How far the recommended chain truly lies behind the best of all."""
        assert answer.recommended is not None
        return float(self.world.truth.max() - self.world.truth[self.world.orders.index(answer.recommended)])

    @property
    def table(self) -> ValueTable:
        """What is known."""
        values = self.values()
        rows = np.flatnonzero(np.isfinite(values).any(axis=1))
        orders = tuple(self.world.orders[row] for row in rows)
        return ValueTable(STAGES, orders, tuple(range(values.shape[1])), values[rows])


def copies_of(name: str) -> Iterator[tuple[str, World, float]]:
    """Each copy with a pace: its name, its world at the loss that matches `LOSS`, and its pace."""
    recording, paces = CASES[name]
    task, records = load_recorded(name), load_recorded(recording)
    for copy, pace in paces.items():
        own = [record for record in records if record.task.partition(NAMED)[2] == copy]
        errors = baseline_error(task), baseline_error(own)
        yield copy, World.of(own, matched_loss(LOSS, "error", errors=errors)), pace


def needed(runs: Sequence[Copied], regret: float) -> int | None:
    """Trainings from which on the mean regret is as small, those on the copy among them."""
    places = range(STEP, MOST + 1, STEP)
    means = [np.mean([run.regret_after(place - round(run.spent)) for run in runs]) for place in places]
    large = [place for place, mean in zip(places, means, strict=True) if mean > regret]
    trainings = max(large, default=0) + STEP
    return trainings if trainings <= MOST else None


def told(name: str, runs: Sequence[Copied], regret: float) -> str:
    """A line about races: what they needed, their first answers, and all answers on the way."""
    after = needed(runs, regret)
    first = summary([run.answers[0][1] for run in runs])
    every = summary([score for run in runs for _, score in run.answers])
    fates = [
        f"held {100 * of['held']:.0f} %, {of['left']:.1f} left, regret stated {of['stated']:.2f}, "
        f"realized {of['realized']:.2f}, bound held {100 * of['bounded']:.0f} %"
        for of in (first, every)
    ]
    words = "more" if after is None else str(after)
    return f"{name}: {regret:g} after {words} trainings; first answers {fates[0]}; all {fates[1]}"


def guessed(runs: Sequence[Copied]) -> str:
    """A line about what races on a copy said before anything of the task was trained."""
    guesses = [
        (run.guess.regret.expected, run.guess.regret.upper95, run.regret(run.guess))
        for run in runs
        if run.guess is not None and run.guess.regret is not None
    ]
    stated, upper, realized = np.array(guesses).T
    return (
        f"  the copy alone: regret stated {stated.mean():.2f}, realized {realized.mean():.2f}, bound "
        f"{upper.mean():.1f}, held {100 * (realized <= upper).mean():.0f} %"
    )


def pace(name: str) -> None:
    """Print processor seconds of some networks of the task and of the same ones on its copies, in turn."""
    torch.set_num_threads(1)
    task = load_task(str(Path(__file__).parents[1] / "studies" / "recordings" / f"{name}.toml"))
    proxies = ["full", *CASES[name][1]]
    seconds = dict.fromkeys(proxies, 0.0)
    with TemporaryDirectory() as folder:
        stores = {proxy: Store(Path(folder) / str(place)) for place, proxy in enumerate(proxies)}
        for order, setting in PACED:
            for proxy, store in stores.items():
                cheap = settle_precision(proxy_task(task, Proxy.parse(proxy)), store)
                sequence = cheap.sequence(order, cheap.settings[setting])
                for job in job_chain(cheap, Request(sequence, 0), store.folder):
                    if store.get(job.key) is None:
                        started = time.process_time()
                        train_node(job)
                        seconds[proxy] += time.process_time() - started
    for proxy in proxies:
        print(f"{name} {proxy}: {seconds[proxy]:.1f} s, {seconds[proxy] / seconds['full']:.2f}")


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--races", type=int, default=40)
    parser.add_argument("--on-the-copy", type=int, nargs="*", default=[60, 120], help="trainings of it")
    parser.add_argument("--regret", type=float, default=REGRET)
    parser.add_argument("--together", type=int, default=1, help="seeds of a chain at once, without a copy")
    parser.add_argument("--pace", action="store_true", help="time networks instead")
    options = parser.parse_args()
    for name in options.names:
        if options.pace:
            pace(name)
            continue
        world, rng = World.of(load_recorded(name), LOSS), np.random.default_rng(0)
        alone = [Copied(world, rng, together=options.together).race(MOST) for _ in range(options.races)]
        print(told(f"{name} alone", alone, options.regret), flush=True)
        for copy, cheap, share in copies_of(name):
            for most in options.on_the_copy:
                runs = []
                for _ in range(options.races):
                    first = Copied(cheap, rng).race(most)
                    runs.append(Copied(world, rng).after(first, share).race(MOST))
                print(told(f"{name} after {most} on {copy}", runs, options.regret), flush=True)
                print(guessed(runs), flush=True)


if __name__ == "__main__":
    main()
