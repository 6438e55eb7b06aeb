"""Splits of a data set: images in memory or streamed, handed out in normalized batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

_CPU = torch.device("cpu")
_FLOAT_BYTES = 2**26  # splits up to this size are kept normalized in float32


@dataclass(frozen=True, slots=True)
class Crops:
    """The random choices for n images: the corner of each crop and whether it is mirrored."""

    rows: Tensor  # int64, shape (n,), in 0 … 2·padding
    columns: Tensor  # int64, shape (n,), in 0 … 2·padding
    mirrored: Tensor  # bool, shape (n,)

    def __getitem__(self, part: slice) -> "Crops":
        return Crops(self.rows[part], self.columns[part], self.mirrored[part])

    def to(self, device: torch.device) -> "Crops":
        """The same choices on another device."""
        return Crops(self.rows.to(device), self.columns.to(device), self.mirrored.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random crops of zero-padded images and mirroring; the usual recipe for CIFAR (He et al. 2015).

    One gather takes a batch out of the data, cropped.
    """

    padding: int = 0  # pixels on each side; 0 crops nothing
    flip: bool = False  # mirror left and right with probability one half

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got {self.padding}")

    @property
    def changes(self) -> bool:
        """Whether it does anything at all."""
        return self.padding > 0 or self.flip

    def draw(self, count: int, rng: torch.Generator) -> Crops:
        """Draw the choices for `count` images with `rng`, a generator on the CPU."""
        corners = torch.randint(2 * self.padding + 1, (2, count), generator=rng)
        mirrored = torch.rand(count, generator=rng) < (0.5 if self.flip else 0.0)
        return Crops(corners[0], corners[1], mirrored)

    def pad(self, images: Tensor) -> Tensor:
        """Add black borders to `images`, shape (n, h, w, c)."""
        margin = self.padding
        return functional.pad(images, (0, 0, margin, margin, margin, margin)) if margin else images

    def crop(self, padded: Tensor, index: Tensor, draws: Crops) -> Tensor:
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one training step."""

    images: Tensor  # float32, normalized, shape (n, c, h, w), channels last in memory
    labels: Tensor  # int64, or float32 where targets are real, shape (n,)
    index: Tensor  # int64, shape (n,): positions in the split


class Split(Protocol):
    """Labeled images of one purpose: training, validation or test."""

    @property
    def labels(self) -> Tensor:
        """Class numbers from 0, int64, or real targets, float32; shape (n,), on the CPU."""

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        rng: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device = _CPU,
    ) -> Iterator[Batch]:
        """Go through the split once; the last batch may be smaller.

        Args:
            batch_size: images in a batch.
            rng: generator on the CPU for shuffling and augmentation; None keeps the order of the split.
            augment: whether to apply the data set's augmentation; needs `rng`.
            device: where the batches lie.
        """


@dataclass(frozen=True)
class OneBatch:
    """A split of a single batch, whatever is asked for."""

    batch: Batch

    @property
    def labels(self) -> Tensor:
        return self.batch.labels

    def __len__(self) -> int:
        return len(self.batch.labels)

    def batches(self, batch_size: int, **_options: Any) -> Iterator[Batch]:
        """Give the batch."""
        return iter([self.batch])


def check_batches(batch_size: int, rng: torch.Generator | None, augment: bool) -> None:
    """Raise ValueError unless a split can be gone through so."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    if augment and rng is None:
        raise ValueError("augment needs rng, a generator for the random crops")


