"""Torch Datasets of the user's: read into memory once, checked item by item, split where they are not."""

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.parts import IntArray, Labels, complete_parts, keep_limit, part_notices
from ordercomp.data.pixels import as_seen
from ordercomp.data.source import DataError, Source
from ordercomp.data.splits import Batch, ImageData, MemorySplit

_NO_BYTE = 1e-3  # of a byte, by which a float that was one may be off
_SMALL = 1 / 16  # median of fractions, below which bytes lose too much of them
_NARROW = 1 / 8  # between all but few of them, the same
_FEW = 32  # values of real targets, up to which whole ones may be classes
_LOOKED_AT = 1_000_000  # values
_CPU = torch.device("cpu")
_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_FORMS = "a Dataset, (train, validation, test), or a mapping with train, val and test"


def takes_source(function: Callable[..., Any]) -> bool:
    """Whether a function of the user's wants to be told what is asked for: it has a parameter to be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def from_datasets(returned: object, source: Source) -> ImageData:
    """Read what a function of the user's returned: a torch Dataset for each part, or one to be split.

    A Dataset has `len` and gives (image, target) for 0 … len - 1: a class number, or a float where the target
    is real. An image is a PIL image, or a tensor (c, h, w) or an array (h, w, c), uint8, uint16 (65535 is
    white), bool or float; floats from 0 to 1 are taken as 8-bit pixels, as ToTensor makes them of them,
    unless bytes would lose too much; others are taken as they are. All images have one shape. Without parts a
    fifth each is drawn for validation and test, in the classes' shares. Transforms that draw random numbers
    run anew in each epoch if the recipe says `augment = true`; else each image is transformed once, as
    held-out ones are.

    Raises DataError that names the item, what was expected and what came.
    """
    datasets = _datasets(returned, source)
    parts = {name: _read(f"{source.name} ({name})", dataset) for name, dataset in datasets.items()}
    parts = _in_one_kind(parts)
    _check_alike(parts, source)
    train, validation, test = complete_parts(parts, source, name=source.name)
    classes, notices = _target_kind(source, [part.labels for part in parts.values()])
    train = train[keep_limit(train.labels, source, classes=classes)]
    data = assemble(
        replace(source, train_limit=None),
        (train.labeled, validation.labeled, test.labeled),
        classes=classes,
        notices=(
            *_channel_notice(source, train.images),
            *part_notices(source, [name for name in parts if name in ("val", "test")]),
            *notices,
        ),
    )
    if not train.draws or not isinstance(data.train, MemorySplit):
        return data
    return replace(data, train=DatasetSplit(memory=data.train, dataset=train.dataset, places=train.places))


def _channel_notice(source: Source, images: npt.NDArray[Any]) -> tuple[str, ...]:
    """Say that images have so many channels that these may be a height or width."""
    height, width, channels = images.shape[1:]
    if channels <= max(4, min(height, width) - 1):
        return ()
    where = "a tensor is (c, h, w), an array (h, w, c)"
    return (f"{source.name}: images have {channels} channels of {height}x{width}; {where}",)


def _target_kind(source: Source, parts: Sequence[Labels]) -> tuple[int, tuple[str, ...]]:
    """The number of classes, 0 where targets are real, and a notice where these may be meant as classes.

    Raises DataError if parts differ in that, and if a class has no image at all but in the task's names.
    """
    kinds = {labels.dtype.kind for labels in parts}
    if len(kinds) > 1:
        raise DataError(f"{source.name} must have class numbers or real targets in all parts, got both")
    values = np.unique(np.concatenate(parts))
    if kinds == {"f"}:
        whole = len(values) <= _FEW and not (values % 1).any()
        notice = (
            f"{source.name}: targets are floats, so real numbers; int() makes {len(values)} classes of them"
        )
        return 0, (notice,) if whole else ()
    if len(values) == 1:
        raise DataError(f"{source.name} must have images of at least two classes, got one")
    classes, named = 1 + int(values[-1]), len(source.options.class_names)
    if len(values) == classes or values[0] < 0:
        return classes, ()
    if not named:
        raise DataError(
            f"labels of {source.name} must be 0 to {len(values) - 1}, one for each class that has images, "
            f"got {', '.join(map(str, values[:5]))}{', …' if len(values) > 5 else ''}: number them anew, or "
            "name all classes by class_names"
        )
    return max(classes, named), ()


@dataclass(frozen=True, kw_only=True)
class DatasetSplit:
    """A part whose transforms draw random numbers: anew for each epoch with `augment`, else as read once."""

    memory: MemorySplit
    dataset: Any
    places: IntArray  # of the images of this part in the dataset

    @property
    def labels(self) -> Tensor:
        return self.memory.labels

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel that images are normalized with."""
        return self.memory.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel."""
        return self.memory.std

    def __len__(self) -> int:
        return len(self.memory)

    def batches(
        self,
        batch_size: int,
        *,
        rng: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device = _CPU,
    ) -> Iterator[Batch]:
        """Go through the split once, as Split says; with `augment` every image is transformed anew."""
        if rng is None or not augment:
            return self.memory.batches(batch_size, rng=rng, augment=augment, device=device)
        order = torch.randperm(len(self), generator=rng)
        seeds = torch.randint(2**31, (len(self),), generator=rng)
        return self._transformed(batch_size, order, seeds, device)

    def _transformed(
        self, batch_size: int, order: Tensor, seeds: Tensor, device: torch.device
    ) -> Iterator[Batch]:
        images = self.memory.images
        for index in torch.split(order, batch_size):
            pixels = np.empty((len(index), *images.shape[1:]), images.numpy().dtype)
            for place, which in enumerate(index.tolist()):
                item, _ = _item(self.dataset, int(self.places[which]), "the dataset", seed=int(seeds[which]))
                pixels[place] = _as_kind(item, pixels.dtype)
            transformed = replace(
                self.memory, images=torch.from_numpy(pixels), labels=self.labels[index], _resident={}
            )
            (batch,) = transformed.batches(len(index), device=device)
            yield Batch(batch.images, batch.labels, index.to(device))


@dataclass(frozen=True)
class _Part:
    """What was read of one dataset."""

    dataset: Any
    places: IntArray
    images: npt.NDArray[Any]
    labels: Labels
    draws: bool  # whether its transforms draw random numbers

    def __getitem__(self, index: IntArray) -> "_Part":
        return replace(self, places=self.places[index], images=self.images[index], labels=self.labels[index])

    @property
    def labeled(self) -> Labeled:
        return Labeled(self.images, self.labels)


def _datasets(returned: Any, source: Source) -> dict[str, Any]:
    """What a function of the user's returned, by the name of the part; a dataset alone is "all"."""
    if isinstance(returned, Mapping):
        named = {_NAMES.get(str(name), str(name)): dataset for name, dataset in returned.items()}
        if set(named) in ({"train", "val"}, {"train", "test"}, {"train", "val", "test"}):
            return named
        raise DataError(
            f"{source.name} must return {_FORMS}, got a mapping with {sorted(map(str, returned))}"
        )
    if isinstance(returned, tuple | list) and len(returned) == 3 and all(map(_is_dataset, returned)):
        return dict(zip(("train", "val", "test"), returned, strict=True))
    if not _is_dataset(returned) or isinstance(returned, tuple | list):
        raise DataError(f"{source.name} must return {_FORMS}, or ImageData, got {type(returned).__name__}")
    return {"all": returned}


