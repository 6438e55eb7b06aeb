"""Where data sets lie on disk: the request for one, its folder, and the error when it is missing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ordercomp.data.splits import Augmentation

_MOST_SIDE = 4096


class DataError(ValueError):
    """A data set that is not there or not as it should be; the message says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What a task says of its images, where the data set leaves it open; by default nothing."""

    image_size: int = 0  # height and width that images are cropped and resized to; 0: as they are
    mean: tuple[float, ...] = ()  # of each channel, white being 1; empty: that of the training images
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()  # in the order of their numbers; empty: those of the folders
    val_is: Literal["", "validation", "test"] = ""  # what a folder val is where there is no folder test
    transforms: str = ""  # module.py:function of the user's; empty: none but those of the data set

    def __post_init__(self) -> None:
        if not 0 <= self.image_size <= _MOST_SIDE:
            raise ValueError(f"image_size must be a number of pixels to {_MOST_SIDE}, got {self.image_size}")
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std must have a number for each channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(-10 <= one <= 10 for one in self.mean) or not all(0 < one <= 10 for one in self.std):
            raise ValueError(
                f"mean and std must be told in units in which white is 1, got {self.mean} and {self.std}"
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be distinct, got {list(self.class_names)}")
        if self.transforms and self.image_size:
            raise ValueError("image_size does not go with transforms, which make the size themselves")
        if self.val_is not in ("", "validation", "test"):
            raise ValueError(f"val_is must be validation or test, got {self.val_is!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a loader is asked for."""

    name: str
    root: Path  # folder of all data sets
    split_seed: int
    train_limit: int | None
    augmentation: Augmentation | None  # None: the usual one of the data set
    options: ImageOptions = ImageOptions()


def download_advice(name: str) -> str:
    """How to get a data set that torchvision can download, or to say where it lies."""
    call = f"from ordercomp.data.catalog import load_data; load_data('{name}', download=True)"
    return f'download it with python -c "{call}", or set ORDERCOMP_DATA to the folder that holds it'


def val_notice(source: Source, name: str) -> str:
    """What is done with a part that is called validation where there is no test part."""
    return (
        f"{source.name}: there is {name} and no test, so that {name} is the test part and validation images "
        "are drawn from train; val_is = 'validation' in the task keeps it for validation and draws test "
        "images from train, val_is = 'test' says that it is meant so"
    )


def find_folder(source: Source, folders: Sequence[str | Path], needed: Sequence[str], *, advice: str) -> Path:
    """Return the first of `folders`, taken relative to the root, that holds every name in `needed`.

    Raises DataError that says what was looked for, where, and `advice` on how to get it. A folder that holds
    only a part of it is named with what it lacks.
    """
    places = [Path(os.path.normpath(source.root / folder)) for folder in folders]
    for place in places:
        if all((place / name).exists() for name in needed):
            return place
    for place in places:
        missing = [name for name in needed if not (place / name).exists()]
        if len(missing) < len(needed):
            raise DataError(
                f"{source.name} in {place} is incomplete: {', '.join(missing)} is missing; {advice}"
            )
    names = ", ".join(needed[:3]) + (", …" if len(needed) > 3 else "")
    looked = ", ".join(str(place) for place in places)
    raise DataError(f"{source.name} not found: looked for {names} in {looked}; {advice}")


# What a user should know of the classes of a data set: which are rare, which cannot be measured.


IntArray = npt.NDArray[np.int64]


_UNEVEN = 3.0  # times as many images of the commonest class as of the rarest, from which it is told


def class_notices(
    source: Source, parts: Mapping[str, IntArray], *, classes: int, names: Sequence[str] = ()
) -> tuple[str, ...]:
    """Say, a line each, that classes are uneven or have no image in a held-out part.

    `parts` are the labels of each part, by what it is for, the training part first. Data sets that everybody
    has are known to be as they are: nothing is told of them.
    """
    if ":" not in source.name:
        return ()
    counts = {what: np.bincount(labels, minlength=classes) for what, labels in parts.items()}
    called = [repr(name) for name in names] or [str(number) for number in range(classes)]
    notices = []
    (first, trained), *held_out = counts.items()
    rare, common = int(trained.argmin()), int(trained.argmax())
    if trained[common] >= _UNEVEN * max(1, trained[rare]):
        notices.append(
            f"{source.name}: classes are uneven, {trained[common]} {first} images of {called[common]} and "
            f"{trained[rare]} of {called[rare]}: accuracy hides what happens to rare ones; "
            "metric = 'balanced accuracy' does not"
        )
    for what, found in held_out:
        if missing := [called[number] for number in np.flatnonzero(found == 0)]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            notices.append(
                f"{source.name}: the {what} part has no image of the classes {', '.join(missing[:5])}{more}: "
                "what compression does to them is not measured"
            )
    return tuple(notices)
