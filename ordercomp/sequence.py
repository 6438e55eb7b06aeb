"""Stage sequences: an order with every knob set, and the text that stands for it.

`D(depth=0.5) P(ratio=0.4) Q(weights=2,activations=4)` parses to three steps and formats back to itself.
"""

import hashlib
import itertools
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

Order = str  # of stage letters
KnobValue = bool | int | float | str
Item = TypeVar("Item", bound=Hashable)

_STEP = re.compile(r"(?P<stage>[A-Z])(?:\((?P<knobs>[^()]*)\))?")
_CALL = re.compile(r"(?P<name>[^()\s]+)(?:\((?P<knobs>[^()]*)\))?")
_KNOB = re.compile(r"\s*(?P<name>[a-z][a-z0-9_]*)\s*=\s*(?P<value>[A-Za-z0-9_.+:/-]+)\s*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")


def check_order(order: Order) -> Order:
    """Return `order` if it is a non-empty string of letters A to Z; raise ValueError otherwise."""
    if not order:
        raise ValueError("an order needs at least one stage letter, got an empty one")
    for place, letter in enumerate(order):
        if not ("A" <= letter <= "Z"):
            raise ValueError(
                f"order must consist of letters A to Z, got {letter!r} at place {place + 1} of {order!r}"
                f"{_meant(order)}"
            )
    return order


def _meant(order: str) -> str:
    """What to write instead of stage letters that are small, or have arrows and the like between them."""
    between = r"[\s→>=,;.|/+_[\]-]"
    plain = re.fullmatch(rf"{between}*([A-Za-z]+|[A-Za-z]({between}+[A-Za-z])+){between}*", order)
    return f"; write {''.join(filter(str.isalpha, order)).upper()}" if plain else ""


def check_distinct(stages: Order) -> Order:
    """Return `stages` if they are distinct letters A to Z, at least one; raise ValueError otherwise."""
    if len(set(check_order(stages))) != len(stages):
        raise ValueError(f"stages must be distinct letters, got {stages!r}")
    return stages


def permutations(stages: Order) -> list[Order]:
    """List all n! orders that use each of the n stages once, in the order of the letters given."""
    check_distinct(stages)
    return ["".join(letters) for letters in itertools.permutations(stages)]


def subsets(stages: Order, *, smallest: int = 1) -> list[Order]:
    """List the subsets of `stages` with at least `smallest` (1 or more) members, small ones first."""
    check_distinct(stages)
    if smallest < 1:
        raise ValueError(f"smallest must be at least 1, as no order is empty, got {smallest}")
    sizes = range(smallest, len(stages) + 1)
    return ["".join(members) for size in sizes for members in itertools.combinations(stages, size)]


def prefixes(order: Order) -> list[Order]:
    """List the non-empty prefixes of `order`, from its first stage to the whole."""
    return [order[:length] for length in range(1, len(order) + 1)]


def kendall_distance(one: Order, other: Order) -> int:
    """Count the pairs of stages that the two orders arrange differently, from 0 to n(n-1)/2.

    Both must hold the same distinct stages (ValueError). Distance as in Kendall (1938).
    """
    check_distinct(one)
    if sorted(one) != sorted(other):
        raise ValueError(f"orders must hold the same stages, got {one!r} and {other!r}")
    return sum(other.index(a) > other.index(b) for a, b in itertools.combinations(one, 2))


class PrefixTrie(Generic[Item]):
    """The distinct prefixes of many sequences: what has to be trained if prefixes are shared.

    `len()` counts the nodes without the root, so the 24 permutations of four stages have 64.
    Iteration goes depth first, parents before children, in the order of insertion.
    """

    def __init__(self, sequences: Iterable[Iterable[Item]] = ()) -> None:
        self._nodes: dict[tuple[Item, ...], None] = {}
        for sequence in sequences:
            self.add(sequence)

    def add(self, sequence: Iterable[Item]) -> list[tuple[Item, ...]]:
        """Add all prefixes of `sequence` and return those that are new, shortest first."""
        items = tuple(sequence)
        every = [items[:length] for length in range(1, len(items) + 1)]
        new = [prefix for prefix in every if prefix not in self._nodes]
        self._nodes.update(dict.fromkeys(new))
        return new

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[tuple[Item, ...]]:
        return iter(self._nodes)

    def __contains__(self, prefix: tuple[Item, ...]) -> bool:
        return prefix in self._nodes

    @property
    def unshared_trainings(self) -> int:
        """Stage trainings needed to get every node if each starts from the baseline: 196 for 24 orders."""
        return sum(len(node) for node in self._nodes)


class SequenceSyntaxError(ValueError):
    """A sequence text that cannot be read; the message shows the text and marks the place."""

    def __init__(self, problem: str, text: str, place: int) -> None:
        super().__init__(f"{problem} at column {place + 1} of the sequence\n  {text}\n  {' ' * place}^")
        self.place = place


