"""Two ways to write an order as Optuna parameters: one categorical, or a Lehmer code.

The categorical names every order, so a dashboard shows `order = DPQE`; it suits few orders. The Lehmer code
picks one remaining stage after the other: n - 1 small integers instead of n! choices (Lehmer, 1960).
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import BaseTrial

from ordercomp.sequence import Order, subsets

_NONE = "none"
_FLAG = CategoricalDistribution((False, True))


class Parameter(NamedTuple):
    """One Optuna parameter with the value that it takes in some sequence."""

    distribution: BaseDistribution
    value: Any


Suggest = Callable[[str, BaseDistribution], Any]  # gives the value of a parameter, by its name


def suggest_by(trial: BaseTrial) -> Suggest:
    """Let the public methods of a trial give the values of parameters."""

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        numbers: Any = distribution
        method: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
        return method(name, numbers.low, numbers.high, step=numbers.step, log=numbers.log)

    return suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRules:
    """Which orders are allowed: all stages or any non-empty subset, each once, or some of them again."""

    stages: Order  # distinct letters
    optional: bool = False  # True: stages may be missing
    repeatable: str = ""  # letters that may come more than once
    repeats: int = 0  # extra steps in an order at most
    final: str = ""  # letters that nothing may follow

    def letters(self) -> Iterator[Order]:
        """Yield the multisets of letters that an order can hold, each as a string in the order of stages."""
        for subset in subsets(self.stages) if self.optional else [self.stages]:
            again = [letter for letter in subset if letter in self.repeatable]
            for extra in range(self.repeats + 1):
                for more in itertools.combinations_with_replacement(again, extra):
                    if sum(letter in self.final for letter in (*subset, *more)) > 1:
                        continue
                    yield "".join(letter * (1 + more.count(letter)) for letter in subset)

    def count(self) -> int:
        """Count the orders without listing them."""
        free = ["".join(x for x in letters if x not in self.final) for letters in self.letters()]
        return sum(
            math.factorial(len(letters)) // math.prod(map(math.factorial, Counter(letters).values()))
            for letters in free
        )

    def orders(self) -> list[Order]:
        """List the orders, few stages first, then in the order of the letters given."""
        every = itertools.chain.from_iterable(map(itertools.permutations, self.letters()))
        return [order for order in dict.fromkeys(map("".join, every)) if self.ends_well(order)]

    def ends_well(self, order: Order) -> bool:
        """Whether nothing follows a final stage."""
        return not set(order[:-1]) & set(self.final)

    def allows(self, order: Order) -> bool:
        """Whether `order` is one of `orders()`, without listing them."""
        times = Counter(order)
        again = {letter: count - 1 for letter, count in times.items() if count > 1}
        return (
            bool(order)
            and set(order) <= set(self.stages)
            and (self.optional or set(order) == set(self.stages))
            and set(again) <= set(self.repeatable)
            and sum(again.values()) <= self.repeats
            and self.ends_well(order)
        )


@dataclass(frozen=True, slots=True)
class ExplicitOrders:
    """One categorical parameter `order` over all allowed orders."""

    choices: tuple[Order, ...]

    def draw(self, suggest: Suggest) -> Order:
        """Give the order that is chosen."""
        return str(suggest("order", CategoricalDistribution(self.choices)))

    def parameters(self, order: Order) -> dict[str, Parameter]:
        """Give the one parameter that makes `draw` return `order`, which must be among the choices."""
        return {"order": Parameter(CategoricalDistribution(self.choices), order)}

    def every(self) -> dict[str, Parameter]:
        """Give the one parameter, at the first order."""
        return self.parameters(self.choices[0])


@dataclass(frozen=True, slots=True)
class LehmerOrders:
    """Which stages (`with.D`), which again (`again.1`), and which of the k left comes next (`pick.k`).

    A digit's name carries its range, so that subsets of different size share parameters. Copies of a
    stage are alike, so some codes mean the same order; `parameters` always gives the one that takes the
    first copy first.
    """

    rules: OrderRules

    def draw(self, suggest: Suggest) -> Order:
        """Give the order of the flags, repeats and digits that are asked for on the way."""
        subset = self._draw_subset(suggest)
        again = self._draw_repeats(suggest)
        left = [letter for letter in subset for _ in range(1 + again.count(letter))]
        order = []
        while len(left) > 1:
            order.append(left.pop(suggest(f"pick.{len(left)}", IntDistribution(0, len(left) - 1))))
        return "".join(sorted(order + left, key=lambda letter: letter in self.rules.final))

    def parameters(self, order: Order) -> dict[str, Parameter]:
        """Give the canonical code of `order`: what `draw` asks for, answered so that it comes out."""
        again = [letter for letter in self.rules.stages for _ in range(order.count(letter) - 1)]
        parameters: dict[str, Parameter] = {}

        def steer(name: str, distribution: BaseDistribution) -> Any:
            kind, _, which = name.partition(".")
            value: Any
            if kind == "with":
                value = which in order
            elif kind == "again":
                value = [*again, _NONE][int(which) - 1]
            else:
                tail = order[-int(which) :]
                value = sorted(tail, key=self.rules.stages.index).index(tail[0])
            parameters[name] = Parameter(distribution, value)
            return value

        self.draw(steer)
        return parameters

    def every(self) -> dict[str, Parameter]:
        """Give all flags, repeats and digits: stages there, none again, first letter first."""
        rules = self.rules
        flags = {f"with.{letter}": Parameter(_FLAG, True) for letter in rules.stages if rules.optional}
        none = Parameter(self._repeat_choices(), _NONE)
        again = {f"again.{place}": none for place in range(1, rules.repeats + 1)}
        most = len(rules.stages) + rules.repeats
        picks = {f"pick.{left}": Parameter(IntDistribution(0, left - 1), 0) for left in range(most, 1, -1)}
        return {**flags, **again, **picks}

    def _draw_subset(self, suggest: Suggest) -> Order:
        if not self.rules.optional:
            return self.rules.stages
        others, last = self.rules.stages[:-1], self.rules.stages[-1]
        subset = [letter for letter in others if suggest(f"with.{letter}", _FLAG)]
        if not subset or suggest(f"with.{last}", _FLAG):
            subset.append(last)  # at least one stage: the last is there if no other is
        return "".join(subset)

    def _draw_repeats(self, suggest: Suggest) -> list[str]:
        again: list[str] = []
        for place in range(1, self.rules.repeats + 1):
            letter = suggest(f"again.{place}", self._repeat_choices())
            if letter == _NONE:
                break
            again.append(letter)
        return again

    def _repeat_choices(self) -> CategoricalDistribution:
        return CategoricalDistribution((_NONE, *self.rules.repeatable))


OrderCode = ExplicitOrders | LehmerOrders
