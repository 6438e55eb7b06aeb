"""Q: fake-quantize weights and activations of the whole network, then train on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ordercomp.knobs import Knob
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import Bits
from ordercomp.networks.layers import FLOAT_BITS, TENSOR_BITS, Levels, Placement
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.bit_widths import allocate_bits
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
    said = f"reaches {cost.reached:.0%} of the multiplications; the others stay in float, most in {most}"
    return {**facts, "notice": said}
