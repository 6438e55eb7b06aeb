"""What a network needs beside its weights to be used: how images become inputs, and when they leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Normalization and exit threshold; by default images are taken as they come, and all go to the end."""

    mean: tuple[float, ...] = ()  # of each channel, in units of stored pixel values; empty: no normalization
    std: tuple[float, ...] = ()
    names: tuple[str, ...] = ()  # of the classes, in the order of their numbers; empty: not known
    scale: tuple[float, ...] = ()  # of real targets: what an output of 0 is, and a difference of 1
    threshold: float | None = None  # an image leaves at the first exit whose largest softmax reaches it

    def __post_init__(self) -> None:
        if self.scale and (len(self.scale) != 2 or not math.isfinite(self.scale[0]) or not self.scale[1] > 0):
            raise ValueError(f"scale must be a finite number and a positive one, got {self.scale}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must be equally long, got {len(self.mean)} and {len(self.std)}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"mean must be finite and std positive, got {self.mean} and {self.std}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number or None, got {self.threshold}")

    def to_facts(self) -> dict[str, Any]:
        """As JSON can hold it."""
        told = {"mean": list(self.mean), "std": list(self.std), "threshold": self.threshold}
        more = {name: list(getattr(self, name)) for name in ("names", "scale") if getattr(self, name)}
        return {**told, **more}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Serving":
        """Read what `to_facts` wrote. Raises ValueError, TypeError or KeyError if it is something else."""
        threshold = facts["threshold"]
        return cls(
            mean=_floats(facts["mean"]),
            std=_floats(facts["std"]),
            scale=_floats(facts.get("scale", ())),
            names=_texts(facts.get("names", ())),
            threshold=None if threshold is None else float(threshold),
        )


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"names must be a list of texts, got {values!r}")
    return tuple(values)


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
