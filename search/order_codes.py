"""Two ways to write an order as Optuna parameters: one categorical, or a Lehmer code.

The categorical names every order, so a dashboard shows `order = DPQE`; it suits few orders. The Lehmer code
picks one remaining stage after the other: n - 1 small integers instead of n! choices (Lehmer, 1960).
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ordercomp.sequence import Order, subsets

_NONE = "none"


class Parameter(NamedTuple):
    """One Optuna parameter with the value that it takes in some sequence."""

    distribution: BaseDistribution
    value: Any


class Suggester(Protocol):
    """The part of `optuna.trial.Trial` that a space needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


def draw(trial: Suggester, name: str, distribution: BaseDistribution) -> Any:
    """Suggest one parameter by the trial's public methods."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    raise TypeError(f"distribution of {name} must be categorical, int or float, got {distribution!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRules:
    """Which orders are allowed: all stages or any non-empty subset, each once, or some of them again."""

    stages: Order  # distinct letters
    optional: bool = False  # True: stages may be missing
    repeatable: str = ""  # letters that may come more than once
    repeats: int = 0  # extra steps in an order at most

    def letters(self) -> Iterator[Order]:
        """Yield the multisets of letters that an order can hold, each as a string in the order of stages."""
        for chosen in subsets(self.stages) if self.optional else [self.stages]:
            again = [letter for letter in chosen if letter in self.repeatable]
            for extra in range(self.repeats + 1):
                for more in itertools.combinations_with_replacement(again, extra):
                    yield "".join(letter * (1 + more.count(letter)) for letter in chosen)

    def count(self) -> int:
        """Count the orders without listing them."""
        return sum(_arrangements(letters) for letters in self.letters())

    def orders(self) -> list[Order]:
        """List the orders, few stages first, then in the order of the letters given."""
        found: dict[Order, None] = {}
        for letters in self.letters():
            found.update(dict.fromkeys(map("".join, itertools.permutations(letters))))
        return list(found)

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
        )


class OrderCode(Protocol):
    """Orders to and from Optuna parameters."""

    def draw(self, trial: Suggester) -> Order:
        """Suggest an order."""

    def parameters(self, order: Order) -> dict[str, Parameter]:
        """Give the parameters that make `draw` return `order`, which the rules must allow."""

    def every(self) -> dict[str, Parameter]:
        """Give all parameters that any order has, each with some value."""


@dataclass(frozen=True, slots=True)
class ExplicitOrders:
    """One categorical parameter `order` over all allowed orders."""

    choices: tuple[Order, ...]

    def draw(self, trial: Suggester) -> Order:
        """Suggest an order."""
        return str(trial.suggest_categorical("order", self.choices))

    def parameters(self, order: Order) -> dict[str, Parameter]:
        """Give the one parameter of `order`."""
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

    def draw(self, trial: Suggester) -> Order:
        """Suggest an order."""
        chosen = self._draw_subset(trial)
        more = self._draw_repeats(trial)
        left = [letter for letter in chosen for _ in range(1 + more.count(letter))]
        order = []
        while len(left) > 1:
            order.append(left.pop(draw(trial, f"pick.{len(left)}", IntDistribution(0, len(left) - 1))))
        return "".join(order + left)

    def parameters(self, order: Order) -> dict[str, Parameter]:
        """Give the canonical code of `order`."""
        found: dict[str, Parameter] = {}
        for name, there in self._subset_flags(order):
            found[name] = Parameter(CategoricalDistribution((False, True)), there)
        more = [letter for letter in self.rules.stages for _ in range(order.count(letter) - 1)]
        for place, letter in enumerate([*more, _NONE][: self.rules.repeats], start=1):
            found[f"again.{place}"] = Parameter(self._repeat_choices(), letter)
        left = [letter for letter in self.rules.stages for _ in range(order.count(letter))]
        for letter in order[:-1]:
            digit = left.index(letter)
            found[f"pick.{len(left)}"] = Parameter(IntDistribution(0, len(left) - 1), digit)
            left.pop(digit)
        return found

    def every(self) -> dict[str, Parameter]:
        """Give all flags, repeats and digits: stages there, none again, first letter first."""
        rules = self.rules
        flags = Parameter(CategoricalDistribution((False, True)), True)
        found = {f"with.{letter}": flags for letter in rules.stages if rules.optional}
        for place in range(1, rules.repeats + 1):
            found[f"again.{place}"] = Parameter(self._repeat_choices(), _NONE)
        for left in range(len(rules.stages) + rules.repeats, 1, -1):
            found[f"pick.{left}"] = Parameter(IntDistribution(0, left - 1), 0)
        return found

    def _draw_subset(self, trial: Suggester) -> Order:
        if not self.rules.optional:
            return self.rules.stages
        others, last = self.rules.stages[:-1], self.rules.stages[-1]
        chosen = [letter for letter in others if trial.suggest_categorical(f"with.{letter}", (False, True))]
        if not chosen or trial.suggest_categorical(f"with.{last}", (False, True)):
            chosen.append(last)  # at least one stage: the last is there if no other is
        return "".join(chosen)

    def _subset_flags(self, order: Order) -> Iterator[tuple[str, bool]]:
        if not self.rules.optional:
            return
        others, last = self.rules.stages[:-1], self.rules.stages[-1]
        for letter in others:
            yield f"with.{letter}", letter in order
        if set(order) != {last}:
            yield f"with.{last}", last in order

    def _draw_repeats(self, trial: Suggester) -> list[str]:
        more: list[str] = []
        for place in range(1, self.rules.repeats + 1):
            letter = draw(trial, f"again.{place}", self._repeat_choices())
            if letter == _NONE:
                break
            more.append(letter)
        return more

    def _repeat_choices(self) -> CategoricalDistribution:
        return CategoricalDistribution((_NONE, *self.rules.repeatable))


def _arrangements(letters: Order) -> int:
    same = math.prod(math.factorial(count) for count in Counter(letters).values())
    return math.factorial(len(letters)) // same
