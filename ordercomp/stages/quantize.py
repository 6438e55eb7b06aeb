"""Q: fake-quantize weights and activations of the whole network, then train on."""

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from ordercomp.knobs import Knob
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.layers import (
    FLOAT_BITS,
    MOST_LEVEL_BITS,
    TENSOR_BITS,
    Levels,
    Placement,
    QuantizedLayer,
)
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import EPOCHS, TEACHER, Granularity, StageError, finish, teacher_of
from ordercomp.stages.verify import check_quantizing
from ordercomp.training.trainer import Trainer

_NEARLY_ALL = 0.95  # share of the multiply-accumulates; where fewer are reached there is a notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Quantization-aware training with DoReFa quantizers (Zhou et al. 2016), exit heads included.

    The first layer reads the image as it is (8 bits by nature). On a quantized network the new bit
    widths replace the old ones. Layers with a forward of their own and weights that are multiplied outside of
    layers stay in float, are counted so, and the lineage names them. With `allocation=sensitivity` layers
    that change the outputs more get more bits; `allocate_bits` says how. With `placement=tensor` the image,
    what several parts of the network read, and what sums and averages read and make are rounded to 8 bits.
    """

    letter: ClassVar[str] = "Q"
    title: ClassVar[str] = "Quantize"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "sub-neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "weights": Knob(default=2, low=1, high=FLOAT_BITS, step=1, log=True, help="bits of a weight"),
        "activations": Knob(
            default=4, low=1, high=FLOAT_BITS, step=1, log=True, help="bits of an activation"
        ),
        "levels": Knob(
            default="uniform",
            choices=get_args(Levels),
            searched=False,
            help="of weights: evenly spaced (uniform; symmetric: with a zero, so that 8 bits fit INT8), "
            "powers of two (pot), or sums of them (apot)",
        ),
        "placement": Knob(
            default="layer",
            choices=get_args(Placement),
            searched=False,
            help="of roundings: of what each layer reads (layer), or of each tensor between layers, sums "
            "included, so that all runs in integers as it was trained (tensor)",
        ),
        "allocation": Knob(
            default="equal",
            choices=("equal", "sensitivity"),
            searched=False,
            help="equal: `weights` bits for all; sensitivity: each layer its own, no more on average",
        ),
        "teacher": TEACHER,
        "epochs": EPOCHS,
    }

    weights: int = 2
    activations: int = 4
    levels: Levels = "uniform"
    placement: Placement = "layer"
    allocation: Literal["equal", "sensitivity"] = "equal"
    teacher: Literal["none", "baseline"] = "none"
    epochs: float = 0.0

    def __post_init__(self) -> None:
        _ = self.bits  # which checks them

    @property
    def bits(self) -> Bits:
        """Bit widths and levels; 8 bits that are to run in integers have 255 levels, which fit INT8."""
        wide = self.placement == "tensor" and self.weights == TENSOR_BITS and self.levels == "uniform"
        return Bits(
            self.weights, self.activations, "symmetric" if wide else self.levels, placement=self.placement
        )

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a quantized, fine-tuned copy; every exit learns from the teacher if there is one.

        Raises StageError if there is no layer that it can quantize, or if 32 bits would change the logits.
        """
        check_quantizing(network)
        quantized = network.quantized(self.bits)
        if not any(True for _ in quantized.quantized_layers()):
            raise StageError(f"Q finds no Conv2d or Linear in {network.architecture.model} to quantize")
        achieved: dict[str, object] = {"layers": sum(1 for _ in quantized.quantized_layers())}
        achieved |= _in_float(quantized)
        if self.allocation == "sensitivity":
            achieved["bits"] = allocate_bits(quantized, trainer.sample(network))
        trainer.calibrate(quantized)
        if self.placement == "tensor":
            achieved["tensors"] = len(quantized.module.rounded)
        epochs = trainer.train(quantized, fresh=False, teacher=teacher_of(self.teacher, trainer))
        return finish(quantized, self, epochs, achieved)


