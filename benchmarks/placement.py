"""What does `Q(placement=tensor)` cost, and what does it give? Accuracy of both placements, and equal labels.

For each data set and seed one network is trained and pruned, and quantized once with each placement. Run:

    OMP_NUM_THREADS=1 python benchmarks/placement.py [DATA ...] [--seeds 3] [--bits 4,8]
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import torch

from ordercomp.jobs.compress import task_images
from ordercomp.running.node import create_network, make_trainer
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.shipping.onnx import export_onnx, onnx_session
from ordercomp.shipping.plain import ship
from ordercomp.stages.catalog import complete, make_stage
from ordercomp.training.recipe import Recipe

FIRST = Task(
    name="placement",
    model="resnet20(width=16)",
    data="digits",
    recipe=Recipe(epochs=15, batch_size=64, learning_rate=0.1),
)
FEW = replace(FIRST, train_limit=4000, recipe=replace(FIRST.recipe, epochs=2))
TASKS = {
    "digits": replace(FIRST, model="resnet14(width=8)"),
    "fashion-mnist-32": replace(FEW, data="fashion-mnist-32"),
    "cifar10": replace(FEW, data="cifar10"),
}
PLACEMENTS = ("layer", "tensor")


def main() -> None:
    """Print a row for each data set and placement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=[*TASKS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", default="4,8", help="of weights and activations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| data | placement | accuracy, exported | labels equal | layers in integers |\n|---|---|---|---|---|"
    )
    for data in options.data:
        rows = [list(measured(TASKS[data], seed, options.bits)) for seed in range(options.seeds)]
        for place, placement in enumerate(PLACEMENTS):
            accuracies, same, integers = zip(*(row[place] for row in rows), strict=True)
            spread = f" ± {stdev(accuracies):.2%}" if len(rows) > 1 else ""
            print(
                f"| {data} | {placement} | {mean(accuracies):.2%}{spread} | "
                f"{min(same):.2%} to {max(same):.2%} | {min(integers)} |"
            )


def measured(task: Task, seed: int, bits: str) -> Iterator[tuple[float, float, str]]:
    """For each placement accuracy of the export, share of labels that stay, and layers in integers."""
    trainer = make_trainer(task, seed=seed)
    network = create_network(task, seed=seed)
    trainer.train(network, fresh=True)
    (prune,) = complete(StageSequence.parse("P(ratio=0.4,round_to=16)")).steps
    if task.data != "digits":
        network = make_stage(prune).apply(network, trainer=trainer.for_stage("P"))
    weights, activations = bits.split(",")
    for placement in PLACEMENTS:
        text = f"Q(weights={weights},activations={activations},placement={placement})"
        (step,) = complete(StageSequence.parse(text)).steps
        quantized = make_stage(step).apply(network, trainer=trainer.for_stage("Q"))
        quantized.module.eval()
        training, (images, labels) = task_images(quantized, task)
        with TemporaryDirectory() as folder, torch.inference_mode():
            exported = export_onnx(quantized, Path(folder) / "n.onnx", images=training)
            ours = ship(quantized)(images)[-1].argmax(1)
            (logits,) = onnx_session(str(exported.files[0])).run(None, {"image": images.numpy()})
        theirs = torch.from_numpy(logits).argmax(1)
        integers = f"{exported.integer_layers} of {exported.layers}"
        yield float((theirs == labels).float().mean()), float((theirs == ours).float().mean()), integers


if __name__ == "__main__":
    main()
