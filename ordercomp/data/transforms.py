"""Transforms of the user's for images in folders: one for training, and one for all else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ordercomp.data.pixels import open_image
from ordercomp.data.source import DataError
from ordercomp.data.torch_datasets import as_pixels
from ordercomp.data.tree import Tree
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.plugins import load_function


class OwnTransform:
    """What the function at `path` makes of a PIL image; it is called with `training`, true or false.

    Raises DataError if the function cannot be had, fails, or makes something that cannot be called.
    """

    def __init__(self, path: str, *, training: bool) -> None:
        self._path = path
        try:
            made = load_function(path)(training=training)
        except Exception as error:
            raise self._failed(error, f"with training={training}") from error
        if not callable(made):
            raise DataError(
                f"transforms {path} must return a function of one PIL image, got {type(made).__name__}"
            )
        self._transform: Callable[[Image.Image], Any] = made

    def __call__(self, image: Image.Image, place: str) -> Any:
        """The image as the function makes it; `place` says where it comes from. Raises DataError."""
        try:
            return self._transform(image)
        except Exception as error:
            raise self._failed(error, f"on {place}") from error

    def bytes(self, image: Image.Image, place: str) -> Tensor:
        """As 8-bit pixels, shape (3, h, w). Raises DataError for values that are none, or no color."""
        pixels = as_pixels(self(image, place), place)
        if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 1):
            raise DataError(
                f"transforms {self._path} must give pixels from 0 to 1, or bytes, got {pixels.min():.3g} to "
                f"{pixels.max():.3g} for {place}; tell mean and std in the task"
            )
        if pixels.shape[2] != 3:
            raise DataError(
                f"transforms {self._path} must give 3 channels, got {pixels.shape[2]} for {place}"
            )
        whole = pixels if pixels.dtype == np.uint8 else np.round(255 * pixels).astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(whole.transpose(2, 0, 1)))

    def _failed(self, error: Exception, where: str) -> Exception:
        if isinstance(error, DataError) or is_out_of_memory(error):
            return error
        if isinstance(error, ValueError) and self._path in str(error):
            return DataError(f"transforms: {one_line(error)}")
        return DataError(f"transforms {self._path} failed {where}: {type(error).__name__}: {one_line(error)}")


@dataclass(frozen=True)
class TransformedImages:
    """A Dataset of the images of a tree, transformed, and the numbers of their classes."""

    tree: Tree
    mode: str  # "L" or "RGB"
    transform: OwnTransform

    def __len__(self) -> int:
        return len(self.tree.paths)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        path = self.tree.paths[place]
        return self.transform(open_image(path).convert(self.mode), path), int(self.tree.labels[place])
