"""Knob declarations: what a stage can be told, which values are legal, and what a search may try."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ordercomp.sequence import KnobValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One hyperparameter of a stage: a range of numbers, or a list of choices."""

    default: KnobValue
    help: str
    low: float | int | None = None  # inclusive; set for numbers
    high: float | int | None = None  # inclusive
    step: float | int | None = None  # grid that a search uses; any number in the range is legal
    log: bool = False  # a search draws on a log scale
    choices: tuple[KnobValue, ...] = ()  # legal values, if they are listed
    searched: bool = True  # False: only set by hand

    def __post_init__(self) -> None:
        if bool(self.choices) == (self.low is not None and self.high is not None):
            raise ValueError("a knob has either choices or both of low and high")
        self.check("the default", self.default)

    @property
    def integral(self) -> bool:
        """Whether the knob takes whole numbers only."""
        return isinstance(self.default, int) and not isinstance(self.default, bool) and not self.choices

    def check(self, name: str, value: KnobValue) -> KnobValue:
        """Return `value` in the knob's own type; raise ValueError naming the knob and what it takes.

        So `2.0` given for a whole number, or for the choice `2`, comes back as `2`.
        """
        if self.choices:
            for choice in self.choices:
                if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                    return choice
            raise ValueError(f"{name} must be one of {', '.join(map(str, self.choices))}, got {value!r}")
        integral = self.integral
        if isinstance(value, (bool, str)) or not math.isfinite(value) or (integral and value != int(value)):
            wanted = "a whole number" if integral else "a number"
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
        if not (self.low is not None and self.high is not None and self.low <= value <= self.high):
            raise ValueError(f"{name} must lie in [{self.low}, {self.high}], got {value!r}")
        return int(value) if integral else float(value)


def exact(value: float) -> Fraction:
    """The decimal that a number was written as: 1/10 for 0.1, which as a float is a little more."""
    return Fraction(str(value))


def check_knobs(
    owner: str, declared: Mapping[str, Knob], values: Mapping[str, KnobValue]
) -> dict[str, KnobValue]:
    """Fill in defaults and check values, in the order of declaration.

    Raises ValueError naming `owner`, the knob, what was expected and what came.
    """
    unknown = [name for name in values if name not in declared]
    if unknown:
        names = ", ".join(declared) or "none"
        raise ValueError(f"{owner} has no knob {unknown[0]!r}; its knobs are: {names}")
    return {
        name: knob.check(f"{owner} knob {name}", values.get(name, knob.default))
        for name, knob in declared.items()
    }
