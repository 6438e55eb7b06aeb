"""L: layers become two of lower rank, by singular values, then fine-tune."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from ordercomp.knobs import Knob
from ordercomp.networks.exits import channels_last, replace_module, running_order
from ordercomp.networks.factors import fill_factors, form_of, make_factors
from ordercomp.networks.layers import has_plain_forward
from ordercomp.networks.network import CompressedNetwork, Rebuilt
from ordercomp.stages.channels import classifiers
from ordercomp.stages.stage import EPOCHS, TEACHER, Granularity, StageError, finish, teacher_of
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Convolutions and linear layers of the body by truncated singular value decomposition.

    `rank` is the share of a layer's multiplications that its factors keep, rounded down to whole ranks, at
    least one; of the two forms of a convolution the one with less error is taken. The first layer and what
    gives logits stay, and so do convolutions in groups and layers whose factors would save nothing. Factors
    are ordinary layers to the stages that follow; on a quantized network they are those of the latent weights
    and are quantized.
    """

    letter: ClassVar[str] = "L"
    title: ClassVar[str] = "Factorize"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "neuron"
    repeatable: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {
        "rank": Knob(
            default=0.5, low=0.05, high=0.95, step=0.05, help="share of the multiplications that is kept"
        ),
        "teacher": TEACHER,
        "epochs": EPOCHS,
    }

    rank: float = 0.5
    teacher: Literal["none", "baseline"] = "none"
    epochs: float = 0.0

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a factored, fine-tuned copy. Raises StageError if no layer can be."""
        low, made = network.copy(), []
        for name, layer in _factorable(low).items():
            form = form_of(layer, self.rank)
            if form is None:
                continue
            facts = dict(zip(("form", "rank"), form, strict=True))
            pair = make_factors(layer, facts).to(layer.weight.device)
            fill_factors(pair, layer, form[0])
            replace_module(low.module, name, pair)
            made.append(Rebuilt("L", name.removeprefix("body."), facts))
        if not made:
            raise StageError(
                f"L(rank={self.rank}) finds no layer of {network.architecture.model} whose factors would "
                "save multiplications"
            )
        low = replace(low, module=channels_last(low.module), rebuilt=(*network.rebuilt, *made))
        low = low.quantized(network.bits) if network.bits else low
        trainer.calibrate(low)
        epochs = trainer.train(low, fresh=False, teacher=teacher_of(self.teacher, trainer))
        return finish(low, self, epochs, {"layers": len(made)})


def _factorable(network: CompressedNetwork) -> dict[str, nn.Conv2d | nn.Linear]:
    """Layers of the body by name, but the first, frozen ones, those of logits and of shared weights."""
    kept, module = classifiers(network), network.module
    times = Counter(id(weights) for _, weights in module.named_parameters(remove_duplicate=False))
    factorable: dict[str, nn.Conv2d | nn.Linear] = {}
    for name in running_order(module, network.architecture)[1:]:
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
        alone = name.startswith("body.") and all(times[id(weights)] == 1 for weights in layer.parameters())
        trained = all(weights.requires_grad for weights in layer.parameters())
        if alone and trained and layer not in kept and not grouped and has_plain_forward(layer):
            factorable[name] = layer
    return factorable
