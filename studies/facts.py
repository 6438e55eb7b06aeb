"""What the source paper claims and prints (Shen et al. 2025, arXiv 2403.17447), read from facts.toml.

Reductions are "how many times smaller", accuracies are percent as printed, changes are points. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

from ordercomp.codec import decode, parse_toml
from ordercomp.sequence import KnobValue, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleClaim:
    """How two stages alone compare, said of the first against the second."""

    relation: Literal["better", "alike"]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionClaim:
    """What section 6 says about one more application of a stage."""

    twice: str  # against once with more aggressive knobs
    after_law: str  # after the whole law


@dataclass(frozen=True, slots=True, kw_only=True)
class Table1:
    """Reductions by order, one for each tolerated loss."""

    losses: tuple[float, ...]  # percent
    rows: Mapping[Order, tuple[float | Literal["?"], ...]]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure4:
    """What the law reaches: what, its accuracy, its reduction."""

    rows: tuple[tuple[str, str, str], ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LawResult:
    """The law on one model and data set."""

    model: str
    data: str
    original: float  # accuracy, percent
    accuracy: float
    change: float  # as printed, points
    bitops_cr: float
    cr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table2:
    """The law on every model and data set of the paper."""

    rows: tuple[LawResult, ...]
    note: str


Setting = Mapping[str, Mapping[str, KnobValue]]  # knobs by stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """How rows of Table 2 are run: students, ratios and bits that the paper's numbers imply."""

    model: str
    large_model: str  # on ImageNet
    knobs: Setting
    exceptions: Mapping[str, Setting]  # by data


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedMethod:
    """A row of Table 3, and which of our sequences comes nearest to the method."""

    key: str  # the paper's letter
    name: str
    data: str
    model: str
    accuracy: float  # percent, with its change in points
    change: float
    bitops_cr: float | None = None
    cr: float | None = None
    order: Order
    kind: Literal["the method", "a near form", "a proxy"]  # what the order is of it
    lost: str  # by that
    baseline_bits: int = 32  # what the reduction is measured against, as far as known
    note: str = ""
    knobs: Setting = field(default_factory=dict)  # that the method is known for
    grid: Mapping[str, Mapping[str, tuple[KnobValue, ...]]] = field(default_factory=dict)  # for its search


@dataclass(frozen=True, slots=True, kw_only=True)
class Table3:
    """Other combined methods, and the paper's own rows beside them."""

    methods: tuple[CitedMethod, ...]
    own: tuple[LawResult, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """The paper's claims and tables. Pairs of stages are orders of two letters."""

    law: Order
    baseline_bits: int  # of the paper's own baselines
    pairs: Mapping[Order, str]  # figure 2: the better order, with the paper's words in short
    singles: Mapping[Order, SingleClaim]  # section 3.1
    insertions: tuple[Order, ...]  # figure 3: the order of the outer two is said to stay as it was
    stages: tuple[str, ...]  # figure 6: on the stages of the law
    repetitions: Mapping[str, RepetitionClaim]  # figure 5
    table_1: Table1
    figure_4: Figure4
    table_2: Table2
    table_3: Table3
    zoo: Mapping[str, ZooModel]  # by the model of Table 2


def _read() -> Paper:
    path = resources.files("ordercomp.studies") / "facts.toml"
    return decode(parse_toml(path.read_text(encoding="utf-8")), Paper, "facts.toml")


PAPER = _read()
LAW = PAPER.law
