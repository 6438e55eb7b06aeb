"""F and K: more training without compression, from the labels or from the baseline network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import EPOCHS, Granularity, StageError, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """The control: the budget of a stage without its compression. Shows what training alone still gains."""

    letter: ClassVar[str] = "F"
    title: ClassVar[str] = "Fine-tune"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "none"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {"epochs": EPOCHS}

    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a copy trained on with all exits jointly; a quantized network stays quantized."""
        tuned = network.copy()
        return finish(tuned, self, trainer.train(tuned, fresh=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """Knowledge distillation into the same network, the baseline being the teacher: "D" in several papers."""

    letter: ClassVar[str] = "K"
    title: ClassVar[str] = "Recover by distillation"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "none"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {"epochs": EPOCHS}

    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a fine-tuned copy; every exit learns from the baseline's output."""
        if trainer.baseline is None:
            raise StageError("K needs the baseline network as its teacher, and the trainer has none")
        tuned = network.copy()
        return finish(tuned, self, trainer.train(tuned, fresh=False, teacher=trainer.baseline))
