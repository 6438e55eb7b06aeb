"""Table 3 of the source paper: the methods that it cites, as plain data, each with our nearest sequence.

Accuracies are percent as printed, reductions "how many times smaller". Where the text at hand is garbled a
note says so. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ordercomp.sequence import KnobValue, Order
from ordercomp.studies.facts import Compressed


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedMethod:
    """A row of Table 3, and which of our sequences comes nearest to the method."""

    key: str  # the paper's letter
    name: str
    data: str
    model: str
    accuracy: float  # percent, with its change in points
    change: float
    bitops_cr: float | None
    cr: float | None
    order: Order | None  # None: not to be expressed with D, P, Q, E, K, F
    fidelity: str  # how near the order comes
    baseline_bits: int = 32  # what the reduction is measured against, as far as known
    note: str = ""
    knobs: Mapping[str, Mapping[str, KnobValue]] = field(default_factory=dict)  # that the method is known for


TABLE_3: tuple[CitedMethod, ...] = (
    CitedMethod(
        key="a",
        name="OICSR-GL",
        data="cifar10",
        model="resnet18",
        accuracy=94.26,
        change=-0.40,
        bitops_cr=7.41,
        cr=10.98,
        order="PQ",
        fidelity="close: group pruning, then quantization; its sparse training before P is left out",
    ),
    CitedMethod(
        key="c",
        name="Predictive E+Q",
        data="cifar10",
        model="resnet34",
        accuracy=82.0,
        change=-3.0,
        bitops_cr=190.48,
        cr=None,
        order="EQ",
        fidelity="close: exits, then 8-bit quantization; ours trains on and has no exit predictor",
        note="190.48 = 16 / 0.084, that is 8w8a over a cost of 8.4 %",
        knobs={"Q": {"weights": 8, "activations": 8}},
    ),
    CitedMethod(
        key="d",
        name="CEA-MOP",
        data="cifar10",
        model="resnet34",
        accuracy=92.01,
        change=-0.62,
        bitops_cr=1.70,
        cr=1.62,
        order="P",
        fidelity="approximate: its evolutionary choice of the ratios is left out",
    ),
    CitedMethod(
        key="f",
        name="PD",
        data="cifar10",
        model="resnet110 and resnet164",
        accuracy=93.00,
        change=-1.27,
        bitops_cr=None,
        cr=4.70,
        order="PD",
        fidelity="approximate: it prunes chosen layers and distills the others",
        note="ResNet164: 93.70 (-0.82), CR 3.63; the columns are read from a garbled table",
    ),
    CitedMethod(
        key="g",
        name="KDDP",
        data="cifar10",
        model="resnet56 (printed DecNet56)",
        accuracy=81.93,
        change=-6.16,
        bitops_cr=None,
        cr=20.37,
        order="DP",
        fidelity="close: distillation, then pruning; it prunes fully connected layers only",
    ),
    CitedMethod(
        key="i",
        name="DDSL",
        data="cifar10",
        model="unclear",
        accuracy=93.98,
        change=0.17,
        bitops_cr=4.15,
        cr=4.00,
        order="DP",
        fidelity="approximate: it distills and prunes jointly",
        note="model and BitOpsCR are read from a garbled table",
    ),
    CitedMethod(
        key="j",
        name="Quantized distillation",
        data="imagenet",
        model="resnet34",
        accuracy=73.10,
        change=-0.21,
        bitops_cr=None,
        cr=3.97,
        order="DQ",
        fidelity="exact if the quantized student goes on learning from the teacher",
        note="the teacher of our Q is the baseline",
    ),
    CitedMethod(
        key="l",
        name="Hybrid search",
        data="cifar10",
        model="vgg16",
        accuracy=93.95,
        change=-0.52,
        bitops_cr=4.50,
        cr=9.79,
        order="P",
        fidelity="close: its search over ratios and criteria is left out",
        note="the columns of this row are read from a garbled table",
    ),
    CitedMethod(
        key="m",
        name="HFPQ",
        data="cifar10",
        model="vgg16",
        accuracy=92.47,
        change=-1.11,
        bitops_cr=7.58,
        cr=30.00,
        order="PQ",
        fidelity="exact but for its power-of-two levels",
        note="the columns of this row are read from a garbled table",
    ),
    CitedMethod(
        key="o",
        name="APQ",
        data="imagenet",
        model="resnet34",
        accuracy=75.1,
        change=0.1,
        bitops_cr=8.0,
        cr=None,
        order="PQ",
        fidelity="its sequential baseline without the architecture search; APQ itself searches jointly",
        baseline_bits=8,
        note="against an 8-bit model; against float it would be 128",
    ),
    CitedMethod(
        key="b",
        name="PCQAT",
        data="cifar10",
        model="resnet18",
        accuracy=85.0,
        change=-3.0,
        bitops_cr=None,
        cr=11.82,
        order=None,
        fidelity="needs weight clustering",
        note="the cited work reports this model on histology images, not on CIFAR-10",
    ),
    CitedMethod(
        key="e",
        name="LQP",
        data="cifar10",
        model="resnet34",
        accuracy=92.43,
        change=-0.43,
        bitops_cr=30.52,
        cr=22.81,
        order=None,
        fidelity="low-rank, quantized and sparse parts are added up, not applied in sequence",
    ),
    CitedMethod(
        key="h",
        name="HMC",
        data="cifar100",
        model="resnet34",
        accuracy=67.88,
        change=-0.94,
        bitops_cr=None,
        cr=5.56,
        order=None,
        fidelity="needs low-rank decomposition",
    ),
    CitedMethod(
        key="k",
        name="Smart-DNN+",
        data="cifar10",
        model="vgg16",
        accuracy=92.60,
        change=0.0,
        bitops_cr=None,
        cr=7.07,
        order=None,
        fidelity="needs bucket coding of residuals",
    ),
    CitedMethod(
        key="n",
        name="Deep Compression",
        data="imagenet",
        model="vgg16",
        accuracy=68.83,
        change=-0.33,
        bitops_cr=None,
        cr=49.0,
        order=None,
        fidelity="needs weight sharing and Huffman coding",
    ),
)
TABLE_3_OWN: tuple[Compressed, ...] = (  # the rows "Ours. DPQE", with more digits than Table 2 has
    Compressed("resnet34", "imagenet", 76.07, 76.12, 0.05, 38.15, 8.42),
    Compressed("vgg19", "imagenet", 75.13, 74.50, -0.63, 40.64, 8.62),
    Compressed("mobilenetv2", "imagenet", 71.63, 70.85, -0.78, 25.24, 4.62),
    Compressed("resnet34 at 4w8a", "cifar100", 78.00, 77.30, -0.70, 68.07, 14.21),
    Compressed("resnet34 at 1w8a", "cifar100", 78.00, 73.50, -4.50, 306.88, 64.17),
    Compressed("vgg19", "cifar100", 73.47, 72.85, -0.62, 387.26, 104.45),
    Compressed("resnet34", "cifar10", 93.42, 93.33, -0.09, 858.70, 113.85),
    Compressed("vgg19", "cifar10", 93.40, 93.24, -0.16, 500.14, 105.14),
)
TABLE_3_NOTE = (
    "Cited numbers are those that the paper prints, on other models and data than the task at hand: they "
    "stand beside ours, not in competition with them."
)