def _is_dataset(value: object) -> bool:
    return (
        hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | Mapping)
    )


def _check_alike(parts: Mapping[str, _Part], source: Source) -> None:
    """Raise DataError unless the images of all parts have one shape and are bytes, or floats, in all."""
    (first, *names) = parts
    for name in names:
        for what, here, there in (
            ("one shape (h, w, c)", parts[first].images.shape[1:], parts[name].images.shape[1:]),
            ("pixels or floats beyond 0 to 1", parts[first].images.dtype, parts[name].images.dtype),
        ):
            if here != there:
                raise DataError(
                    f"images of {source.name} must have {what} in all parts, got {here} in {first} and "
                    f"{there} in {name}"
                )


def _read(name: str, dataset: Any) -> _Part:
    count = len(dataset)
    if count < 1:
        raise DataError(f"{name} has no images")
    (first, target), (again, _) = (_item(dataset, 0, name, seed=seed) for seed in (0, 1))
    draws = first.shape != again.shape or not np.array_equal(first, again)
    images = np.empty((count, *first.shape), first.dtype)
    real = isinstance(target, float)
    labels: Labels = np.empty(count, np.float32 if real else np.int64)
    for place in range(count):
        pixels, target = _item(dataset, place, name, seed=place)
        if pixels.shape != first.shape:
            raise DataError(
                f"images of {name} must have one shape, got {first.shape} and {pixels.shape} "
                f"(h, w, c) in item {place}: resize them in the dataset's transform"
            )
        if isinstance(target, float) != real:
            raise DataError(f"targets of {name} must all be class numbers or all be floats, got both")
        images[place], labels[place] = _as_kind(pixels, images.dtype), target
    return _Part(dataset, np.arange(count), images, labels, draws)


