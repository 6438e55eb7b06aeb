"""Augmentation of image batches with tensor operations: one gather takes a batch out of the data, cropped."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Draws:
    """The random choices for n images: the corner of each crop and whether it is mirrored."""

    rows: Tensor  # int64, shape (n,), in 0 … 2·padding
    columns: Tensor  # int64, shape (n,), in 0 … 2·padding
    mirrored: Tensor  # bool, shape (n,)

    def __getitem__(self, part: slice) -> "Draws":
        return Draws(self.rows[part], self.columns[part], self.mirrored[part])

    def to(self, device: torch.device) -> "Draws":
        """The same choices on another device."""
        return Draws(self.rows.to(device), self.columns.to(device), self.mirrored.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random crops of zero-padded images and mirroring; the usual recipe for CIFAR (He et al. 2015)."""

    padding: int = 0  # pixels on each side; 0 crops nothing
    flip: bool = False  # mirror left and right with probability one half

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got {self.padding}")

    @property
    def changes(self) -> bool:
        """Whether it does anything at all."""
        return self.padding > 0 or self.flip

    def draw(self, count: int, rng: torch.Generator) -> Draws:
        """Draw the choices for `count` images with `rng`, a generator on the CPU."""
        corners = torch.randint(2 * self.padding + 1, (2, count), generator=rng)
        mirrored = torch.rand(count, generator=rng) < (0.5 if self.flip else 0.0)
        return Draws(corners[0], corners[1], mirrored)

    def pad(self, images: Tensor) -> Tensor:
        """Add black borders to `images`, shape (n, h, w, c)."""
        margin = self.padding
        return functional.pad(images, (0, 0, margin, margin, margin, margin)) if margin else images

    def crop(self, padded: Tensor, index: Tensor, draws: Draws) -> Tensor:
        """Take the images `index`, shape (k,), out of `padded`, shape (n, h + 2p, w + 2p, c), as drawn.

        `padded` is contiguous; all three lie on one device. Returns shape (k, h, w, c) of the same type.
        """
        _, tall, wide, channels = padded.shape
        height, width = tall - 2 * self.padding, wide - 2 * self.padding
        corners = (index * tall + draws.rows) * wide + draws.columns
        starts = (corners[:, None] + wide * torch.arange(height, device=padded.device)).reshape(-1)
        # Every stretch of `width` pixels, as overlapping rows of a view: to take one is to copy memory.
        places = padded.numel() // channels - width + 1
        stretches = padded.view(-1).as_strided((places, width * channels), (channels, 1))
        images = stretches.index_select(0, starts).view(len(index), height, width, channels)
        if not self.flip:
            return images
        if padded.device.type == "cpu":
            mirrored = draws.mirrored.nonzero().squeeze(1)
            return images.index_copy_(0, mirrored, images.index_select(0, mirrored).flip(2))
        return torch.where(draws.mirrored[:, None, None, None], images.flip(2), images)  # waits for no count
