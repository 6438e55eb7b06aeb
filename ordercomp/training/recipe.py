"""Recipe: how long and how fast each stage trains. Plain numbers, part of a task's identity."""

import math
from dataclasses import dataclass
from typing import Literal

_POSITIVE = ("epochs", "batch_size", "learning_rate", "fine_tune_factor", "temperature")
_FRACTIONS = ("momentum", "label_smoothing", "alpha", "warmup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Training settings of a task; SGD with Nesterov momentum on a one-cycle learning rate.

    Every stage trains for `epochs`, as the baseline does. New weights (baseline, students, heads) train at
    the full rate; fine-tuning of old ones at `fine_tune_factor` of it.
    """

    epochs: float = 40.0  # of the baseline and of each stage
    batch_size: int = 64
    learning_rate: float = 0.1  # peak
    fine_tune_factor: float = 1.0  # the paper has 0.1, at 200 epochs a stage
    warmup: float = 0.25  # fraction of the steps in which the rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-4  # on weights of convolutions and linear layers only
    label_smoothing: float = (
        0.05  # where labels alone teach; with a teacher they are hard (Hinton et al. 2015)
    )
    temperature: float = 4.0  # of distillation
    alpha: float = 0.9  # weight of the distillation loss; 1 - alpha is left for the labels
    augment: bool = False
    refit_ranges: bool = True  # fit activation ranges again when P cuts a quantized network or D trains one
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        for name in (*_POSITIVE, *_FRACTIONS, "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
                raise ValueError(f"recipe {name} must be a finite number, got {value!r}")
            if name != "batch_size":
                object.__setattr__(self, name, float(value))  # 30 and 30.0 are one recipe
        if not isinstance(self.batch_size, int):
            raise ValueError(f"recipe batch_size must be a whole number, got {self.batch_size!r}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"recipe {name} must be positive, got {getattr(self, name)!r}")
        for name in _FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"recipe {name} must lie in [0, 1], got {getattr(self, name)!r}")
        if not self.weight_decay >= 0:
            raise ValueError(f"recipe weight_decay must not be negative, got {self.weight_decay!r}")
        for name in ("augment", "refit_ranges"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"recipe {name} must be true or false, got {getattr(self, name)!r}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"recipe precision must be auto, float32 or bfloat16, got {self.precision!r}")