def _in_one_kind(parts: dict[str, _Part]) -> dict[str, _Part]:
    """Fractions as bytes in all parts if they fit in all, else bytes as fractions, where there are both."""
    fractions = [part.images for part in parts.values() if part.images.dtype == np.float32]
    if not all(images.min() >= 0 and images.max() <= 1 for images in fractions):
        return parts
    kind = np.uint8 if all(map(_fit_bytes, fractions)) else np.float32
    return {name: replace(part, images=_as_kind(part.images, kind)) for name, part in parts.items()}


def _fit_bytes(images: npt.NDArray[Any]) -> bool:
    """Whether fractions are bytes divided by 255, or large enough for bytes to tell them apart."""
    sample = images.reshape(-1)[:: max(1, images.size // _LOOKED_AT)]
    if np.abs(255 * sample - np.round(255 * sample)).max() < _NO_BYTE:
        return True
    shown = sample[sample > 0]
    low, high = np.quantile(shown, (0.01, 0.99))
    return bool(np.median(shown) >= _SMALL and high - low >= _NARROW)


def _as_kind(pixels: npt.NDArray[Any], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Fractions as bytes, or bytes as fractions, if `kind` is the other one."""
    if pixels.dtype == kind:
        return pixels
    if kind == np.uint8:
        return np.clip(np.round(255 * pixels), 0, 255).astype(np.uint8)
    return pixels.astype(np.float32) / np.float32(255)


def _item(dataset: Any, place: int, name: str, *, seed: int) -> tuple[npt.NDArray[Any], int | float]:
    """Pixels (h, w, c) and target of an item, transformed with `seed`. Raises DataError if it is neither."""
    with seeded(seed):
        item = dataset[place]
    what = f"item {place} of {name}"
    if not isinstance(item, tuple | list) or len(item) != 2:
        came = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"{what} must be (image, target), got {came}")
    return as_pixels(item[0], what), _target(item[1], what)


def as_pixels(image: Any, what: str) -> npt.NDArray[Any]:
    """An image as (h, w, c), uint8 or float32. Raises DataError, which names it `what`, if it is none."""
    if isinstance(image, Image.Image):
        image = np.asarray(as_seen(image, f"the image of {what}"))
    elif isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    pixels = image[..., None] if isinstance(image, np.ndarray) and image.ndim == 2 else image
    is_array = isinstance(pixels, np.ndarray) and pixels.ndim == 3
    if not is_array or (pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind not in "bf"):
        came = f"{pixels.dtype} of {pixels.shape}" if isinstance(pixels, np.ndarray) else type(image).__name__
        raise DataError(
            f"the image of {what} must be a PIL image, a tensor (c, h, w) or an array (h, w, c), uint8, "
            f"uint16, bool or float, got {came}"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"the image of {what} must be finite")
    if _is_turned(pixels.shape):
        raise DataError(
            f"the image of {what} has its channels in the wrong place: it would have {pixels.shape[2]} of "
            f"{pixels.shape[0]}x{pixels.shape[1]}; a tensor is (c, h, w), an array (h, w, c)"
        )
    if pixels.dtype == np.uint16:
        return pixels / np.float32(np.iinfo(np.uint16).max)
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def _is_turned(shape: tuple[int, ...]) -> bool:
    """Whether a shape (h, w, c) is that of color, or of a square in gray, with c in another place."""
    return any(
        min(rest) > 4 and (side in (2, 3, 4) or (side == 1 and rest[0] == rest[1]))
        for side, rest in ((shape[0], shape[1:]), (shape[1], shape[::2]))
    )


def _target(target: Any, what: str) -> int | float:
    """A class number, or a finite real target."""
    value = np.asarray(target.detach().cpu() if isinstance(target, Tensor) else target)
    if value.size != 1 or value.dtype.kind not in "biuf":
        came = f"{value.dtype} of {value.shape}" if value.ndim else f"{value.dtype} {value}"
        raise DataError(f"the target of {what} must be a class number or one float, got {came}")
    if not np.isfinite(value).all():
        raise DataError(f"the target of {what} must be finite, got {value.reshape(())}")
    return float(value.reshape(())) if value.dtype.kind == "f" else int(value.reshape(()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let every generator that a transform may draw from start at `seed`, and afterwards go on as before."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
