"""Compression stages: the built-in ones, plug-ins, and the check that a sequence can be run."""

from ordercomp.stages.catalog import STAGES, complete, known_stages, make_stage
from ordercomp.stages.distill import Distill
from ordercomp.stages.early_exit import EarlyExit
from ordercomp.stages.fine_tune import FineTune, Recover
from ordercomp.stages.prune import Prune
from ordercomp.stages.quantize import Quantize
from ordercomp.stages.stage import EPOCHS, Granularity, Stage, StageError, finish, step_of

__all__ = [
    "EPOCHS",
    "STAGES",
    "Distill",
    "EarlyExit",
    "FineTune",
    "Granularity",
    "Prune",
    "Quantize",
    "Recover",
    "Stage",
    "StageError",
    "complete",
    "finish",
    "known_stages",
    "make_stage",
    "step_of",
]
