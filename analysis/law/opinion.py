"""What some of the seeds say: verdicts on the pairs, the orders that respect them, the likeliest order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ordercomp.analysis.evidence.convergence import Guard
from ordercomp.analysis.pairs import Evidence
from ordercomp.analysis.precedence import Precedence, kemeny_order, linear_extensions, precedence_graph
from ordercomp.sequence import Order

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Opinion:
    """The verdicts that these seeds lead to, and no other seed had a part in."""

    stages: Order
    seeds: tuple[int, ...]
    guard: Guard
    evidence: tuple[Evidence, ...]

    @property
    def graph(self) -> Precedence:
        """The decided pairs, with the probability of each direction."""
        edges = {}
        for pair in self.evidence:
            if pair.verdict == "before":
                edges[pair.first, pair.second] = pair.effect.probability
            elif pair.verdict == "after":
                edges[pair.second, pair.first] = 1 - pair.effect.probability
        return precedence_graph(self.stages, edges)

    @property
    def support(self) -> Mapping[Pair, float]:
        """Probability of each pair's order; where the error is unknown, the effect's sign tips it."""
        return {
            (pair.first, pair.second): pair.effect.probability
            if math.isfinite(pair.effect.error)
            else 0.5 + 0.01 * math.tanh(pair.effect.mean)
            for pair in self.evidence
        }

    @property
    def orders(self) -> list[Order]:
        """The orders that respect every decided pair."""
        return linear_extensions(self.graph, self.stages)

    @property
    def kemeny(self) -> Order:
        """The order with the least contradiction."""
        return kemeny_order(self.stages, self.support)

    @property
    def guess(self) -> Order:
        """The likeliest order, decided or not."""
        orders = self.orders
        return orders[0] if len(orders) == 1 else self.kemeny

    def direction(self, pair: Pair) -> int:
        """1 if the first stage of the pair comes first by its verdict, -1 if the second, 0 if undecided."""
        signs = {"before": 1, "after": -1}
        found = next(one for one in self.evidence if (one.first, one.second) == pair)
        return signs.get(found.verdict, 0)
