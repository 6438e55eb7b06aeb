"""What a law is: verdicts, orders, checks and caveats as one frozen value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ordercomp.analysis.checks import Exhaustive
from ordercomp.analysis.corpus import TrainingCount
from ordercomp.analysis.evidence.convergence import Control
from ordercomp.analysis.law.insertion import Insertion
from ordercomp.analysis.law.repetition import Repetition
from ordercomp.analysis.law.rivals import Rival
from ordercomp.analysis.pairs import Evidence
from ordercomp.sequence import Order

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """Three stages whose pairs contradict each other."""

    stages: tuple[str, str, str]
    strength: float  # the least probability among their pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChance:
    """How probable an order is."""

    order: Order | None  # None: a cycle
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What the records support, and no more.

    A file may hold less: what has a default here is beyond the contract.
    """

    KEYS: ClassVar = (
        *("task", "stages", "law", "orders", "unique", "cycle", "pairs", "verification", "trainings"),
        *("seconds", "kemeny", "feedback_arcs", "free_pairs", "acyclic_by_chance", "intransitive", "laws"),
        *("convergence", "insertion", "repetition", "rivals", "sentences", "notes"),
    )

    task: str
    stages: Order
    law: Order | None  # set only if exactly one order satisfies the precedence
    orders: tuple[Order, ...]  # all that satisfy it; none on a cycle
    cycle: tuple[str, ...] | None
    pairs: tuple[Evidence, ...]
    verification: Exhaustive | None = None
    trainings: TrainingCount
    seconds: float
    kemeny: Order = ""  # the best guess, whether or not it is decided
    feedback_arcs: tuple[Pair, ...] = ()  # cheapest edges to drop on a cycle
    free_pairs: tuple[Pair, ...] = ()
    acyclic_by_chance: float = 1.0
    intransitive: tuple[Triple, ...] = ()
    laws: tuple[OrderChance, ...] = ()  # most probable first
    convergence: tuple[Control, ...] = ()
    insertion: tuple[Insertion, ...] = ()
    repetition: tuple[Repetition, ...] = ()
    rivals: tuple[Rival, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def unique(self) -> bool:
        """Whether exactly one order satisfies the precedence."""
        return self.law is not None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was checked and what came out, one sentence each, for people."""
        decided = sum(pair.decided for pair in self.pairs)
        said = [
            f"{decided} of {len(self.pairs)} pairs are decided; directions drawn by lot would be free of "
            f"cycles with probability {self.acyclic_by_chance:.3f}."
        ]
        if (torn := sum(one.probability for one in self.laws if one.order is None)) > 0:
            said.append(f"In {100 * torn:.0f} % of the resamples the pairs contradict each other.")
        if self.free_pairs:
            named = ", ".join("-".join(pair) for pair in self.free_pairs)
            said.append(f"No decided pair orders these: {named}.")
        if self.convergence:
            said.append(_about_convergence(self.convergence))
        if self.verification is not None:
            said.append(self.verification.sentence)
        if self.insertion:
            outcomes = [check.outcome for check in self.insertion]
            holds, fails = outcomes.count("holds"), outcomes.count("fails")
            undecided = len(outcomes) - holds - fails
            said.append(
                f"Of {len(outcomes)} insertions {holds} hold, {fails} fail, {undecided} are undecided."
            )
            said += [check.sentence for check in self.insertion if check.outcome == "fails"]
        return (*said, *(check.sentence for check in self.repetition), *self.notes)


def _about_convergence(found: Sequence[Control]) -> str:
    short = [control.sequence for control in found if control.status == "under-trained"]
    named = f": {'; '.join(short[:4])}" if short else ""
    more = " and others" if len(short) > 4 else ""
    return f"{len(short)} of {len(found)} prefixes with a control are under-trained{named}{more}."
