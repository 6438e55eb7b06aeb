"""What the source paper claims and prints (Shen et al. 2025, arXiv 2403.17447): its tables as plain data.

Reductions are "how many times smaller", accuracies are percent as printed. Where the text at hand is garbled
or the numbers cannot be meant as they stand, a note says so. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ordercomp.sequence import KnobValue, Order

LAW: Order = "DPQE"


BASELINE_BITS = 32  # the paper's own reductions are against the same model in float, 32 bits a value


# Figure 2: in each pair the first is applied first by the paper; with its words in short.
PAIRS: Mapping[tuple[str, str], str] = {
    ("D", "P"): "distill, then prune: consistently a better reduction at comparable accuracy",
    ("D", "Q"): "distill, then quantize: significantly better",
    ("D", "E"): "distill, then add exits: much better",
    ("P", "Q"): "prune, then quantize: significantly better",
    ("P", "E"): "prune, then add exits: significantly better",
    ("Q", "E"): "quantize, then add exits: better, above all at high accuracy",
}


# Section 3.1: how two stages alone compare; "better" or "alike" is said of the first against the second.
SINGLES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("D", "P"): ("better", "distillation reaches better reductions than pruning at the same accuracy"),
    ("Q", "D"): ("better", "quantization reaches better reductions than distillation"),
    ("D", "E"): ("alike", "distillation and early exit have close reductions; their curves cross"),
    ("Q", "P"): ("better", "quantization compresses better than pruning"),
    ("Q", "E"): ("better", "quantization performs better than early exit"),
}


# Section 4, figure 3: (first, inserted, second); the order of the outer two is said to stay as it was.
INSERTIONS: tuple[tuple[str, str, str], ...] = (("P", "Q", "E"), ("P", "E", "Q"), ("Q", "P", "E"))


TABLE_1_LOSSES = (0.2, 0.6, 1.0, 2.0)  # tolerated, percent


TABLE_1: Mapping[Order, tuple[float | None, ...]] = {
    "DPQE": (858.0, 1068.0, None, 1235.0),
    "DQPE": (555.0, 667.0, 923.0, 1238.0),
    "DPEQ": (221.0, 250.0, None, 664.0),
    "DQEP": (155.0, 181.0, 181.0, 223.0),
    "DEPQ": (217.0, 245.0, 245.0, 611.0),
    "DEQP": (178.0, 181.0, None, 231.0),
}


TABLE_1_NOTE = (
    "The table is garbled in the text at hand: at 1 % DPQE has 1068 or 1235, and DPEQ and DEQP show three "
    "numbers, of which the last holds at 2 % at least. At 2 % DQPE (1238) stands above DPQE (1235)."
)


@dataclass(frozen=True, slots=True)
class RepetitionClaim:
    """What section 6 and figure 5 say about one more application of a stage."""

    stage: str
    twice: str  # against once with more aggressive knobs
    after_law: str  # after the whole law


REPETITIONS: tuple[RepetitionClaim, ...] = (
    RepetitionClaim("D", "like once but harder", "does not decrease the performance"),
    RepetitionClaim("P", "worse than once but harder", "does not decrease the performance"),
    RepetitionClaim(
        "Q", "marginally better than once but harder", "a larger reduction, but an obvious loss of accuracy"
    ),
)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A row of Table 2: the law DPQE on one model and data set."""

    model: str
    data: str
    original: float  # accuracy, percent
    accuracy: float
    change: float  # as printed, points
    bitops_cr: float
    cr: float


TABLE_2: tuple[Compressed, ...] = (
    Compressed("vgg19", "cifar10", 93.40, 93.24, -0.16, 500, 105),
    Compressed("vgg19", "cifar100", 73.47, 72.85, -0.62, 387, 104),
    Compressed("vgg19", "svhn", 95.86, 94.78, -1.08, 927, 185),
    Compressed("vgg19", "cinic10", 84.25, 83.65, -0.60, 484, 105),
    Compressed("vgg19", "imagenet", 75.13, 74.50, -0.63, 41, 9),
    Compressed("resnet34", "cifar10", 93.42, 93.33, -0.09, 859, 114),
    Compressed("resnet34", "cifar100", 78.00, 77.30, -0.70, 68, 14),
    Compressed("resnet34", "svhn", 94.99, 95.35, 0.36, 1121, 114),
    Compressed("resnet34", "cinic10", 83.54, 83.24, -0.30, 564, 114),
    Compressed("resnet34", "imagenet", 76.07, 76.12, 0.05, 38, 8),
    Compressed("mobilenetv2", "cifar10", 92.56, 92.18, -0.38, 208, 35),
    Compressed("mobilenetv2", "cifar100", 74.88, 74.11, -0.78, 138, 23),
    Compressed("mobilenetv2", "svhn", 95.70, 94.94, -0.76, 193, 35),
    Compressed("mobilenetv2", "cinic10", 83.34, 83.63, 0.29, 194, 35),
    Compressed("mobilenetv2", "imagenet", 71.63, 70.85, -0.78, 25, 5),
)


TABLE_2_NOTE = (
    "The storage column of ResNet34 is garbled in the text at hand (read as 114, 14, 114, 114, 8). Bits are "
    "stated only for ResNet34 on CIFAR-100 (4w8a; 1w8a gives 307 and 64 at -4.5 points). The numbers fit the "
    "rule BitOps = MACs x weight bits x activation bits over the whole net. The 76.07 % of ResNet34 on "
    "ImageNet is what ResNet50 usually reaches."
)


# Table 3 of the source paper: the methods that it cites, as plain data, each with our nearest sequence.
#
# Accuracies are percent as printed, reductions "how many times smaller". Where the text at hand is garbled a
# note says so. No torch here.


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
