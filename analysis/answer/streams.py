"""Random numbers for the chains of several tables: one stream a table, so none sees its neighbours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SOURCE = 20261126  # of all streams


class Streams:
    """One stream of random numbers for each table, all started alike.

    Every method takes and returns arrays whose first axis are the chains, those of a table together.
    """

    def __init__(self, tables: int) -> None:
        self._sources = [np.random.default_rng(SOURCE) for _ in range(tables)]

    def normal(self, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal numbers."""
        return self._filled(shape, lambda source, part: source.standard_normal(part))

    def uniform(self, shape: tuple[int, ...]) -> FloatArray:
        """Numbers from [0, 1)."""
        return self._filled(shape, lambda source, part: source.random(part))

    def chisquare(self, freedom: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Chi-square with these degrees of freedom."""
        return self._mapped(freedom, lambda source, part: source.chisquare(part))

    def gamma(self, shape: FloatArray) -> FloatArray:
        """Gamma with these shape parameters and scale 1."""
        return self._mapped(shape, lambda source, part: source.gamma(part))

    def _filled(
        self, shape: tuple[int, ...], draw: Callable[[np.random.Generator, tuple[int, ...]], FloatArray]
    ) -> FloatArray:
        part = (shape[0] // len(self._sources), *shape[1:])
        return np.concatenate([draw(source, part) for source in self._sources])

    def _mapped(
        self,
        parameters: npt.NDArray[np.floating[Any]],
        draw: Callable[[np.random.Generator, npt.NDArray[np.floating[Any]]], FloatArray],
    ) -> FloatArray:
        parts = np.split(parameters, len(self._sources))
        return np.concatenate([draw(source, part) for source, part in zip(self._sources, parts, strict=True)])
