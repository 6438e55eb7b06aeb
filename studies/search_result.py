"""What a search found: the study, the front, the best network per tolerance, and how it came about."""

import html
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ordercomp.analysis.fronts import (
    TOLERANCES,
    Candidate,
    Convention,
    Scale,
    best_reductions,
    front,
    front_value,
)
from ordercomp.orders import Order
from ordercomp.records import Record
from ordercomp.search.importance import Study, count_states, parameter_importances

__all__ = ["OrderScore", "SearchResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderScore:
    """How one order fared in a search. Samplers try good orders more often, so values are not evidence."""

    order: Order
    networks: int  # measured with this order
    value: float  # of the front of these networks, in doublings, on validation data
    on_front: int  # operating points on the front of the whole search


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The outcome of a search. Networks are selected on validation data; test accuracy is only reported."""

    study: Study  # plain Optuna
    records: tuple[Record, ...]  # distinct, in the order of the trials
    task: str
    convention: Convention = "paper"

    @property
    def scale(self) -> Scale:
        """How fronts are valued: validation data, the objectives' convention of cost."""
        return Scale(split="validation", convention=self.convention)

    @property
    def front(self) -> list[Candidate]:
        """The operating points that no other beats, by rising reduction."""
        return front(self.records, scale=self.scale)

    def best(self, tolerance: float) -> Candidate | None:
        """The largest reduction with a validation loss of at most `tolerance`, a fraction; or None.

        Raises ValueError if the tolerance does not lie in [0, 1).
        """
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must lie in [0, 1), a fraction of accuracy, got {tolerance}")
        return best_reductions(self.records, tolerances=[tolerance], scale=self.scale)[tolerance]

    @property
    def best_by_tolerance(self) -> dict[float, Candidate | None]:
        """The best at the four tolerances of the source paper's Table 1."""
        return best_reductions(self.records, tolerances=TOLERANCES, scale=self.scale)

    @property
    def progress(self) -> list[tuple[int, float]]:
        """Number of distinct networks and value of their front, after each network."""
        steps: list[tuple[int, float]] = []
        kept: list[Record] = []
        for count, record in enumerate(self.records, start=1):
            kept = [
                *{id(one.record): one.record for one in front([*kept, record], scale=self.scale)}.values()
            ]
            steps.append((count, front_value(kept, scale=self.scale)))
        return steps

    @property
    def orders(self) -> list[OrderScore]:
        """The orders that were tried, best first."""
        tried: dict[Order, list[Record]] = {}
        for record in self.records:
            tried.setdefault(record.order, []).append(record)
        winners = Counter(one.record.order for one in self.front)
        scores = [
            OrderScore(
                order=order,
                networks=len(records),
                value=front_value(records, scale=self.scale),
                on_front=winners[order],
            )
            for order, records in tried.items()
        ]
        return sorted(scores, key=lambda score: (-score.value, score.order))

    def rank_of(self, order: Order) -> int | None:
        """Place of `order` among the tried orders of the same stages, 1 for the best; None if not tried."""
        rivals = [score.order for score in self.orders if sorted(score.order) == sorted(order)]
        return rivals.index(order) + 1 if order in rivals else None

    @property
    def winner(self) -> Order | None:
        """The best order among those that use most stages; None before the first network."""
        longest = max((len(score.order) for score in self.orders), default=0)
        return next((score.order for score in self.orders if len(score.order) == longest), None)

    def importances(self, objective: int = 0) -> dict[str, float]:
        """Share of the objective's variance that each parameter explains; empty with too few trials."""
        return parameter_importances(self.study, objective)

    def compress_line(self, tolerance: float) -> str | None:
        """The command that makes the best network of `tolerance` again; None if there is none."""
        best = self.best(tolerance)
        if best is None:
            return None
        sequence, seed = shlex.quote(best.record.sequence), best.record.seed
        return f"ordercomp compress {sequence} --task {self.task} --seed {seed} --out best.safetensors"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the front, the best networks, the orders, the progress and the importances."""
        states = count_states(self.study)
        winner = self.winner
        return {
            "task": self.task,
            "study": self.study.study_name,
            "trials": {state: states[state] for state in ("complete", "pruned", "fail", "waiting")},
            "networks": len(self.records),
            "value": front_value(self.records, scale=self.scale),
            "front": [_point(one) for one in self.front],
            "best": {
                f"{tolerance:g}": None
                if one is None
                else {**_point(one), "compress": self.compress_line(tolerance)}
                for tolerance, one in self.best_by_tolerance.items()
            },
            "orders": [
                {"order": one.order, "networks": one.networks, "value": one.value, "on_front": one.on_front}
                for one in self.orders
            ],
            "winner": winner,
            "progress": [[count, value] for count, value in self.progress],
            "importances": {
                name: self.importances(place)
                for place, name in enumerate(self.study.metric_names or range(len(self.study.directions)))
            },
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.record.sequence)}</td><td>{one.accuracy:.4f}</td>"
            f"<td>{one.bitops_cr:.1f}</td></tr>"
            for one in self.front
        )
        head = "<tr><th>sequence</th><th>accuracy</th><th>BitOps reduction</th></tr>"
        return f"<table>{head}{rows}</table>"


def _point(one: Candidate) -> dict[str, Any]:
    return {
        "sequence": one.record.sequence,
        "seed": one.record.seed,
        "threshold": one.point.threshold,
        "accuracy": one.accuracy,
        "test_accuracy": one.point.test_accuracy,
        "loss": one.loss,
        "bitops_cr": one.bitops_cr,
        "cr": one.cr,
        "checkpoint": one.record.extra.get("checkpoint"),
    }
