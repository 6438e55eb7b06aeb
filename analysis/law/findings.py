"""What a law is: verdicts, orders, checks and caveats as one frozen value, with its JSON form."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ordercomp.analysis.evidence.convergence import Control
from ordercomp.analysis.evidence.pairs import Evidence
from ordercomp.analysis.evidence.resampling import Estimate
from ordercomp.analysis.law.exhaustive import Exhaustive
from ordercomp.analysis.law.insertion import Insertion
from ordercomp.analysis.law.repetition import Repetition
from ordercomp.analysis.law.rivals import Rival
from ordercomp.orders import Order

__all__ = ["Law"]

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What the records support, and no more."""

    task: str
    stages: Order
    law: Order | None  # set only if exactly one order satisfies the precedence
    orders: tuple[Order, ...]  # all that satisfy it; none on a cycle
    cycle: tuple[str, ...] | None
    pairs: tuple[Evidence, ...]
    kemeny: Order  # the best guess, whether or not it is decided
    feedback_arcs: tuple[Pair, ...]  # cheapest edges to drop on a cycle
    free_pairs: tuple[Pair, ...]
    acyclic_by_chance: float
    intransitive: tuple[tuple[str, str, str, float], ...]
    laws: Mapping[Order | None, float]  # probability of each order; None: a cycle
    convergence: tuple[Control, ...]
    verification: Exhaustive | None
    insertion: tuple[Insertion, ...]
    repetition: tuple[Repetition, ...]
    rivals: tuple[Rival, ...]
    trained: int
    reused: int
    unshared: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def unique(self) -> bool:
        """Whether exactly one order satisfies the precedence."""
        return self.law is not None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was checked and what came out, one sentence each, for people."""
        decided = sum(pair.verdict in ("before", "after") for pair in self.pairs)
        said = [
            f"{decided} of {len(self.pairs)} pairs are decided; directions drawn by lot would be free of "
            f"cycles with probability {self.acyclic_by_chance:.3f}."
        ]
        if (torn := self.laws.get(None, 0.0)) > 0:
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

    def to_json(self) -> dict[str, Any]:
        """The content of law.json: the contract's keys first, more detail after them."""
        return {
            "task": self.task,
            "stages": self.stages,
            "law": self.law,
            "orders": list(self.orders),
            "unique": self.unique,
            "cycle": None if self.cycle is None else list(self.cycle),
            "pairs": [_pair_json(pair) for pair in self.pairs],
            "verification": None if self.verification is None else _verification_json(self.verification),
            "trainings": {"done": self.trained, "reused": self.reused, "unshared": self.unshared},
            "seconds": self.seconds,
            "kemeny": self.kemeny,
            "feedback_arcs": [list(arc) for arc in self.feedback_arcs],
            "free_pairs": [list(pair) for pair in self.free_pairs],
            "acyclic_by_chance": self.acyclic_by_chance,
            "intransitive": [
                {"stages": [a, b, c], "strength": strength} for a, b, c, strength in self.intransitive
            ],
            "laws": [{"order": order, "probability": share} for order, share in self.laws.items()],
            "convergence": [_control_json(control) for control in self.convergence],
            "insertion": [_insertion_json(check) for check in self.insertion],
            "repetition": [_repetition_json(check) for check in self.repetition],
            "rivals": [{**asdict(rival), "interval": list(rival.interval)} for rival in self.rivals],
            "sentences": list(self.sentences),
            "notes": list(self.notes),
        }


def _about_convergence(found: Sequence[Control]) -> str:
    short = [control.sequence for control in found if control.status == "under-trained"]
    named = f": {'; '.join(short[:4])}" if short else ""
    more = " and others" if len(short) > 4 else ""
    return f"{len(short)} of {len(found)} prefixes with a control are under-trained{named}{more}."


def _pair_json(pair: Evidence) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "verdict": pair.verdict,
        "probability": pair.effect.probability,
        "effect": pair.effect.mean,
        "interval": [pair.effect.low, pair.effect.high],
        "contexts": pair.contexts,
        "seeds": pair.seeds,
        "under_trained": pair.under_trained,
        "p_value": pair.effect.p_value,
        "adjusted_p": pair.adjusted_p,
        "sign_flip_p": pair.sign_flip_p,
        "log2_reduction_at_equal_accuracy": pair.reduction,
        "accuracy_at_equal_reduction": pair.accuracy,
        "contexts_left_out": pair.left_out,
        "groups": [
            {"name": group.name, "contexts": group.cells, **_effect_json(group.effect)}
            for group in pair.groups
        ],
    }


def _effect_json(effect: Estimate) -> dict[str, Any]:
    return {
        "effect": effect.mean,
        "interval": [effect.low, effect.high],
        "probability": effect.probability,
    }


def _insertion_json(check: Insertion) -> dict[str, Any]:
    return {
        "first": check.first,
        "second": check.second,
        "stage": check.stage,
        "outcome": check.outcome,
        "sentence": check.sentence,
        "places": [
            {
                "where": place.where,
                "contexts": place.contexts,
                "seeds": list(place.seeds),
                "outcome": place.outcome,
                **_effect_json(place.effect),
            }
            for place in check.places
        ],
    }


def _repetition_json(check: Repetition) -> dict[str, Any]:
    return {
        "stage": check.stage,
        "twice": check.twice,
        "once": check.once,
        "outcome": check.outcome,
        "seeds": check.seeds,
        "sentence": check.sentence,
        **_effect_json(check.effect),
    }


def _control_json(control: Control) -> dict[str, Any]:
    return {**asdict(control), "interval": list(control.interval)}


def _verification_json(found: Exhaustive) -> dict[str, Any]:
    return {
        "best": found.best,
        "rank": found.rank,
        "of": found.of,
        "regret": found.regret,
        "probability_best": found.probability_best if math.isfinite(found.probability_best) else None,
        "kendall_tau": found.kendall_tau,
        "order": found.order,
        "orders": list(found.orders),
        "outcome": found.outcome,
        "method": found.method,
        "seeds": found.seeds,
        "sentence": found.sentence,
        "ranking": [asdict(ranked) for ranked in found.ranking],
    }
