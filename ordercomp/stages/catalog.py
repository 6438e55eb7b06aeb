"""The table of stages: built-in ones as a literal, others through entry points."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from ordercomp.knobs import check_knobs
from ordercomp.sequence import StageSequence, Step
from ordercomp.stages.distill import Distill
from ordercomp.stages.early_exit import EarlyExit
from ordercomp.stages.fine_tune import FineTune, Recover
from ordercomp.stages.prune import Prune
from ordercomp.stages.quantize import Quantize
from ordercomp.stages.stage import Stage, step_of

STAGES: Mapping[str, type[Stage]] = {
    "D": Distill,
    "P": Prune,
    "Q": Quantize,
    "E": EarlyExit,
    "F": FineTune,
    "K": Recover,
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
    try:
        stage = entry.load()
    except Exception as error:  # whatever the module of a user raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"stage plug-in {entry.name!r} ({entry.value}) cannot be loaded: {reason}"
        ) from error
    missing = [name for name in _DECLARED if not hasattr(stage, name)]
    if missing:
        raise ValueError(f"stage plug-in {entry.name!r} ({entry.value}) lacks {', '.join(missing)}")
    if stage.letter != entry.name:
        raise ValueError(f"stage plug-in {entry.name!r} must have that letter, got {stage.letter!r}")
    found: type[Stage] = stage
    return found


def make_stage(step: Step) -> Stage:
    """Build the stage of a step. Raises ValueError naming an unknown letter, knob or value."""
    stages = known_stages()
    if step.stage not in stages:
        known = ", ".join(f"{letter} ({stage.title})" for letter, stage in stages.items())
        raise ValueError(f"there is no stage {step.stage!r}; known stages: {known}")
    kind = stages[step.stage]
    settings = check_knobs(f"stage {step.stage}", kind.knobs, step.settings)
    return kind(**settings)


def complete(sequence: StageSequence) -> StageSequence:
    """The sequence in its canonical text: knobs checked, in declared order, searched ones all written out.

    Raises ValueError for an unknown stage, knob or value and for a stage that may not come twice.
    """
    steps: list[Step] = []
    for step in sequence.steps:
        stage = make_stage(step)
        if not stage.repeatable and any(earlier.stage == step.stage for earlier in steps):
            raise ValueError(
                f"stage {step.stage} ({stage.title}) may come only once, got {sequence.order!r}, "
                f"where it comes again at place {len(steps) + 1}"
            )
        steps.append(step_of(stage))
    return StageSequence(tuple(steps))
