"""Claims about the best order, read off an answer.

A claim is a set of orders. At a tolerated loss it *holds* where every order that may be the best is in it,
it *fails* where none is, and it is *open* between. Beside that stand how probable it is that the best order
is in it, and what the best order in it is expected to cost beyond the recommended one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ordercomp.analysis.answer import AnswerAt
from ordercomp.sequence import Order

LEFT_OUT = "-"  # where nothing can be told
LEAST_REGRET = 0.02  # doublings that an order taken at random costs, where there is something to tell


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about the best order, and which orders agree with it."""

    text: str
    who: str
    agrees: Callable[[Order], bool]


def before(*letters: str) -> Callable[[Order], bool]:
    """Whether an order has these stages in this order."""

    def agrees(order: Order) -> bool:
        places = [order.index(letter) for letter in letters]
        return places == sorted(places)

    return agrees


def is_order(only: Order | None) -> Callable[[Order], bool]:
    """Whether an order is that one; None is no order's."""
    return lambda order: order == only


CLAIMS: tuple[Claim, ...] = (
    Claim("D → P → Q → E is the best order", "the source paper's law", is_order("DPQE")),
    Claim("D before P", "the source paper", before("D", "P")),
    Claim("D before Q", "the source paper", before("D", "Q")),
    Claim("P before Q", "the source paper; most pipelines", before("P", "Q")),
    Claim("E last", "the source paper: static before dynamic", lambda order: order[-1] == "E"),
    Claim("P → Q → D", "a rival: distillation as recovery", before("P", "Q", "D")),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a claim stands at one loss."""

    verdict: str  # "holds", "fails", "open", or "-" where nothing can be told
    probability: float = 0.0  # that the best order agrees with the claim
    cost: float = 0.0  # expected doublings of the best order in it beyond the recommended one

    def __str__(self) -> str:
        if self.verdict == LEFT_OUT:
            return LEFT_OUT
        cost = "" if self.cost < 0.005 else f", costs {self.cost:.2f}"
        return f"{self.verdict} ({self.probability:.2f}{cost})"


def is_told(answer: AnswerAt) -> bool:
    """Whether an answer tells orders apart: not where no network loses so little, and all values are 0."""
    regret = answer.regret
    return answer.recommended is not None and regret is not None and regret.random_order >= LEAST_REGRET


def read_claim(claim: Claim, answer: AnswerAt) -> Reading:
    """Read a claim off the answer at one loss."""
    if not is_told(answer):
        return Reading(LEFT_OUT)
    agreeing = [order for order in answer.standings if claim.agrees(order)]
    if not agreeing:
        return Reading(LEFT_OUT)
    inside = [order for order in answer.best_set if claim.agrees(order)]
    verdict = "open" if 0 < len(inside) < len(answer.best_set) else "holds" if inside else "fails"
    probability = sum(answer.standings[order].probability_best for order in agreeing)
    regret = answer.regret.expected if answer.regret else 0.0
    cost = min(answer.standings[order].behind for order in agreeing)
    return Reading(verdict, probability, max(0.0, cost - regret))