@dataclass(frozen=True, kw_only=True)
class MemorySplit:
    """A split that lies in memory as one tensor."""

    images: Tensor  # uint8 or float32, shape (n, h, w, c)
    labels: Tensor  # int64 or float32, shape (n,)
    mean: tuple[float, ...]  # of each channel, in units of the stored values
    std: tuple[float, ...]
    augmentation: Augmentation
    _resident: dict[tuple[torch.device, str], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images.dtype not in (torch.uint8, torch.float32) or self.images.dim() != 4:
            raise ValueError(
                f"images must be uint8 or float32 of shape (n, h, w, c), got {tuple(self.images.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images do not fit {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self, device: torch.device = _CPU) -> tuple[Tensor, Tensor]:
        """All images, normalized, shape (n, c, h, w), channels last, and all labels, on `device`."""
        return self._normalized(device).permute(0, 3, 1, 2), self._labels(device)

    def batches(
        self,
        batch_size: int,
        *,
        rng: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device = _CPU,
    ) -> Iterator[Batch]:
        """Go through the split once, as Split says; the split stays resident on `device` from then on.

        Raises ValueError if batch_size is not positive, or if `augment` is asked for without `rng`.
        """
        check_batches(batch_size, rng, augment)
        order = torch.arange(len(self)) if rng is None else torch.randperm(len(self), generator=rng)
        draws = None
        if rng is not None and augment and self.augmentation.changes:
            draws = self.augmentation.draw(len(self), rng).to(device)
        return self._batches(batch_size, order.to(device), draws)

    def _batches(self, batch_size: int, order: Tensor, draws: Crops | None) -> Iterator[Batch]:
        labels = self._labels(order.device)
        small = draws is None and 4 * self.images.numel() <= _FLOAT_BYTES
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            index = order[part]
            if draws is not None:
                pixels = self.augmentation.crop(self._padded(order.device), index, draws[part])
            elif small:
                pixels = self._normalized(order.device).index_select(0, index)
            else:
                pixels = self._stored(order.device).index_select(0, index)
            images = pixels if small else self._normalize(pixels)
            yield Batch(images.permute(0, 3, 1, 2), labels[index], index)

    def _normalize(self, pixels: Tensor) -> Tensor:
        """Float images of uint8 ones, both of shape (k, h, w, c), by one fast pass over all values."""
        device = pixels.device
        scale = self._keep(device, "scale", lambda: self._spread([1 / std for std in self.std]))
        shifts = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        shift = self._keep(device, "shift", lambda: self._spread(shifts))
        return torch.addcmul(shift, pixels.flatten(1).float(), scale).view(pixels.shape)

    def _spread(self, values: list[float]) -> Tensor:
        """Numbers of each channel for each value of an image."""
        height, width, _ = self.images.shape[1:]
        return torch.tensor(values, dtype=torch.float32).repeat(height * width)

    def _stored(self, device: torch.device) -> Tensor:
        return self._keep(device, "images", lambda: self.images)

    def _normalized(self, device: torch.device) -> Tensor:
        return self._keep(device, "normalized", lambda: self._normalize(self._stored(device)))

    def _padded(self, device: torch.device) -> Tensor:
        return self._keep(device, "padded", lambda: self.augmentation.pad(self._stored(device)).contiguous())

    def _labels(self, device: torch.device) -> Tensor:
        return self._keep(device, "labels", lambda: self.labels)

    def _keep(self, device: torch.device, kind: str, make: Callable[[], Tensor]) -> Tensor:
        """A tensor of the split on `device`, made and moved there only the first time."""
        kept = self._resident.get((device, kind))
        if kept is None:
            kept = self._resident[device, kind] = make().to(device)
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageData:
    """A data set, split for training, for choosing and for the final report."""

    name: str
    classes: int  # outputs of a network; 1 where targets are real
    channels: int
    size: tuple[int, int]  # height and width of an image
    train: Split
    validation: Split
    test: Split
    digest: str  # hexadecimal; differs if an image, a label or the split does
    real: bool = False  # whether targets are real numbers instead of classes
    center: float = 0.0  # of real targets: the mean of the training part
    spread: float = 1.0  # and their standard deviation
    names: tuple[str, ...] = ()  # of the classes, in the order of their numbers; empty: not known
    notices: tuple[str, ...] = ()  # what a user should know of these data, a line each

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel that images are normalized with, in stored values.

        Two empty tuples where the training part, a class of the user's, does not tell.
        """
        return tuple(getattr(self.train, "mean", ())), tuple(getattr(self.train, "std", ()))

    def shrunk(self, share: float) -> "ImageData":
        """The same data with images of a `share` of the height and width, in (0, 1], by means over areas.

        Raises ValueError if images are streamed, or too small for it.
        """
        size = (round(self.size[0] * share), round(self.size[1] * share))
        if min(size) < 1:
            raise ValueError(f"images of {self.name}, {self.size}, are too small for a share of {share:g}")

        def smaller(split: Split) -> Split:
            if not isinstance(split, MemorySplit):
                raise ValueError(f"images of {self.name} are streamed, and cannot be made smaller")
            pixels = split.images.permute(0, 3, 1, 2).float()
            means = functional.interpolate(pixels, size=size, mode="area")
            return replace(split, images=means.permute(0, 2, 3, 1).contiguous(), _resident={})

        return replace(
            self,
            size=size,
            train=smaller(self.train),
            validation=smaller(self.validation),
            test=smaller(self.test),
            digest=f"{self.digest} {size}",
        )
