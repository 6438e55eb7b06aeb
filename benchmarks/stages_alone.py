"""Stages alone on a trained ResNet-20, beside what was published for as much: accuracy, storage, BitOps.

    OMP_NUM_THREADS=1 python benchmarks/stages_alone.py [digits fashion-mnist] [--seeds 2] [--store out/alone]

Every network is trained with the task's epochs. Finished ones are looked up in the store, so a run goes on.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from ordercomp.running.jobs import Finished, Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import complete
from ordercomp.training.recipe import Recipe

TASKS = {
    "digits": Task(
        name="alone",
        model="resnet20(width=16)",
        data="digits",
        recipe=Recipe(epochs=20, batch_size=64, fine_tune_factor=0.3),
    ),
    "fashion-mnist": Task(
        name="alone",
        model="resnet20(width=16,stem_stride=2)",
        data="fashion-mnist",
        recipe=Recipe(epochs=2, batch_size=128, learning_rate=0.2, fine_tune_factor=0.3),
    ),
}
PUBLISHED = {
    "F": "",
    "L(rank=0.5)": "half the multiplications within a point (Jaderberg et al. 2014)",
    "U(sparsity=0.9)": "90 % sparse with a small loss (Zhu and Gupta 2017)",
    "W(values=16)": "4-bit indices without loss (Han et al. 2016)",
    "U(sparsity=0.9) W(values=16) H": "35 times less storage of AlexNet (Han et al. 2016)",
    "Q(weights=4,activations=8) H": "",
}


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=[*TASKS])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("out/alone"))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    for data in options.data:
        sequences = [complete(StageSequence.parse(text)) for text in PUBLISHED]
        requests = [Request(sequence, seed) for seed in range(options.seeds) for sequence in sequences]
        with Runner(TASKS[data], Store(options.store / data), workers=options.workers) as runner:
            done = [item for item in runner.run(requests) if isinstance(item, Finished)]
        print(f"\n{data}, seeds 0 to {options.seeds - 1}\n")
        print("| sequence | test accuracy | storage | BitOps | published |\n|---|---|---|---|---|")
        for place, (sequence, published) in enumerate(zip(sequences, PUBLISHED.values(), strict=True)):
            records = [item.record for item in done if item.request.sequence == sequence]
            if not place:
                baselines = [record.baseline.test_accuracy for record in records]
                print(f"| baseline | {listed(baselines)} | 1 | 1 | |")
            points = [record.points[0] for record in records]  # without early leaving
            reductions = f"{points[0].cr:.3g} | {points[0].bitops_cr:.3g}"  # of the first seed
            print(
                f"| `{sequence}` | {listed(p.test_accuracy for p in points)} | {reductions} | {published} |"
            )


def listed(accuracies: Iterable[float]) -> str:
    return ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)


if __name__ == "__main__":
    main()
