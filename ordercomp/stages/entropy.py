"""H: entropy code the weights, without loss and without training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.stored import coded_bits
from ordercomp.stages.stage import Granularity, finish
from ordercomp.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyCode:
    """All weights of convolutions and linear layers as one rANS stream (Duda 2013).

    It changes storage alone: by the length of the stream that a packed file then holds, in every convention.
    Whatever
    changes the weights afterwards would void it, so no stage may follow.
    """

    letter: ClassVar[str] = "H"
    title: ClassVar[str] = "Entropy code"
    dynamic: ClassVar[bool] = False
    granularity: ClassVar[Granularity] = "none"
    repeatable: ClassVar[bool] = False
    final: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = {}

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a copy whose weights count as coded."""
        coded = network.copy()
        return finish(coded, self, 0.0, {"bits": coded_bits(coded.module)})
