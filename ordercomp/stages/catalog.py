"""The table of stages: built-in ones as a literal, others through entry points."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

import torch
from torch import Tensor

from ordercomp.errors import one_line, reraise_as
from ordercomp.knobs import check_knobs
from ordercomp.measuring.cost import Cost, measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Convention
from ordercomp.sequence import StageSequence, Step
from ordercomp.stages.distill import Distill
from ordercomp.stages.early_exit import EarlyExit
from ordercomp.stages.entropy import EntropyCode
from ordercomp.stages.fine_tune import FineTune, Recover
from ordercomp.stages.low_rank import LowRank
from ordercomp.stages.prune import Prune
from ordercomp.stages.quantize import Quantize
from ordercomp.stages.share import Share
from ordercomp.stages.skip import Skip
from ordercomp.stages.sparsify import Sparsify
from ordercomp.stages.stage import Stage, StageError, step_of
from ordercomp.training.trainer import BeforeStep

STAGES: Mapping[str, type[Stage]] = {
    "D": Distill,
    "P": Prune,
    "Q": Quantize,
    "E": EarlyExit,
    "L": LowRank,
    "H": EntropyCode,
    "U": Sparsify,
    "W": Share,
    "F": FineTune,
    "K": Recover,
    "S": Skip,
}
_DECLARED = ("letter", "title", "dynamic", "granularity", "repeatable", "knobs", "apply")


@lru_cache(maxsize=1)
def known_stages() -> Mapping[str, type[Stage]]:
    """Built-in stages and plug-ins (entry-point group `ordercomp.stages`) by letter.

    Raises ValueError if a plug-in cannot be loaded, is no stage, or takes a letter that is taken.
    """
    stages = dict(STAGES)
    for entry in entry_points(group="ordercomp.stages"):
        stage = _load(entry)
        if stage.letter in stages:
            raise ValueError(f"stage plug-in {entry.name!r} wants the letter {stage.letter}, which is taken")
        stages[stage.letter] = stage
    return stages


def _load(entry: EntryPoint) -> type[Stage]:
    """Import a plug-in. Raises ValueError in one line if it fails or is no stage of the entry's letter."""
    with reraise_as(ValueError, f"stage plug-in {entry.name!r} ({entry.value}) cannot be loaded"):
        stage = entry.load()
    if missing := [name for name in _DECLARED if not hasattr(stage, name)]:
        raise ValueError(f"stage plug-in {entry.name!r} ({entry.value}) lacks {', '.join(missing)}")
    if stage.letter != entry.name:
        raise ValueError(f"stage plug-in {entry.name!r} must have that letter, got {stage.letter!r}")
    checked: type[Stage] = stage
    return checked


def make_stage(step: Step) -> Stage:
    """Build the stage of a step. Raises ValueError naming an unknown letter, knob or value."""
    stages = known_stages()
    if step.stage not in stages:
        known = ", ".join(f"{letter} ({stage.title})" for letter, stage in stages.items())
        raise ValueError(f"there is no stage {step.stage!r}; known stages: {known}")
    kind = stages[step.stage]
    settings = check_knobs(f"stage {step.stage}", kind.knobs, step.settings)
    return kind(**settings)


def final_stages() -> str:
    """The letters of stages that nothing may follow: they have `final = True`."""
    return "".join(letter for letter, stage in known_stages().items() if getattr(stage, "final", False))


def complete(sequence: StageSequence) -> StageSequence:
    """The sequence in its canonical text: knobs checked, in declared order, searched ones all written out.

    Raises ValueError for an unknown stage, knob or value and for a stage that may not come twice.
    """
    steps: list[Step] = []
    for step in sequence.steps:
        stage = make_stage(step)
        if steps and (last := steps[-1].stage) in final_stages():
            raise ValueError(
                f"stage {last} ({known_stages()[last].title}) must come last, as {step.stage} voids it, "
                f"got {sequence.order!r}"
            )
        if not stage.repeatable and any(earlier.stage == step.stage for earlier in steps):
            raise ValueError(
                f"stage {step.stage} ({stage.title}) may come only once, got {sequence.order!r}, "
                f"where it comes again at place {len(steps) + 1}"
            )
        steps.append(step_of(stage))
    return StageSequence(tuple(steps))


# Dry run: what a sequence makes of a model without training, its structure and its cost


@dataclass(frozen=True, slots=True)
class _NoTraining:
    """A trainer that leaves weights as they are."""

    seed: int = 0
    baseline: CompressedNetwork | None = None

    def train(
        self,
        network: CompressedNetwork,
        *,
        fresh: bool,
        teacher: CompressedNetwork | None = None,
        before_step: BeforeStep | None = None,
    ) -> float:
        return 0.0

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        return 0.0

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        return None

    def sample(self, network: CompressedNetwork) -> Tensor:
        return network.example(2)


def apply_untrained(network: CompressedNetwork, sequence: StageSequence) -> CompressedNetwork:
    """Apply every stage of `sequence` to a copy of `network`, without any training.

    Raises ValueError for an unknown stage, knob or value, StageError in one line if a stage cannot be
    applied, whatever the code of the network raises.
    """
    for step in complete(sequence).steps:
        with _naming(f"{step} cannot be applied to {network.architecture.model}"):
            network = make_stage(step).apply(network, trainer=_NoTraining(baseline=network))
    return network


def dry_run(network: CompressedNetwork) -> None:
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
            if logits[-1].shape != (2, network.architecture.classes):
                raise ValueError(
                    f"{model} must give logits of shape (2, {network.architecture.classes}) of two images in "
                    f"training, too, got a tensor of shape {tuple(logits[-1].shape)}"
                )
            sum(exit_.square().sum() for exit_ in logits).backward()
    with _naming(f"{model} cannot be copied{after}"):
        again = twin.copy().rebuild(seed=0)
        again.module.load_state_dict(twin.module.state_dict(), strict=True)
    with _naming(f"the cost of {model} cannot be counted{after}"):
        measure_cost(again)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turn what the code of a network raises into a StageError of one line; one of ours stays."""
    try:
        with reraise_as(StageError, what, passing=(ValueError,)):
            yield
    except ValueError as error:
        if "\n" not in str(error):
            raise
        raise StageError(f"{what}: {one_line(error)}") from error


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
