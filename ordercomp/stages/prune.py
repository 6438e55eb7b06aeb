"""P: remove the least important channels, then fine-tune."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.channels import narrow_channels
from ordercomp.stages.stage import EPOCHS, TEACHER, Granularity, finish, teacher_of
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Channel pruning of body and exit heads (DepGraph, Fang et al. 2023); the ratio is of what is left.

    On a quantized network the fine-tuning is quantization-aware and starts from activation ranges that are
    fitted to the channels left, unless the recipe keeps the old ones; `importance` says whether channels are
    ranked by their latent float weights or by the weights as quantized.
    """

    letter: ClassVar[str] = "P"
    title: ClassVar[str] = "Prune"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "neuron"
    repeatable: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {
        "ratio": Knob(
            default=0.4, low=0.05, high=0.9, step=0.05, help="share of the channels that is removed"
        ),
        "scope": Knob(
            default="local",
            choices=("local", "global"),
            searched=False,
            help="the same ratio in every group, or the weakest channels of the whole network",
        ),
        "importance": Knob(
            default="latent",
            choices=("latent", "quantized"),
            searched=False,
            help="which weights rank channels",
        ),
        "round_to": Knob(
            default=1,
            low=1,
            high=64,
            searched=False,
            help="widths left are rounded to the nearest multiple of it, as processors like them",
        ),
        "teacher": TEACHER,
        "epochs": EPOCHS,
    }

    ratio: float = 0.4
    scope: Literal["local", "global"] = "local"
    importance: Literal["latent", "quantized"] = "latent"
    round_to: int = 1
    teacher: Literal["none", "baseline"] = "none"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a pruned, fine-tuned copy. Raises StageError if it cannot be traced or pruned."""
        pruned = network.copy()
        achieved = narrow_channels(
            pruned, self.ratio, scope=self.scope, importance_on=self.importance, round_to=self.round_to
        )
        trainer.calibrate(pruned, again=True)
        epochs = trainer.train(pruned, fresh=False, teacher=teacher_of(self.teacher, trainer))
        return finish(pruned, self, epochs, {"asked": self.ratio, **achieved})
