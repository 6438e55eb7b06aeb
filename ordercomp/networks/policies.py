"""Exit policies: which heads are asked, and what lets an image leave. One threshold in [0, 1] serves all.

- `confidence`: the largest softmax of a head reaches the threshold (Teerapittayanon et al. 2016).
- `patience`: so many heads in a row name the same class; the threshold is their share of all heads (PABEE,
  Zhou et al. 2020).
- `predictive`: as `confidence`, but after a head that was not sure the next one is asked where confidence,
  taken to rise in proportion to the number of heads, would reach the threshold; those between do not run.
  A near form of Predictive Exit (Li et al. 2023), whose forecast smooths logits instead.
"""

import itertools
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Policy = Literal["confidence", "patience", "predictive"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def agreeing(labels: Tensor) -> Tensor:
    """How many exits in a row before each exit name the same class: (e, n) from labels (e, n)."""
    streaks = [torch.zeros_like(labels[0])]
    for before, now in itertools.pairwise(labels):
        streaks.append((streaks[-1] + 1) * (before == now))
    return torch.stack(streaks)


def next_asked(confidence: Any, place: int, threshold: float, heads: int) -> NDArray[np.int64]:
    """Number of the head that a `predictive` network asks after the one at `place`; `heads`: none of them.

    `confidence` is a number or an array of any shape, like the result.
    """
    wanted = np.ceil(threshold * (place + 1) / np.maximum(confidence, 1e-12)) - 1
    chosen: NDArray[np.int64] = np.clip(wanted, place + 1, heads).astype(np.int64)
    return chosen


def predictive_exits(
    confidence: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where images leave, (n,), and which heads each was spared on its way, (e - 1, n).

    `confidence` has shape (e, n).
    """
    heads, images = len(confidence) - 1, confidence.shape[1]
    places = np.full(images, heads)
    asked_next = np.full(images, 0 if np.isfinite(threshold) else heads)
    asked = np.zeros((heads, images), dtype=bool)
    for place in range(heads):
        asked[place] = (asked_next == place) & (places == heads)
        sure = asked[place] & (confidence[place] >= threshold)
        places[sure] = place
        later = next_asked(confidence[place], place, threshold, heads) if np.isfinite(threshold) else heads
        asked_next = np.where(asked[place], later, asked_next)
    return places, ~asked & (np.arange(heads)[:, None] <= places)


class ExitRule:
    """Decides, head by head, where one image leaves; made anew for each image."""

    def __init__(self, policy: Policy, threshold: float | None, heads: int) -> None:
        self._policy, self._threshold, self._heads = policy, threshold, heads
        self._asked_next = 0 if policy != "predictive" or threshold is not None else heads
        self._labels: list[int] = []

    def asks(self, place: int) -> bool:
        """Whether the head at `place` runs at all."""
        return place >= self._asked_next

    def leaves(self, place: int, logits: Tensor) -> bool:
        """Whether the image leaves, given the logits (1, classes) of that head."""
        if self._threshold is None:
            return False
        sure = float(logits.float().softmax(dim=1).max())
        if self._policy == "patience":
            self._labels.append(int(logits.argmax()))
            sure = float(agreeing(torch.tensor(self._labels)[:, None])[-1]) / self._heads
        if self._policy == "predictive" and sure < self._threshold:
            self._asked_next = int(next_asked(sure, place, self._threshold, self._heads))
        return sure >= self._threshold
