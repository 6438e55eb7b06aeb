"""`ordercomp cost`: what a model costs, and what a sequence would make of it, without training."""

from typing import Annotated

import typer

from ordercomp.cli.output import parse_convention, parse_shape, print_json, print_pairs
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import log_stage_notices
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained, cost_summary


def command(
    model: Annotated[
        str, typer.Argument(help="resnet34, vgg19, torchvision:resnet18, timm:resnet18, module:function, …")
    ],
    sequence: Annotated[str, typer.Argument(help='such as "D(depth=0.5) P(ratio=0.4)"')] = "",
    shape: Annotated[str, typer.Option("--input", help="channels x height x width")] = "3x32x32",
    classes: Annotated[int, typer.Option(min=2)] = 10,
    convention: Annotated[str, typer.Option(help="paper, honest or apot")] = "paper",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Count parameters, MACs, BitOps and bits; no training, all images taken to the last exit."""
    channels, height, width = parse_shape(shape)
    chosen = parse_convention(convention)
    network = CompressedNetwork.create(model, classes=classes, channels=channels, size=(height, width))
    baseline = measure_cost(network)
    compressed = apply_untrained(network, StageSequence.parse(sequence))
    log_stage_notices(compressed)
    summary = cost_summary(measure_cost(compressed), baseline, chosen)
    if as_json:
        print_json(summary)
    else:
        print_pairs(f"{model} {compressed.sequence}, convention {chosen}", summary)
