"""Photographs that do not fit into memory: ImageNet and the user's own, decoded while training."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ordercomp import torchvision_compat
from ordercomp.data.assemble import check_labels, class_notices
from ordercomp.data.images import OwnTransform, find_parts
from ordercomp.data.parts import keep_limit
from ordercomp.data.pixels import check_image, open_image
from ordercomp.data.source import IMAGENET, DataError, ImageOptions, Source, find_folder
from ordercomp.data.splits import Batch, ImageData, check_batches
from ordercomp.data.torch_datasets import seeded

_SIDE, _SHORTER_SIDE = 224, 256
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
    workers: int  # processes that decode; 0: none but this one. The images do not depend on it
    unit_mean: tuple[float, ...] = IMAGENET[0]  # of each channel, white being 1
    unit_std: tuple[float, ...] = IMAGENET[1]
    transforms: str = ""  # in place of these: what OwnTransform takes
    size: tuple[int, int] = (_SIDE, _SIDE)  # height and width of an image

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
        check: Callable[[str], None] = check_image
        if self.transforms:
            check = partial(_check_size, OwnTransform(self.transforms, training=False), self.size)
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(check, self.paths):
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
        check_batches(batch_size, rng, augment)
        if rng is None:
            order, seeds = torch.arange(len(self)), torch.zeros(len(self), dtype=torch.int64)
        else:
            order = torch.randperm(len(self), generator=rng)
            seeds = torch.randint(2**62, (len(self),), generator=rng)
        paths = [self.paths[place] for place in order.tolist()]
        loader = DataLoader(
            _Images(paths, seeds.tolist(), self._transform(augment)),
            batch_size=batch_size,
            num_workers=self.workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        return self._batches(loader, order, device)

    def _transform(self, augment: bool) -> Callable[[Image.Image, str], Tensor]:
        """What makes uint8 pixels, shape (3, h, w), of an image and the place it comes from."""
        if self.transforms:
            return OwnTransform(self.transforms, training=augment).bytes
        side = self.size[0]
        vision = torchvision_compat.transforms
        random = [vision.RandomResizedCrop(side), vision.RandomHorizontalFlip()]
        fixed = [vision.Resize(round(side * _SHORTER_SIDE / _SIDE)), vision.CenterCrop(side)]
        return partial(_crop, vision.Compose([*(random if augment else fixed), vision.PILToTensor()]))

    def _batches(self, loader: "DataLoader[Tensor]", order: Tensor, device: torch.device) -> Iterator[Batch]:
        mean, std = (
            255 * torch.tensor(values, device=device).view(3, 1, 1)
            for values in (self.unit_mean, self.unit_std)
        )
        for pixels, index in zip(loader, torch.split(order, loader.batch_size or 1), strict=True):
            images = (pixels.to(device, non_blocking=True).float() - mean) / std
            yield Batch(
                images.contiguous(memory_format=torch.channels_last),
                self.labels[index].to(device),
                index.to(device),
            )


def _check_size(own: OwnTransform, size: tuple[int, int], path: str) -> None:
    """Raise DataError unless transforms of the user's give an image this height and width."""
    made = tuple(own.bytes(open_image(path).convert("RGB"), path).shape[1:])
    if made != size:
        raise DataError(f"transforms must give one size (h, w), got {size} and {made} for {path}")


def _crop(compose: Callable[[Image.Image], Tensor], image: Image.Image, _place: str) -> Tensor:
    return compose(image)


@dataclass(frozen=True)
class _Images(Dataset[Tensor]):
    """Transformed uint8 images (3, h, w) in a given order; what is random in one has its own seed."""

    paths: list[str]
    seeds: list[int]
    transform: Callable[[Image.Image, str], Tensor]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        path = self.paths[place]
        image = open_image(path).convert("RGB")
        with seeded(self.seeds[place]):
            return self.transform(image, path)


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
    if options.normalize == "data":
        raise DataError(f"normalize = 'data' needs images in memory, not {source.name}; tell mean and std")
    side, (mean, std) = options.image_size or _SIDE, options.stated(source.name, 3) or IMAGENET
    (train, *held_out), notices = find_parts(source, folder)
    classes = len(train.classes)
    check_labels(f"{source.name} (training part)", train.labels, classes=classes, least=classes)
    trees = (train[keep_limit(train.labels, source, classes=classes)], *held_out)
    size = _transformed_size(trees[0].paths[0], options.transforms) if options.transforms else (side, side)
    train_split, validation_split, test_split = splits = [
        StreamedSplit(
            paths=tree.paths,
            labels=torch.from_numpy(tree.labels),
            unit_mean=mean,
            unit_std=std,
            workers=min(_MOST_WORKERS, (os.cpu_count() or 1) - 1),
            transforms=options.transforms,
            size=size,
        )
        for tree in trees
    ]
    facts = f"{classes} {source.split_seed}"
    facts += "" if options == ImageOptions() else f"{side} {mean} {std}"
    return ImageData(
        name=source.name,
        classes=classes,
        channels=3,
        size=size,
        train=train_split,
        validation=validation_split,
        test=test_split,
        digest=_digest(splits, folder, facts),
        names=train.classes,
        notices=(*notices, *class_notices(source, splits, classes=classes, names=train.classes)),
    )


def _digest(splits: Sequence[StreamedSplit], folder: Path, facts: str) -> str:
    """Of names, sizes and times of change of all files, and their labels: they are too many to be read."""
    digest = hashlib.sha256(facts.encode())
    for split in splits:
        for path, label in zip(split.paths, split.labels.tolist(), strict=True):
            file = os.stat(path)
            line = f"{os.path.relpath(path, folder)} {file.st_size} {file.st_mtime_ns} {label}\n"
            digest.update(line.encode())
    return digest.hexdigest()


def _transformed_size(path: str, transforms_path: str) -> tuple[int, int]:
    """Height and width that transforms of the user's give an image, in training and after it."""
    image = open_image(path).convert("RGB")
    with seeded(0):
        training, after = (
            OwnTransform(transforms_path, training=training).bytes(image, path).shape
            for training in (True, False)
        )
    if training != after:
        raise DataError(
            f"transforms {transforms_path} must give one size, got {tuple(training[1:])} in training and "
            f"{tuple(after[1:])} else"
        )
    return after[1], after[2]
