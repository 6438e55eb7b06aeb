"""The search space: every order of some stages, with the knobs that they declare, as Optuna parameters.

Parameters are named `order` (or a Lehmer code) and `D.depth`, `P.ratio`, …; the second P of an order has
`P2.ratio`. A stage's knobs are parameters only where the stage is there.
"""

import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import BaseTrial

from ordercomp.knobs import Knob, check_knobs
from ordercomp.sequence import KnobValue, Order, StageSequence, Step, check_order, subsets

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


Declarations = Mapping[str, Mapping[str, Knob]]  # stage letter to knob name to declaration
Settings = Mapping[str, Mapping[str, KnobValue]]  # stage letter to knob name to value

_MOST_EXPLICIT = 400  # five stages with all subsets have 325 orders


@dataclass(frozen=True, slots=True)
class Space:
    """All sequences that a study may try.

    Raises ValueError if a stage is not declared, a fixed value is not legal, or repeats are asked for without
    a repeatable stage.
    """

    stages: Order  # distinct letters; without `optional` every order uses each of them
    knobs: Declarations  # of at least these stages; knobs with `searched=False` stay at their default
    optional: bool = False  # orders may leave stages out (at least one stays)
    repeatable: str = ""  # letters that may come again
    repeats: int = 0  # how many extra steps an order may have
    encoding: Literal["auto", "orders", "lehmer"] = (
        "auto"  # one categorical, a code, or that beyond 400 orders
    )
    fixed: Settings = field(default_factory=dict)  # values at which knobs stay instead, searched ones too
    dense: bool = False  # knobs of absent stages are parameters too, without effect: all trials have the same
    final: str = ""  # stages that nothing may follow

    def __post_init__(self) -> None:
        check_order(self.stages)
        if len(set(self.stages)) != len(self.stages):
            raise ValueError(f"stages must be distinct letters, got {self.stages!r}")
        if unknown := [stage for stage in self.stages if stage not in self.knobs]:
            letters = ", ".join(self.knobs) or "none"
            raise ValueError(f"stages has no stage {unknown[0]!r}; known stages are: {letters}")
        if self.repeats < 0:
            raise ValueError(f"repeats must not be negative, got {self.repeats}")
        if self.repeats and not set(self.repeatable) & set(self.stages):
            raise ValueError(f"repeats is {self.repeats}, but none of {self.stages!r} may come twice")
        if self.encoding not in ("auto", "orders", "lehmer"):
            raise ValueError(f"encoding must be auto, orders or lehmer, got {self.encoding!r}")
        for stage in self.fixed:
            if stage not in self.knobs:
                raise ValueError(f"fixed has no stage {stage!r}; known stages are: {', '.join(self.knobs)}")
            self._held(stage)

    @property
    def rules(self) -> OrderRules:
        """Which orders the space holds."""
        again = "".join(stage for stage in self.stages if stage in self.repeatable)
        return OrderRules(
            stages=self.stages,
            optional=self.optional,
            repeatable=again,
            repeats=self.repeats,
            final=self.final,
        )

    @property
    def code(self) -> OrderCode:
        """How orders become parameters."""
        return _code(self.rules, self.encoding)

    def searched(self, stage: str) -> dict[str, Knob]:
        """Give the knobs of a stage that are parameters; the others are held at a value."""
        fixed = self.fixed.get(stage, {})
        return {name: knob for name, knob in self.knobs[stage].items() if knob.searched and name not in fixed}

    def suggest(self, trial: BaseTrial) -> StageSequence:
        """Let `trial` propose an order and the knobs of its stages; the sequence is in canonical text."""
        return self.draw(suggest_by(trial))

    def draw(self, suggest: Suggest) -> StageSequence:
        """Give the sequence that the values of its parameters make, in canonical text."""
        steps = []
        for place, stage in _named(self.code.draw(suggest)):
            values = self._held(stage)
            for name, knob in self.searched(stage).items():
                values[name] = _snap(knob, suggest(f"{place}.{name}", _distribution(knob)))
            steps.append(self._step(stage, values))
        for name, idle in self._idle().items():
            suggest(name, idle.distribution)
        return StageSequence(tuple(steps))

    def parameters(self, sequence: StageSequence) -> dict[str, Parameter]:
        """Give name, distribution and value of each parameter that makes `suggest` return `sequence`.

        Knobs that the sequence leaves out have their defaults. Raises ValueError if it lies outside the
        space: another order, a knob off the declared grid, or one that is held at another value.
        """
        if not self.rules.allows(sequence.order):
            raise ValueError(f"sequence has the order {sequence.order!r}, which is not among {self}")
        parameters = {**self._idle(), **self.code.parameters(sequence.order)}
        for (place, stage), step in zip(_named(sequence.order), sequence.steps, strict=True):
            checked = check_knobs(f"stage {stage}", self.knobs[stage], step.settings)
            for name, held in self._held(stage).items():
                if checked[name] != held:
                    raise ValueError(f"{place}.{name} is held at {held!r}, got {checked[name]!r}")
            for name, knob in self.searched(stage).items():
                value = checked[name]
                if _snap(knob, value) != value:
                    raise ValueError(f"{place}.{name} must lie on the grid of {knob.step}, got {value!r}")
                parameters[f"{place}.{name}"] = Parameter(_distribution(knob), value)
        return parameters

    def params(self, sequence: StageSequence) -> dict[str, Any]:
        """Give the parameter values of `sequence`, as `study.enqueue_trial` wants them. Raises ValueError."""
        return {name: parameter.value for name, parameter in self.parameters(sequence).items()}

    def distributions(self, sequence: StageSequence) -> dict[str, BaseDistribution]:
        """Give the distributions of `sequence`'s parameters, as `optuna.trial.create_trial` wants them."""
        return {name: parameter.distribution for name, parameter in self.parameters(sequence).items()}

    def contains(self, sequence: StageSequence) -> bool:
        """Whether `suggest` can return `sequence`."""
        try:
            self.parameters(sequence)
        except ValueError:
            return False
        return True

    def complete(self, sequence: StageSequence) -> StageSequence:
        """Bring `sequence` into canonical text: searched knobs all written, others if not at their default.

        Raises ValueError for an unknown stage, knob or value.
        """
        if unknown := [step.stage for step in sequence.steps if step.stage not in self.knobs]:
            raise ValueError(f"sequence has the stage {unknown[0]!r}; known are: {', '.join(self.knobs)}")
        steps = []
        for step in sequence.steps:
            values = check_knobs(f"stage {step.stage}", self.knobs[step.stage], step.settings)
            steps.append(self._step(step.stage, values))
        return StageSequence(tuple(steps))

    def sequences(self) -> Iterator[StageSequence]:
        """Yield every sequence of the space, orders in their listed order.

        Raises ValueError at once if a searched knob is a number without a grid.
        """
        grids = {stage: self._grid(stage) for stage in self.stages}
        return (
            StageSequence(steps)
            for order in self.rules.orders()
            for steps in itertools.product(*(grids[stage] for stage in order))
        )

    @property
    def fixed_parameters(self) -> bool:
        """Whether every sequence has the same parameters, as some samplers want it."""
        return self.dense or not (self.optional or self.repeats)

    def describe(self) -> dict[str, Any]:
        """Say what is in the space, as plain JSON: equal for two spaces exactly if they are the same."""
        knobs: dict[str, Any] = {}
        for stage in self.stages:
            for name, value in self._held(stage).items():
                knobs[f"{stage}.{name}"] = value
            for name, knob in self.searched(stage).items():
                knobs[f"{stage}.{name}"] = json.loads(distribution_to_json(_distribution(knob)))
        return {
            "stages": self.stages,
            "optional": self.optional,
            "repeatable": self.rules.repeatable if self.repeats else "",
            "repeats": self.repeats,
            **({"final": last} if (last := "".join(x for x in self.stages if x in self.final)) else {}),
            "dense": self.dense,
            "encoding": "lehmer" if isinstance(self.code, LehmerOrders) else "orders",
            "knobs": knobs,
        }

    def __str__(self) -> str:
        kind = "subsets" if self.optional else "permutations"
        again = f" and up to {self.repeats} repeats" if self.repeats else ""
        return f"the {kind} of {self.stages}{again}"

    def _idle(self) -> dict[str, Parameter]:
        """Give every parameter of a dense space, with the value that it has where it is of no effect."""
        if not self.dense:
            return {}
        idle = self.code.every()
        again = {stage: self.repeats if stage in self.repeatable else 0 for stage in self.stages}
        for place, stage in _named("".join(stage * (1 + again[stage]) for stage in self.stages)):
            for name, knob in self.searched(stage).items():
                idle[f"{place}.{name}"] = Parameter(_distribution(knob), _snap(knob, knob.default))
        return idle

    def _held(self, stage: str) -> dict[str, KnobValue]:
        """Give the knobs of a stage that are not parameters, with their values."""
        values = check_knobs(f"stage {stage}", self.knobs[stage], self.fixed.get(stage, {}))
        return {name: value for name, value in values.items() if name not in self.searched(stage)}

    def _step(self, stage: str, values: Mapping[str, KnobValue]) -> Step:
        declared = self.knobs[stage].items()
        return Step.of(
            stage,
            {name: values[name] for name, knob in declared if knob.searched or values[name] != knob.default},
        )

    def _grid(self, stage: str) -> list[Step]:
        searched = self.searched(stage)
        values = [_values(f"{stage}.{name}", knob) for name, knob in searched.items()]
        return [
            self._step(stage, {**self._held(stage), **dict(zip(searched, combination, strict=True))})
            for combination in itertools.product(*values)
        ]


