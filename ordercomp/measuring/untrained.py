"""What a sequence makes of a model without training: its structure and its cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.measuring.cost import Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Convention
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import complete, make_stage
from ordercomp.stages.stage import StageError


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

    Raises ValueError for an unknown stage, knob or value, StageError in one line if a stage cannot be
    applied, whatever the code of the network raises.
    """
    for step in complete(sequence).steps:
        with _naming(f"{step} cannot be applied to {network.architecture.model}"):
            network = make_stage(step).apply(network, trainer=_NoTraining(baseline=network))
    return network


def rehearse(network: CompressedNetwork) -> None:
    """Let the network take one step of training on random images and be copied, saved and counted after it.

    All on a copy. Raises StageError in one line if one of these fails.
    """
    model = network.architecture.model
    twin = network.copy()
    after = f" after {network.sequence}" if network.lineage else ""
    with _naming(f"{model} cannot be trained{after}"):
        twin.module.train()
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            logits = twin.module(network.architecture.example(2))
            sum(one.square().sum() for one in logits).backward()
    with _naming(f"{model} cannot be copied{after}"):
        again = twin.copy().rebuild(seed=0)
        again.module.load_state_dict(twin.module.state_dict(), strict=True)
    with _naming(f"the cost of {model} cannot be counted{after}"):
        measure_cost(again)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turn what the code of a network raises into a StageError of one line; one of ours stays."""
    try:
        yield
    except ValueError as error:
        if "\n" not in str(error):
            raise
        raise StageError(f"{what}: {one_line(error)}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise StageError(f"{what}: {type(error).__name__}: {one_line(error)}") from error


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