def _in_float(quantized: CompressedNetwork) -> dict[str, object]:
    """What quantizers do not reach, and the share of the multiply-accumulates that they do reach."""
    try:
        cost = measure_cost(quantized)
    except ValueError:  # what cannot be counted is refused where its cost is asked for
        return {}
    if not cost.unreached:
        return {}
    facts: dict[str, object] = {"in_float": cost.unreached, "reached": round(cost.reached, 4)}
    if cost.reached > _NEARLY_ALL:
        return facts
    most = max(cost.unreached, key=lambda name: cost.unreached[name]["macs"]).removeprefix("body.")
    notice = f"reaches {cost.reached:.0%} of the multiplications; the others stay in float, most in {most}"
    return {**facts, "notice": notice}


# Bit widths of single layers: more for those whose rounding changes the outputs more, within a budget


def allocate_bits(network: CompressedNetwork, images: Tensor) -> dict[str, int]:
    """Give each quantized layer weight bits of its own, in place, and return them by name.

    All layers start at one bit. The one that gains most for each bit gets one more, as long as neither the
    mean over all weights nor that over all multiplications exceeds the network's nominal bits. What a layer
    gains is how much less the outputs (mean square, all exits) for `images`, shape (n, c, h, w), differ from
    those in float when it alone is rounded.
    """
    assert network.bits is not None
    layers = dict(network.quantized_layers())
    shares, budget = _shares(network, layers), float(network.bits.weights)
    errors = _errors(network, images)
    bits = dict.fromkeys(layers, 1)
    spent = [1.0, 1.0]

    def gain(name: str) -> float:
        return (errors[name][bits[name] - 1] - errors[name][bits[name]]) / max(*shares[name], 1e-12)

    waiting = [(-gain(name), place, name) for place, name in enumerate(layers)]
    heapq.heapify(waiting)
    while waiting:
        _, place, name = heapq.heappop(waiting)
        raised = [before + share for before, share in zip(spent, shares[name], strict=True)]
        if max(raised) > budget + 1e-9:
            continue  # what does not fit now never will
        spent, bits[name] = raised, bits[name] + 1
        if bits[name] < MOST_LEVEL_BITS:
            heapq.heappush(waiting, (-gain(name), place, name))
    for name, layer in layers.items():
        layer.set_bits(bits[name], layer.activation_bits)
    return {name.removeprefix("body."): width for name, width in bits.items()}


def _shares(network: CompressedNetwork, layers: dict[str, QuantizedLayer]) -> dict[str, tuple[float, float]]:
    """Each layer's share of the quantized weights, and of the multiplications."""
    weights: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    for layer in measure_cost(network).layers:
        if layer.name in layers:
            weights[layer.name] += layer.weights
            macs[layer.name] += layer.macs
    all_weights, all_macs = max(weights.total(), 1), max(macs.total(), 1)
    return {name: (weights[name] / all_weights, macs[name] / all_macs) for name in layers}


@torch.no_grad()
def _errors(network: CompressedNetwork, images: Tensor) -> dict[str, list[float]]:
    """By layer, what the outputs change when it alone has weights of 1, 2, … 8 bits; never rising."""
    twin = network.copy()
    twin.module.eval()
    layers = dict(twin.quantized_layers())
    for layer in layers.values():
        layer.set_bits(FLOAT_BITS, FLOAT_BITS)
    wanted = torch.stack(twin.module(images))
    errors: dict[str, list[float]] = {}
    for name, layer in layers.items():
        by_width: list[float] = []
        for width in range(1, MOST_LEVEL_BITS + 1):
            layer.set_bits(width, FLOAT_BITS)
            error = float((torch.stack(twin.module(images)) - wanted).square().mean())
            by_width.append(min([error, *by_width]))
        layer.set_bits(FLOAT_BITS, FLOAT_BITS)
        errors[name] = by_width
    return errors
