"""Presets: how long, how often and with how many knob settings the experiments run; TOML files beside this.

`minutes` suits a laptop's CPU, `hours` a workstation, `paper` follows the paper's protocol.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TypeVar

from ordercomp.codec import UNWRITTEN, decode, named, parse_toml
from ordercomp.running.task import Task
from ordercomp.sequence import KnobValue, Order
from ordercomp.stages.catalog import known_stages

Knobs = Mapping[str, KnobValue]  # of one stage; those that it lacks are the task's own
Setting = Mapping[str, Knobs]  # of a sequence, by stage letter
T = TypeVar("T")

_FOLDER = resources.files("ordercomp.studies") / "presets"
_OWN: tuple[Knobs, ...] = ({},)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The scale of an experiment. What it leaves open, the task decides."""

    name: str = field(default="", metadata=UNWRITTEN)  # that of the file
    description: str = ""
    seeds: int  # every network is trained at seeds 0 to seeds - 1
    most_settings: tuple[int, ...] = field(  # of an order of one, two, … stages; the last one goes on
        metadata=named("cases")
    )
    settings: Mapping[str, tuple[Knobs, ...]]  # of each stage in an order
    ladder: Mapping[str, tuple[Knobs, ...]] = field(default_factory=dict)  # of a stage alone
    epochs: float | None = None  # of the baseline and of each stage; None: as the task says
    epochs_factor: float = 1.0  # on the task's epochs, where `epochs` is not set
    fine_tune_factor: float | None = None  # rate of fine-tunes over that of fresh weights; None: the task's
    controls: bool = True  # train on with F after static prefixes, to see whether they were trained enough
    zoo: bool = False  # the paper's own models and data, too, in the experiment of that name

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if not self.most_settings or min(self.most_settings) < 1:
            raise ValueError(f"cases must hold numbers of at least 1, got {list(self.most_settings)}")
        for name in ("epochs", "epochs_factor", "fine_tune_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("settings", "ladder"):
            for letter, listed in getattr(self, name).items():
                if letter not in known_stages():
                    letters = ", ".join(known_stages())
                    raise ValueError(f"{name} must hold stages among {letters}, got {letter!r}")
                if not listed:
                    raise ValueError(f"{name} of {letter} must hold at least one setting, got none")

    def prepare(self, task: Task) -> Task:
        """The task with this preset's length and rates of training."""
        recipe = task.recipe  # as it is where nothing changes, so that its trainings are found again
        if self.epochs is not None:
            recipe = replace(recipe, epochs=self.epochs)
        elif self.epochs_factor != 1:
            recipe = replace(recipe, epochs=self.epochs_factor * recipe.epochs)
        if self.fine_tune_factor is not None:
            recipe = replace(recipe, fine_tune_factor=self.fine_tune_factor)
        return replace(task, recipe=recipe)

    def grid(self, stages: Order) -> list[Setting]:
        """The knob settings that every order of `stages` meets: a product of a few for each stage.

        At most `most_settings` of them: the stage with most gives up some, evenly, until the product fits. A
        single one is the first listed. As a product, the settings share prefixes.
        """
        most = self.most_settings[min(len(stages), len(self.most_settings)) - 1]
        listed = {letter: self.settings.get(letter, _OWN) for letter in dict.fromkeys(stages)}
        sizes = {letter: len(choices) for letter, choices in listed.items()}
        while math.prod(sizes.values()) > most:
            longest = max(sizes, key=lambda letter: sizes[letter])
            sizes[longest] -= 1
        thinned = [evenly(listed[letter], size) for letter, size in sizes.items()]
        return [dict(zip(sizes, combination, strict=True)) for combination in product(*thinned)]

    def alone(self, stage: str) -> list[Setting]:
        """The knob settings of `stage` where it stands alone, at most as many as `most_settings` allows."""
        listed = self.ladder.get(stage, self.settings.get(stage, _OWN))
        return [{stage: knobs} for knobs in evenly(listed, min(len(listed), self.most_settings[0]))]


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        path.name.removesuffix(".toml") for path in _FOLDER.iterdir() if path.name.endswith(".toml")
    )


def load_preset(name: str) -> Preset:
    """A built-in preset by name, or one from a TOML file. Raises ValueError naming file and key."""
    if name in preset_names():
        return _read(name, (_FOLDER / f"{name}.toml").read_text(encoding="utf-8"), f"preset {name}")
    if not name.endswith(".toml"):
        raise ValueError(f"preset must be one of {', '.join(preset_names())} or a .toml file, got {name!r}")
    if not Path(name).is_file():
        raise ValueError(f"preset must be a file that exists, got {name!r}")
    try:
        text = Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not valid UTF-8") from None
    return _read(Path(name).stem, text, name)


def _read(name: str, text: str, where: str) -> Preset:
    try:
        data = parse_toml(text)
    except ValueError as error:
        raise ValueError(f"{where} is {error}") from None
    try:
        return replace(decode(data, Preset, "preset"), name=name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, both ends included; the first if only one is wanted."""
    if count == 1:
        return [items[0]]
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
