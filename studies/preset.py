"""Presets: how long, how often and with how many knob settings the experiments run; TOML files beside this.

`minutes` suits a laptop's CPU, `hours` a workstation, `paper` follows the paper's protocol.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path

from ordercomp.codec import UNWRITTEN, decode, parse_toml
from ordercomp.running.task import Task
from ordercomp.sequence import KnobValue, Order
from ordercomp.stages.catalog import known_stages

Settings = Mapping[str, KnobValue]  # knobs of one stage; empty: the task's own
Case = Mapping[str, Settings]  # by stage letter

_FOLDER = resources.files("ordercomp.studies") / "presets"
_ALONE: tuple[Settings, ...] = ({},)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The scale of an experiment. What it leaves open, the task decides."""

    name: str = dataclasses.field(default="", metadata=UNWRITTEN)  # that of the file
    description: str = ""
    seeds: int  # every network is trained at seeds 0 to seeds - 1
    cases: tuple[int, ...]  # most knob settings of a pipeline of one, two, … stages; the last one goes on
    settings: Mapping[str, tuple[Settings, ...]]  # of each stage in a pipeline
    ladder: Mapping[str, tuple[Settings, ...]] = dataclasses.field(default_factory=dict)  # of a stage alone
    epochs: float | None = None  # of the baseline and of each stage; None: as the task says
    epochs_factor: float = 1.0  # on the task's epochs, where `epochs` is not set
    fine_tune_factor: float | None = None  # rate of fine-tunes over that of fresh weights; None: the task's
    controls: bool = True  # train on with F after static prefixes, to see whether they were trained enough
    zoo: bool = False  # the paper's own models and data, too, in the experiment of that name

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if not self.cases or min(self.cases) < 1:
            raise ValueError(f"cases must hold numbers of at least 1, got {list(self.cases)}")
        for name in ("epochs", "epochs_factor", "fine_tune_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("settings", "ladder"):
            for letter, some in getattr(self, name).items():
                if letter not in known_stages():
                    known = ", ".join(known_stages())
                    raise ValueError(f"{name} must hold stages among {known}, got {letter!r}")
                if not some:
                    raise ValueError(f"{name} of {letter} must hold at least one setting, got none")

    def prepare(self, task: Task) -> Task:
        """The task with this preset's length and rates of training."""
        recipe = task.recipe  # as it is where nothing changes, so that its trainings are found again
        if self.epochs is not None:
            recipe = dataclasses.replace(recipe, epochs=self.epochs)
        elif self.epochs_factor != 1:
            recipe = dataclasses.replace(recipe, epochs=self.epochs_factor * recipe.epochs)
        if self.fine_tune_factor is not None:
            recipe = dataclasses.replace(recipe, fine_tune_factor=self.fine_tune_factor)
        return dataclasses.replace(task, recipe=recipe)

    def grid(self, stages: Order) -> list[Case]:
        """The knob settings that every order of `stages` meets: a product of few settings per stage.

        At most `cases` of them: the stage with most settings gives up some, evenly, until the product fits.
        A single one is the first listed. As a product, the cases share prefixes.
        """
        most = self.cases[min(len(stages), len(self.cases)) - 1]
        some = {letter: list(self.settings.get(letter, _ALONE)) for letter in dict.fromkeys(stages)}
        sizes = {letter: len(listed) for letter, listed in some.items()}
        while math.prod(sizes.values()) > most:
            longest = max(sizes, key=lambda letter: sizes[letter])
            sizes[longest] -= 1
        thinned = [_evenly(some[letter], size) for letter, size in sizes.items()]
        return [dict(zip(sizes, chosen, strict=True)) for chosen in product(*thinned)]

    def rungs(self, stage: str) -> list[Case]:
        """The knob settings of `stage` where it stands alone, at most as many as `cases` allows."""
        some = self.ladder.get(stage, self.settings.get(stage, _ALONE))
        return [{stage: settings} for settings in _evenly(some, min(len(some), self.cases[0]))]


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
        return dataclasses.replace(decode(data, Preset, "preset"), name=name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _evenly(some: Sequence[Settings], count: int) -> list[Settings]:
    """`count` of them, both ends included; the first if only one is wanted."""
    if count == 1:
        return [some[0]]
    return [some[round(place * (len(some) - 1) / (count - 1))] for place in range(count)]
