"""From arrays to a data set: checks, normalization from the training part, digest, and notices."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ordercomp.data.parts import PURPOSES, IntArray, Labels, keep_limit
from ordercomp.data.source import DataError, Source
from ordercomp.data.splits import Augmentation, ImageData, MemorySplit, Split

_FEW = 32  # of 255, up to which values are told to be few
_BEYOND = 0.2  # black and white, as sharp edges lie after a smooth resize
_UNEVEN = 3.0  # times as many images of the commonest class as of the rarest, from which a notice says so


@dataclass(frozen=True, slots=True)
class Labeled:
    """Images and labels as read from disk."""

    images: npt.NDArray[Any]  # uint8, or float32 of any range, shape (n, h, w, c)
    labels: Labels  # shape (n,)

    def __getitem__(self, index: IntArray) -> "Labeled":
        return Labeled(self.images[index], self.labels[index])


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
    for part, purpose, least in zip(parts, PURPOSES, (classes, 1, 1), strict=True):
        name = f"{source.name} ({purpose} part)"
        _check_arrays(name, part, real=classes == 0)
        if classes:
            check_labels(name, part.labels, classes=classes, least=least)
    train = parts[0][keep_limit(parts[0].labels, source, classes=classes)]
    augmentation = augmentation if source.augmentation is None else source.augmentation
    mean, std = _normalization(source, train.images)
    train_split, validation_split, test_split = splits = [
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
    return ImageData(
        name=source.name,
        classes=classes or 1,
        channels=channels,
        real=classes == 0,
        **(_target_scale(source.name, train.labels) if classes == 0 else {}),
        size=(height, width),
        train=train_split,
        validation=validation_split,
        test=test_split,
        digest=_digest(splits, f"{classes} {source.split_seed} {augmentation}"),
        names=tuple(names),
        notices=(
            *notices,
            *_range_notice(source, train.images),
            *class_notices(source, splits, classes=classes, names=names),
        ),
    )


def _range_notice(source: Source, images: npt.NDArray[Any]) -> tuple[str, ...]:
    """Say that images use few of the values of a byte, or are not from 0 to 1 where white is to be 1."""
    low, high, options = images.min(), images.max(), source.options
    if images.dtype != np.uint8 and (options.mean or options.normalize == "imagenet"):
        notice = (
            f"{source.name}: images lie between {low:.3g} and {high:.3g} before the task's normalization,"
            " with white as 1; if a transform has normalized them, normalize = 'none' leaves it at that"
        )
        return (notice,) if low < -_BEYOND or high > 1 + _BEYOND else ()
    if images.dtype != np.uint8 or high - low > _FEW or ":" not in source.name:
        return ()
    return (
        f"{source.name}: pixels take only the values {low} to {high} of 255, as 12 bits stored in 16 do; a "
        "Dataset of your own (data = 'module.py:function') may give them as floats",
    )


def class_notices(
    source: Source, splits: Sequence[Split], *, classes: int, names: Sequence[str]
) -> tuple[str, ...]:
    """Say, a line each, that classes are uneven or have no image in a held-out part of `splits`.

    These are the training part, validation and test. Nothing is said of real targets, with `classes` of 0,
    nor of data sets that everybody has.
    """
    if not classes or ":" not in source.name:
        return ()
    trained, *held_out = (np.bincount(split.labels.numpy(), minlength=classes) for split in splits)
    called = [repr(name) for name in names] or [str(number) for number in range(classes)]
    notices = []
    rare, common = int(trained.argmin()), int(trained.argmax())
    if trained[common] >= _UNEVEN * max(1, trained[rare]):
        notices.append(
            f"{source.name}: classes are uneven, {trained[common]} training images of {called[common]} and "
            f"{trained[rare]} of {called[rare]}: accuracy hides what happens to rare ones; "
            "metric = 'balanced accuracy' does not"
        )
    for purpose, counts in zip(PURPOSES[1:], held_out, strict=True):
        if missing := [called[number] for number in np.flatnonzero(counts == 0)]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            notices.append(
                f"{source.name}: the {purpose} part has no image of the classes {', '.join(missing[:5])}"
                f"{more}: what compression does to them is not measured"
            )
    return tuple(notices)


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
    stated = source.options.stated(source.name, images.shape[3])
    if stated is None:
        return _channel_statistics(images)
    mean, std = stated
    white = 255 if images.dtype == np.uint8 else 1
    return tuple(white * value for value in mean), tuple(white * value for value in std)


def _channel_statistics(images: npt.NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exactly; a constant channel has std 1."""
    if images.dtype != np.uint8:
        flat = images.reshape(-1, images.shape[3]).astype(np.float64)
        return tuple(flat.mean(axis=0).tolist()), tuple(std or 1.0 for std in flat.std(axis=0).tolist())
    values = np.arange(256, dtype=np.float64)
    means, stds = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
        mean = float(counts @ values / counts.sum())
        means.append(mean)
        stds.append(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())) or 1.0)
    return tuple(means), tuple(stds)
