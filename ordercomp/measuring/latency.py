"""Latencies as records hold them: of an image up to each exit, beside the uncompressed network."""

from collections.abc import Sequence
from dataclasses import dataclass

from ordercomp.codec import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitLatencies:
    """Median milliseconds of one image, exported, in onnxruntime on one thread, all measured in turns."""

    exits_ms: tuple[Number, ...]  # if it leaves at exit 1, 2, …, last, heads before it included
    baseline_ms: Number  # of the uncompressed network in float

    def at(self, shares: Sequence[float]) -> dict[str, float]:
        """What a point tells whose `shares` of the images leave at each exit.

        `latency_ms` of an image, and `latency_cr`: how many times faster it is than uncompressed.
        """
        expected = sum(share * ms for share, ms in zip(shares, self.exits_ms, strict=True))
        return {"latency_ms": expected, "latency_cr": self.baseline_ms / expected}
