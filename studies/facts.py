"""What the source paper claims and prints (Shen et al. 2025, arXiv 2403.17447): its tables as plain data.

Reductions are "how many times smaller", accuracies are percent as printed. Where the text at hand is garbled
or the numbers cannot be meant as they stand, a note says so. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ordercomp.sequence import Order

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
