"""Do exits save time here? One file inside which images leave, beside the same network without exits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ordercomp.shipping.exit_graphs import branch_at_exits
from ordercomp.shipping.graph import Array, clean
from ordercomp.shipping.latency import median_times
from ordercomp.shipping.onnx import copy_model, onnx_session

ALWAYS, NEVER = -1.0, 2.0  # thresholds of a largest softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitTimes:
    """Median milliseconds of one image in onnxruntime, all measured in turns."""

    whole_ms: float  # through the network without exits
    exits_ms: tuple[float, ...]  # if it leaves at exit 1, 2, …, last, inside one file (`export --branches`)
    shares: tuple[float, ...]  # of test images that leave at each, at the stored threshold; empty: not known

    @property
    def pays_from(self) -> float | None:
        """Share of the images that must leave at the first exit to save time if all others stay.

        None if exits never do.
        """
        first, last = self.exits_ms[0], self.exits_ms[-1]
        if first >= self.whole_ms:
            return None
        return max(0.0, (last - self.whole_ms) / (last - first))

    @property
    def of_whole(self) -> float | None:
        """The expected time of an image as a share of `whole_ms`; None: shares are not known."""
        if not self.shares:
            return None
        return float(np.dot(self.shares, self.exits_ms)) / self.whole_ms


def measure_exits(
    model: onnx.ModelProto, image: Array, *, repeats: int, threads: int = 1, shares: Sequence[float] = ()
) -> ExitTimes:
    """Time an exported network of classes, which gives logits of all its exits, on an image (1, c, h, w)."""
    last = len(model.graph.output) - 1
    models = [_without_exits(model)]
    for place in range(last + 1):
        bars = [NEVER] * place + [ALWAYS] * (last - place)
        models.append(branch_at_exits(copy_model(model), bars))
    sessions = [onnx_session(variant.SerializeToString(), threads=threads) for variant in models]
    inputs = {"image": image}
    runs = {str(place): partial(session.run, None, inputs) for place, session in enumerate(sessions)}
    whole_ms, *exits_ms = median_times(runs, repeats, 1, threads=threads).values()
    return ExitTimes(whole_ms=whole_ms, exits_ms=tuple(exits_ms), shares=tuple(shares))


def leaving_shares(session: InferenceSession, images: Tensor, threshold: float | None) -> tuple[float, ...]:
    """Shares of the images (n, c, h, w) that leave at each exit; without a threshold all take the last."""
    places = []
    for part in torch.split(images, 64):
        logits = np.stack(session.run(None, {"image": part.contiguous().numpy()}))
        chances = np.exp(logits - logits.max(axis=2, keepdims=True))
        sure = (chances.max(axis=2) / chances.sum(axis=2)) >= (np.inf if threshold is None else threshold)
        sure[-1] = True
        places.append(sure.argmax(axis=0))
    counts = np.bincount(np.concatenate(places), minlength=len(session.get_outputs()))
    return tuple((counts / counts.sum()).tolist())


def describe_exits(times: ExitTimes) -> str:
    """Say what leaving saves here, and from which share of the images on it pays."""
    first, last = (ms / times.whole_ms for ms in (times.exits_ms[0], times.exits_ms[-1]))
    sentence = (
        f"Exits, in one file: an image that leaves at the first takes {first:.2f} of the time of the network "
        f"without exits, one that stays {last:.2f}"
    )
    if times.pays_from is None:
        return f"{sentence}; they do not pay here, however many leave."
    sentence += f"; they pay here if more than {times.pays_from:.0%} leave at the first."
    if (expected := times.of_whole) is not None:
        share = times.shares[0]
        sentence += f" At the stored threshold {share:.0%} of the test images do: {expected:.2f} of it."
    return sentence


def _without_exits(model: onnx.ModelProto) -> onnx.ModelProto:
    last_only = copy_model(model)
    del last_only.graph.output[:-1]
    clean(last_only.graph)
    return last_only
