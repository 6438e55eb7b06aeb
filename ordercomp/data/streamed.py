"""Photographs that do not fit into memory: ImageNet and the user's own, decoded while training."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ordercomp.data.assemble import check_labels, keep_limit
from ordercomp.data.images import OwnTransform, Tree, check_image, find_parts, open_image, parts_notices
from ordercomp.data.source import DataError, ImageOptions, Source, class_notices, find_folder
from ordercomp.data.splits import Batch, ImageData
from ordercomp.data.torch_datasets import seeded
from ordercomp.torchvision_compat import transforms

_SIDE, _SHORTER_SIDE = 224, 256
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in units of 1
_CPU = torch.device("cpu")
_MOST_WORKERS = 16
_ADVICE = (
    "get the training and validation images of ILSVRC 2012 from image-net.org and sort them into train/CLASS "
    "and val/CLASS there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedSplit:
    """A split whose images are read from disk in each epoch, by processes of their own.

    With augmentation a random part of 8 to 100 % of the image's area is resized to 224x224 and mirrored half
    of the time; without, the shorter side becomes 256 and the center counts (Szegedy et al. 2015).
    """

    paths: tuple[str, ...]
    labels: Tensor
    side: int = _SIDE  # height and width of an image
    workers: int  # processes that decode; 0: none but this one. The images do not depend on it
    unit_mean: tuple[float, ...] = _MEAN  # of each channel, white being 1
    unit_std: tuple[float, ...] = _STD
    transforms: str = ""  # in place of these: what OwnTransform takes
    size: tuple[int, int] = (_SIDE, _SIDE)  # height and width that these make

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel that images are normalized with, in units of the stored values."""
        return tuple(255 * value for value in self.unit_mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, in the same units."""
        return tuple(255 * value for value in self.unit_std)

    def __len__(self) -> int:
        return len(self.paths)

    def check(self) -> None:
        """Decode every image as quickly as can be, or transform it as the user's transforms do.

        Raises DataError for one that is damaged, that these fail on, or that they give another size.
        """
        one = _ShapeCheck(self.transforms, self.size) if self.transforms else check_image
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(one, self.paths):
                pass

    def batches(
        self,
        batch_size: int,
        *,
        rng: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device = _CPU,
    ) -> Iterator[Batch]:
        """Go through the split once, as Split says.

        Raises ValueError if batch_size is not positive, or if `augment` is asked for without `rng`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        if augment and rng is None:
            raise ValueError("augment needs rng, a generator for the random crops")
        if rng is None:
            order, seeds = torch.arange(len(self)), torch.zeros(len(self), dtype=torch.int64)
        else:
            order = torch.randperm(len(self), generator=rng)
            seeds = torch.randint(2**62, (len(self),), generator=rng)
        items = _Images(self.paths, order.tolist(), seeds.tolist(), augment, self.side, self.transforms)
        return self._batches(
            DataLoader(
                items,
                batch_size=batch_size,
                num_workers=self.workers,
                pin_memory=device.type == "cuda",
                generator=torch.Generator(),  # else the loader draws from the global one
            ),
            order,
            device,
        )

    def _batches(self, loader: "DataLoader[Tensor]", order: Tensor, device: torch.device) -> Iterator[Batch]:
        mean, std = (
            255 * torch.tensor(values, device=device).view(3, 1, 1)
            for values in (self.unit_mean, self.unit_std)
        )
        start = 0
        for pixels in loader:
            index = order[start : start + len(pixels)]
            start += len(pixels)
            images = (pixels.to(device, non_blocking=True).float() - mean) / std
            yield Batch(
                images.contiguous(memory_format=torch.channels_last),
                self.labels[index].to(device),
                index.to(device),
            )


class _ShapeCheck:
    """Raises DataError unless transforms of the user's give an image this height and width."""

    def __init__(self, transforms_path: str, size: tuple[int, int]) -> None:
        self._own, self._size = OwnTransform(transforms_path, training=False), size

    def __call__(self, path: str) -> None:
        found = tuple(self._own.bytes(open_image(path).convert("RGB"), path).shape[1:])
        if found != self._size:
            raise DataError(f"transforms must give one size (h, w), got {self._size} and {found} for {path}")


class _Images(Dataset[Tensor]):
    """Decoded uint8 images (3, side, side) in a given order; each random crop has its own seed."""

    def __init__(
        self,
        paths: tuple[str, ...],
        order: list[int],
        seeds: list[int],
        augment: bool,
        side: int,
        transforms_path: str,
    ) -> None:
        self.paths, self.order, self.seeds, self.augment = paths, order, seeds, augment
        random = [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip()]
        fixed = [transforms.Resize(round(side * _SHORTER_SIDE / _SIDE)), transforms.CenterCrop(side)]
        self.own = OwnTransform(transforms_path, training=augment) if transforms_path else None
        self.transform = transforms.Compose([*(random if augment else fixed), transforms.PILToTensor()])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> Tensor:
        path = self.paths[self.order[place]]
        image = open_image(path).convert("RGB")
        if self.own is not None:
            with seeded(self.seeds[place]):
                return self.own.bytes(image, path)
        with torch.random.fork_rng(devices=[]):  # the transforms draw from the global generator
            torch.manual_seed(self.seeds[place])
            pixels: Tensor = self.transform(image)
        return pixels


def load_imagenet(source: Source) -> ImageData:
    """ImageNet (ILSVRC 2012) at 224x224; the official validation images are the test part.

    50 000 of the training images are cut off for validation.
    """
    folders = ("imagenet", "ImageNet", "ILSVRC2012")
    return _load(source, find_folder(source, folders, ("train", "val"), advice=_ADVICE))


def load_photos(source: Source) -> ImageData:
    """The images of `photos:PATH`, of any size, treated like ImageNet's; laid out as find_parts says."""
    return _load(source, Path(source.name.partition(":")[2]).expanduser())


def _load(source: Source, folder: Path) -> ImageData:
    if source.augmentation is not None:
        raise DataError(f"{source.name} has an augmentation of its own; leave out {source.augmentation}")
    options = source.options
    side, mean, std = options.image_size or _SIDE, options.mean or _MEAN, options.std or _STD
    if len(mean) != 3:
        raise DataError(f"mean and std must have 3 numbers for {source.name}, got {len(mean)}")
    train, *held_out = find_parts(source, folder)
    classes = len(train.classes)
    check_labels(f"{source.name} (training part)", train.labels, classes=classes, least=classes)
    train = train[keep_limit(train.labels, source, classes=classes)]
    workers = min(_MOST_WORKERS, (os.cpu_count() or 1) - 1)
    digest = hashlib.sha256(f"{classes} {source.split_seed}".encode())
    size = _transformed_size(train, options.transforms) if options.transforms else (side, side)
    digest.update(f"{side} {mean} {std}".encode() if options != ImageOptions() else b"")
    splits = []
    parts = dict(zip(("training", "validation", "test"), (train, *held_out), strict=True))
    for tree in parts.values():
        for path, label in zip(tree.paths, tree.labels.tolist(), strict=True):
            file = os.stat(path)
            facts = f"{os.path.relpath(path, folder)} {file.st_size} {file.st_mtime_ns} {label}\n"
            digest.update(facts.encode())
        splits.append(
            StreamedSplit(
                paths=tree.paths,
                labels=torch.from_numpy(tree.labels),
                unit_mean=mean,
                unit_std=std,
                side=side,
                workers=workers,
                transforms=options.transforms,
                size=size,
            )
        )
    return ImageData(
        name=source.name,
        classes=classes,
        channels=3,
        size=size,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        digest=digest.hexdigest(),
        names=train.classes,
        notices=(
            *parts_notices(source, folder),
            *class_notices(
                source,
                {what: tree.labels for what, tree in parts.items()},
                classes=classes,
                names=train.classes,
            ),
        ),
    )


def _transformed_size(tree: Tree, path: str) -> tuple[int, int]:
    """Height and width that transforms of the user's give the first image, in training and after it."""
    image = open_image(tree.paths[0]).convert("RGB")
    with seeded(0):
        shapes = [OwnTransform(path, training=one).bytes(image, tree.paths[0]).shape for one in (True, False)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"transforms {path} must give one size, got {tuple(shapes[0][1:])} in training and "
            f"{tuple(shapes[1][1:])} else"
        )
    return shapes[0][1], shapes[0][2]
