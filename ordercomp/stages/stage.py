"""The Stage protocol: what a compression step declares about itself and does to a network."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, runtime_checkable

from ordercomp.knobs import Knob
from ordercomp.networks.network import CompressedNetwork, StepResult
from ordercomp.sequence import Step
from ordercomp.training.trainer import Trainer

Granularity = Literal["architecture", "neuron", "sub-neuron", "none"]

EPOCHS = Knob(
    default=0.0, low=0.0, high=100_000.0, searched=False, help="epochs of this stage; 0: as the recipe says"
)

TEACHER = Knob(
    default="none",
    choices=("none", "baseline"),
    searched=False,
    help="baseline: the fine-tune is a distillation from the uncompressed network",
)


class StageError(ValueError):
    """A stage that cannot be applied to the network it was given; the message says why."""


@runtime_checkable
class Stage(Protocol):
    """One compression step. Built with its knobs as keyword arguments, all of them with defaults."""

    letter: ClassVar[str]  # A to Z
    title: ClassVar[str]  # a verb, "Prune"
    dynamic: ClassVar[bool]  # whether it acts per input at run time
    granularity: ClassVar[Granularity]
    repeatable: ClassVar[bool]  # whether a sequence may hold it twice
    knobs: ClassVar[Mapping[str, Knob]]

    def apply(self, network: CompressedNetwork, *, trainer: Trainer) -> CompressedNetwork:
        """Return a compressed, trained copy of `network` with its step in the lineage; the argument stays.

        Whatever earlier stages did must be kept or deliberately transformed. Raises StageError if the
        stage cannot be applied, DivergedError if training fails.
        """
        ...


def step_of(stage: Stage) -> Step:
    """The step that stands for a stage and its knobs.

    Knobs that a search may vary are always written, the others where they differ from their default.
    """
    values = {name: getattr(stage, name) for name in stage.knobs}
    return Step.of(
        stage.letter,
        {
            name: value
            for name, value in values.items()
            if stage.knobs[name].searched or value != stage.knobs[name].default
        },
    )


def teacher_of(choice: str, trainer: Trainer) -> CompressedNetwork | None:
    """The network that a value of the knob `teacher` stands for; None for "none".

    Raises StageError if the trainer has no baseline.
    """
    if choice == "none":
        return None
    if trainer.baseline is None:
        raise StageError("teacher=baseline needs the baseline network, and the trainer has none")
    return trainer.baseline


def finish(
    network: CompressedNetwork, stage: Stage, epochs: float, achieved: Mapping[str, object] | None = None
) -> CompressedNetwork:
    """Close a stage: the network in evaluation mode with one more step in its lineage."""
    network.module.eval()
    return network.then(StepResult(step=step_of(stage), epochs=epochs, achieved=dict(achieved or {})))
