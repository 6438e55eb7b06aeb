"""The content of a law.json: a law, what else speaks on it, the answer, and the networks to take."""

from dataclasses import dataclass, field
from typing import TypeVar

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.law.findings import Law
from ordercomp.analysis.networks import Pick
from ordercomp.analysis.sampled import AdaptiveEvidence
from ordercomp.codec import FLAT, OMITTED, Plain, decode


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFile:
    """A law that pairs of a design decide; what a sampler's networks say stands beside it."""

    law: Law = field(metadata=FLAT)
    evidence: str = "paired"
    adaptive: AdaptiveEvidence | None = None
    metric: str = field(default="accuracy", metadata=OMITTED)  # what is lost
    answer: Answer | None = field(default=None, metadata=OMITTED)
    networks: tuple[Pick, ...] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveFile:
    """What networks that a sampler chose say, where there are no others."""

    law: AdaptiveEvidence = field(metadata=FLAT)
    metric: str = field(default="accuracy", metadata=OMITTED)  # what is lost
    answer: Answer | None = field(default=None, metadata=OMITTED)
    networks: tuple[Pick, ...] | None = field(default=None, metadata=OMITTED)

    @property
    def adaptive(self) -> AdaptiveEvidence | None:
        """Nothing beside what this is itself."""
        return None


AnyFile = TypeVar("AnyFile", LawFile, AdaptiveFile)


def read_law(data: Plain, what: str = "law.json") -> LawFile | AdaptiveFile:
    """Read the content of a law.json, be it with the keys of the contract alone or with more.

    Keys that nobody here knows are left out. Raises ValueError naming a key that is missing or holds
    something else than expected.
    """
    if data.get("evidence") == "adaptive":
        return decode(data, AdaptiveFile, what, strict=False)
    return decode(data, LawFile, what, strict=False)
