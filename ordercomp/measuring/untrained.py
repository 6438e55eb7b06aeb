"""What a sequence makes of a model without training: its structure and its cost."""

from dataclasses import dataclass

from ordercomp.measuring.cost import Convention, Cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages import complete, make_stage

__all__ = ["apply_untrained", "cost_summary"]


@dataclass(frozen=True, slots=True)
class _NoTraining:
    """A trainer that leaves weights as they are."""

    seed: int = 0
    baseline: CompressedNetwork | None = None

    def train(
        self, network: CompressedNetwork, *, fresh: bool, teacher: CompressedNetwork | None = None
    ) -> float:
        return 0.0

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        return 0.0

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        return None


def apply_untrained(network: CompressedNetwork, sequence: StageSequence) -> CompressedNetwork:
    """Apply every stage of `sequence` to a copy of `network`, without any training.

    Raises ValueError for an unknown stage, knob or value, StageError if a stage cannot be applied.
    """
    for step in complete(sequence).steps:
        network = make_stage(step).apply(network, trainer=_NoTraining(baseline=network))
    return network


def cost_summary(cost: Cost, baseline: Cost, convention: Convention) -> dict[str, float]:
    """Parameters, MACs, BitOps and bits of a network whose images all go to the last exit, and reductions."""
    bitops, bits = cost.bitops(convention), cost.bits(convention)
    return {
        "params": cost.parameters,
        "macs": cost.macs,
        "bitops": bitops,
        "bits": bits,
        "bitops_cr": baseline.bitops(convention) / bitops,
        "cr": baseline.bits(convention) / bits,
    }
