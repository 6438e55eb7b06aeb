"""The contents of a law.json (a law, what else speaks on it, the answer, the networks) and a search.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.law import Law
from ordercomp.analysis.networks import Pick
from ordercomp.codec import FLAT, OMITTED, Number, Plain, decode
from ordercomp.objectives import Objectives
from ordercomp.sequence import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFile:
    """A law, by a design or by a sampler's networks; what the latter say beside a design; and the answer."""

    law: Law = field(metadata=FLAT)
    adaptive: Law | None = None
    metric: str = field(default="accuracy", metadata=OMITTED)  # what is lost
    answer: Answer | None = field(default=None, metadata=OMITTED)
    networks: tuple[Pick, ...] | None = field(default=None, metadata=OMITTED)

    def __post_init__(self) -> None:
        stages = {stage for pair in self.law.pairs for stage in (pair.first, pair.second)}
        stages.update(*self.law.orders)
        for at in () if self.answer is None else (self.answer.asked, *self.answer.by_loss):
            stages.update(*at.best_set, *at.standings, *at.precedence)
        if unknown := stages - {*self.law.stages}:
            raise ValueError(f"a law of stages {self.law.stages!r} cannot tell of stage {min(unknown)!r}")


def read_law(data: Plain, what: str = "law.json") -> LawFile:
    """Read the content of a law.json, be it with the keys of the contract alone or with more.

    Keys that nobody here knows are left out. Raises ValueError naming a key that is missing or holds
    something else than expected.
    """
    return decode(data, LawFile, what, strict=False)


# A search.json: what was asked, the front, the best networks, and how they were found.

Cost = Literal["log2_bitops_cr", "log2_cr", "log2_latency_cr", "latency_ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderScore:
    """How one order fared in a search. Samplers try good orders more often, so values are not evidence."""

    order: Order
    networks: int  # measured with this order
    value: float  # of the front of these networks, in doublings, on validation data
    on_front: int  # operating points on the front of the whole search


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a search stood after so many networks. What failed is not counted."""

    networks: int
    trainings: int  # of stages, those of prefixes outside the space included
    seconds: float  # that these took
    value: float  # of the front, in doublings, on validation data


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPlace:
    """The order of the law that the same study supports, and how it fared among the orders tried."""

    order: Order
    role: str  # "law" or "best guess"
    evidence: str  # "paired" or "adaptive"
    rank: int | None  # among the tried orders of the same stages, 1 for the best; None if not tried
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPoint:
    """An operating point of a network that a search found."""

    sequence: str
    seed: int
    threshold: Number | None
    accuracy: Number  # on validation data
    test_accuracy: Number
    metric: str = field(default="accuracy", metadata=OMITTED)
    loss: Number  # on validation data
    bitops_cr: Number
    cr: Number
    latency_ms: Number | None  # None: not measured
    latency_cr: Number | None = field(default=None, metadata=OMITTED)
    checkpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestPoint:
    """The best network within a tolerated loss."""

    point: SearchPoint = field(metadata=FLAT)
    compress: str  # the command that makes it


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCount:
    """How many trials are in which state."""

    complete: int
    pruned: int
    fail: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFile:
    """What a search leaves behind."""

    task: str
    study: str
    dashboard: str | None = None  # the command that opens the study in a browser
    objectives: Objectives
    cost: Cost  # by which `best` goes
    loss: Number = 0.02  # that the task tolerates
    trials: TrialCount
    networks: int
    value: float  # of the front, in doublings
    front: tuple[SearchPoint, ...]  # by falling cost
    best: Mapping[str, BestPoint | None]  # by tolerated loss, as text
    orders: tuple[OrderScore, ...]  # best first
    winner: Order | None  # the best order among those with most stages
    law: LawPlace | None
    progress: tuple[Progress, ...]
    importances: Mapping[str, Mapping[str, float]]  # by objective and parameter