@dataclass(frozen=True, slots=True)
class Step:
    """One stage with its knobs; which knobs a stage knows is the stage's own affair."""

    stage: str  # one letter A to Z
    knobs: tuple[tuple[str, KnobValue], ...] = ()  # in the order of writing

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]", self.stage):
            raise ValueError(f"stage must be one letter A to Z, got {self.stage!r}")
        names = [name for name, _ in self.knobs]
        if len(set(names)) != len(names):
            raise ValueError(f"knobs of {self.stage} must be set once each, got {names}")
        for name, value in self.knobs:
            if not _NAME.fullmatch(name):
                raise ValueError(f"knob of {self.stage} must have a name like `ratio`, got {name!r}")
            if not _is_readable(value):
                raise ValueError(
                    f"{self.stage} knob {name} must be a finite number, true, false or a word, got {value!r}"
                )

    @classmethod
    def of(cls, stage: str, knobs: Mapping[str, KnobValue]) -> "Step":
        """Make a step from a mapping of knob names to values."""
        return cls(stage, tuple(knobs.items()))

    @property
    def settings(self) -> dict[str, KnobValue]:
        """The knobs as a dictionary."""
        return dict(self.knobs)

    def __str__(self) -> str:
        if not self.knobs:
            return self.stage
        return f"{self.stage}({','.join(f'{name}={_format(value)}' for name, value in self.knobs)})"


@dataclass(frozen=True, slots=True)
class StageSequence:
    """An order with every knob set. The empty sequence is the uncompressed baseline."""

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "StageSequence":
        """Read a sequence such as `D(depth=0.5) P(ratio=0.4)`; `DP` takes every default.

        Raises SequenceSyntaxError, a ValueError that marks the place of the error.
        """
        return cls(_steps(text))

    @classmethod
    def from_order(cls, order: Order, knobs: Mapping[str, Mapping[str, KnobValue]]) -> "StageSequence":
        """Give each stage of `order` its knobs from the mapping of letters to knobs."""
        return cls(tuple(Step.of(stage, knobs.get(stage, {})) for stage in order))

    @property
    def order(self) -> Order:
        """The stage letters alone."""
        return "".join(step.stage for step in self.steps)

    @property
    def prefixes(self) -> tuple["StageSequence", ...]:
        """The non-empty prefixes, from the first step to the whole sequence."""
        return tuple(StageSequence(self.steps[:length]) for length in range(1, len(self.steps) + 1))

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(str(self).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.steps)

    def __add__(self, step: Step) -> "StageSequence":
        return StageSequence((*self.steps, step))

    def __str__(self) -> str:
        return " ".join(str(step) for step in self.steps)


def parse_call(text: str) -> tuple[str, dict[str, KnobValue]]:
    """Read `name` or `name(option=value,…)`, options written as knobs are, into the name and its options.

    The name is anything without parentheses or white space. Raises SequenceSyntaxError.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise SequenceSyntaxError("expected name or name(option=value,...)", text, 0)
    return match["name"], dict(_parse_knobs(text.strip(), match)) if match["knobs"] is not None else {}


@lru_cache(maxsize=8192)  # records repeat few texts many times
def _steps(text: str) -> tuple[Step, ...]:
    steps, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _STEP.match(text, place)
        if match is None:
            expected = f"expected a stage letter A to Z, got {text[place]!r}{_meant(text)}"
            raise SequenceSyntaxError(expected, text, place)
        if text[match.end() : match.end() + 1] == "(":
            raise SequenceSyntaxError("unclosed or nested parenthesis", text, match.end())
        knobs = _parse_knobs(text, match) if match["knobs"] is not None else ()
        steps.append(Step(match["stage"], knobs))
        place = match.end()
    return tuple(steps)


def _parse_knobs(text: str, match: re.Match[str]) -> tuple[tuple[str, KnobValue], ...]:
    """Read `name=value,name=value`, with places counted in the whole text."""
    inside, place = match["knobs"], match.start("knobs")
    if not inside.strip():
        return ()
    knobs: dict[str, KnobValue] = {}
    for part in inside.split(","):
        knob = _KNOB.fullmatch(part)
        start = place + len(part) - len(part.lstrip())
        if knob is None:
            raise SequenceSyntaxError(f"expected knob=value, got {part.strip()!r}", text, start)
        if knob["name"] in knobs:
            raise SequenceSyntaxError(f"knob {knob['name']!r} is set twice", text, start)
        try:
            knobs[knob["name"]] = _read(knob["value"])
        except ValueError as error:
            raise SequenceSyntaxError(str(error), text, place + knob.start("value")) from None
        place += len(part) + 1
    return tuple(knobs.items())


def _read(text: str) -> KnobValue:
    if text.lower() in ("true", "false"):  # as a word, False would count as true
        return text.lower() == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"expected a finite number, got {text!r}")
        return value
    if not _WORD.fullmatch(text):
        raise ValueError(f"expected a number, true, false or a word, got {text!r}")
    return text


def _is_readable(value: KnobValue) -> bool:
    """Whether the text of a value reads back as the same value."""
    try:
        again = _read(_format(value))
    except ValueError:
        return False
    return again == value and type(again) is type(value)


def _format(value: KnobValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)
