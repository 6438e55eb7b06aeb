"""A program that runs fake jobs on local processes; its arguments are FOLDER SECONDS ORDER…

Prints each finished order, then `interrupted` or `done` with the number of stages trained here.
"""

import sys
from pathlib import Path

from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.sequence import StageSequence
from tests import fakes


def main() -> None:
    folder, seconds, orders = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    task = fakes.FakeTask(folder / "calls", seconds=seconds)
    requests = [Request(StageSequence.parse(order), 0) for order in orders]
    with Runner(task, Store(folder / "store"), work=fakes.work) as runner:
        for finished in runner.run(requests):
            print(finished.record.order, flush=True)
        print("interrupted" if runner.interrupted else "done", runner.trainings.done, flush=True)
