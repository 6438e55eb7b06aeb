"""From arrays to a data set: seeded stratified splits, normalization from the training part, digest."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ordercomp.data.source import DataError, Source, class_notices
from ordercomp.data.splits import Augmentation, ImageData, MemorySplit

IntArray = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]  # class numbers, int64, or real targets, float32

_PURPOSES = ("training", "validation", "test")
_TENTHS = 10
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.1, 50_000


@dataclass(frozen=True, slots=True)
class Labeled:
    """Images and labels as read from disk."""

    images: npt.NDArray[Any]  # uint8, or float32 of any range, shape (n, h, w, c)
    labels: Labels  # shape (n,)

    def __getitem__(self, index: IntArray) -> "Labeled":
        return Labeled(self.images[index], self.labels[index])


def stratified(labels: Labels, sizes: Sequence[int], *, rng: np.random.Generator) -> list[IntArray]:
    """Draw disjoint parts of the given sizes in which the classes have the shares that they have in `labels`.

    Of real targets each tenth of their range, by rank, counts as a class.
    Returns one sorted index array per size. Class counts are within two of exact shares.
    Raises ValueError if a size is negative or the sizes add up to more than there is.
    """
    if sum(sizes) > len(labels) or min(sizes, default=0) < 0:
        raise ValueError(f"sizes must not be negative nor exceed {len(labels)} in all, got {list(sizes)}")
    if labels.dtype.kind == "f":
        labels = np.argsort(np.argsort(labels, kind="stable")) * _TENTHS // max(1, len(labels))
    # Shuffle, then spread the images of each class evenly over [0, 1): every stretch of it is stratified.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    places = [(np.arange(count) + rng.random()) / count for count in counts]
    spread = order[np.argsort(np.concatenate([*places, []]), kind="stable")]
    return [np.sort(part) for part in np.split(spread, np.cumsum(sizes))[: len(sizes)]]


def hold_out(labels: Labels, *, split_seed: int) -> tuple[IntArray, IntArray]:
    """Cut a validation part from official training images: a tenth, at most 50 000; returns (kept, cut)."""
    cut = min(max(1, round(_HELD_OUT_SHARE * len(labels))), _MOST_HELD_OUT)
    kept, held_out = stratified(labels, (len(labels) - cut, cut), rng=np.random.default_rng(split_seed))
    return kept, held_out


def keep_limit(labels: Labels, source: Source, *, classes: int) -> IntArray:
    """Indices of the training images to keep: all, or a stratified choice of `train_limit`.

    Raises DataError if the limit is smaller than the number of classes.
    """
    limit = source.train_limit
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    if limit < classes:
        raise DataError(f"train_limit of {source.name} must be at least its {classes} classes, got {limit}")
    return stratified(labels, [limit], rng=np.random.default_rng((source.split_seed, 1)))[0]


def check_labels(name: str, labels: IntArray, *, classes: int, least: int) -> None:
    """Raise DataError if there are fewer than `least` images, or a label that is not in 0 … classes - 1."""
    if len(labels) < least:
        what = f"its {classes} classes" if least == classes else str(least)
        raise DataError(f"{name} has {len(labels)} images, fewer than {what}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{name} must have labels 0 to {classes - 1}, got {labels.min()} to {labels.max()}; "
            "are the files those of another data set?"
        )


def assemble(
    source: Source,
    parts: tuple[Labeled, Labeled, Labeled],
    *,
    classes: int,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
    names: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> ImageData:
    """Make a data set of training, validation and test images, in this order.

    With `classes` of 0 the labels are real targets, finite floats that are not all the same.
    `augmentation` is the usual one, where the source asks for no other; `names` are those of the classes,
    `notices` what else a user should know.
    Means and standard deviations come from the training images that are kept. Raises DataError on arrays of
    another type or shape, labels that do not fit or too few images.
    """
    for part, purpose, least in zip(parts, _PURPOSES, (classes, 1, 1), strict=True):
        name = f"{source.name} ({purpose} part)"
        _check_arrays(name, part, real=classes == 0)
        if classes:
            check_labels(name, part.labels, classes=classes, least=least)
    train = parts[0][keep_limit(parts[0].labels, source, classes=classes)]
    augmentation = augmentation if source.augmentation is None else source.augmentation
    mean, std = _normalization(source, train.images)
    splits = [
        MemorySplit(
            images=torch.from_numpy(np.ascontiguousarray(part.images)),
            labels=torch.from_numpy(np.ascontiguousarray(part.labels)),
            mean=mean,
            std=std,
            augmentation=augmentation,
        )
        for part in (train, *parts[1:])
    ]
    height, width, channels = train.images.shape[1:]
    held = dict(zip(_PURPOSES, (train.labels, parts[1].labels, parts[2].labels), strict=True))
    return ImageData(
        name=source.name,
        classes=classes or 1,
        channels=channels,
        real=classes == 0,
        **(_target_scale(source.name, train.labels) if classes == 0 else {}),
        size=(height, width),
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        digest=_digest(splits, f"{classes} {source.split_seed} {augmentation}"),
        names=tuple(names),
        notices=(
            *notices,
            *(class_notices(source, held, classes=classes, names=names) if classes else ()),
        ),
    )


def _target_scale(name: str, labels: Labels) -> dict[str, float]:
    """Mean and standard deviation of real targets. Raises DataError if they are all the same."""
    center, spread = float(labels.astype(np.float64).mean()), float(labels.astype(np.float64).std())
    if not spread > 0:
        raise DataError(f"targets of {name} must differ, got {center:g} for every training image")
    return {"center": center, "spread": spread}


def _check_arrays(name: str, part: Labeled, *, real: bool) -> None:
    """Raise DataError unless images are uint8 or finite float32, (n, h, w, c), and there are n labels.

    These are whole numbers, or finite float32 for `real` targets.
    """
    images, labels = np.asarray(part.images), np.asarray(part.labels)
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4:
        raise DataError(
            f"images of {name} must be uint8 or float32 of shape (n, h, w, c), "
            f"got {images.dtype} of {images.shape}"
        )
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise DataError(f"images of {name} must be finite")
    if real:
        if labels.dtype != np.float32 or labels.shape != images.shape[:1] or not len(labels):
            raise DataError(
                f"targets of {name} must be float32 of shape ({len(images)},), "
                f"got {labels.dtype} of {labels.shape}"
            )
        if bad := int((~np.isfinite(labels)).sum()):
            raise DataError(f"targets of {name} must be finite, got {bad} that are not")
        return
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"labels of {name} must be whole numbers of shape ({len(images)},), "
            f"got {labels.dtype} of {labels.shape}"
        )


def _digest(splits: Sequence[MemorySplit], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for split in splits:
        digest.update(str(tuple(split.images.shape)).encode())
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().data)
    return digest.hexdigest()


def _normalization(source: Source, images: npt.NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the task tells, in stored values, or what the training images have."""
    told = source.options
    if not told.mean:
        return _channel_statistics(images)
    if len(told.mean) != images.shape[3]:
        raise DataError(
            f"mean and std must have {images.shape[3]} numbers for {source.name}, got {len(told.mean)}"
        )
    white = 255 if images.dtype == np.uint8 else 1
    return tuple(white * one for one in told.mean), tuple(white * one for one in told.std)


def _channel_statistics(images: npt.NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exactly; a constant channel has std 1."""
    if images.dtype != np.uint8:
        flat = images.reshape(-1, images.shape[3]).astype(np.float64)
        return tuple(flat.mean(axis=0)), tuple(float(one) or 1.0 for one in flat.std(axis=0))
    values = np.arange(256, dtype=np.float64)
    means, stds = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
        mean = float(counts @ values / counts.sum())
        means.append(mean)
        stds.append(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())) or 1.0)
    return tuple(means), tuple(stds)