@functools.lru_cache(maxsize=64)
def _code(rules: OrderRules, encoding: str) -> OrderCode:
    if encoding == "lehmer" or (encoding == "auto" and rules.count() > _MOST_EXPLICIT):
        return LehmerOrders(rules)
    return ExplicitOrders(tuple(rules.orders()))


def _named(order: Order) -> Iterator[tuple[str, str]]:
    """Yield the parameter prefix and the letter of each step: D, P, Q, P2."""
    seen: Counter[str] = Counter()
    for stage in order:
        seen[stage] += 1
        yield (stage if seen[stage] == 1 else f"{stage}{seen[stage]}"), stage


def _distribution(knob: Knob) -> BaseDistribution:
    if knob.choices:
        return CategoricalDistribution(knob.choices)
    low, high = _bounds(knob)
    if knob.integral:
        step = 1 if knob.log else int(knob.step or 1)
        return IntDistribution(int(low), int(high), log=knob.log, step=step)
    grid = None if knob.log or knob.step is None else float(knob.step)
    return FloatDistribution(float(low), float(high), log=knob.log, step=grid)


def _bounds(knob: Knob) -> tuple[float, float]:
    """Give the range, its upper end on the grid."""
    if knob.low is None or knob.high is None:
        raise ValueError(f"a knob without choices needs low and high, got {knob}")
    return knob.low, _on_grid(knob, knob.high, down=True)


def _snap(knob: Knob, value: Any) -> KnobValue:
    """Move a number to the nearest point of the grid, free of the noise of adding up steps."""
    if knob.choices:
        choice: KnobValue = value
        return choice
    snapped = _on_grid(knob, value)
    return int(snapped) if knob.integral else float(snapped)


def _on_grid(knob: Knob, value: float, *, down: bool = False) -> float:
    if knob.step is None or knob.low is None:
        return value
    low, step = Decimal(str(knob.low)), Decimal(str(knob.step))
    places = (Decimal(str(value)) - low) / step
    return float(low + step * (int(places) if down else int(places.to_integral_value())))


def _values(name: str, knob: Knob) -> list[KnobValue]:
    """List the values of a knob on its grid."""
    if knob.choices:
        return list(knob.choices)
    low, high = _bounds(knob)
    step = knob.step if knob.step is not None or not knob.integral else 1
    if step is None:
        raise ValueError(
            f"{name} has no step, so its values cannot be listed; choose a sampler other than grid"
        )
    count = round((high - low) / step)
    return [_snap(replace(knob, step=step), low + place * step) for place in range(count + 1)]
