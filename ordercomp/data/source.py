"""Where data sets lie on disk: the request for one, its folder, and the error when it is missing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ordercomp.data.splits import Augmentation

_MOST_SIDE = 4096
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of its channels, white being 1


class DataError(ValueError):
    """A data set that is not there or not as it should be; the message says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What a task says of its images, where the data set leaves it open; by default nothing."""

    image_size: int = 0  # height and width that images are cropped and resized to; 0: as they are
    mean: tuple[float, ...] = ()  # of each channel, white being 1; empty: that of the training images
    std: tuple[float, ...] = ()
    normalize: Literal["", "data", "imagenet", "none"] = ""  # in place of mean and std; empty: as usual
    class_names: tuple[str, ...] = ()  # in the order of their numbers; empty: those of the folders
    val_is: Literal["", "validation", "test"] = ""  # what a folder val is where there is no folder test
    transforms: str = ""  # module.py:function of the user's; empty: none but those of the data set
    trained_on: str = ""  # what the weights that the task starts from have seen: "train", "unknown" or a
    # folder of images; empty: none of these images

    def __post_init__(self) -> None:
        if not 0 <= self.image_size <= _MOST_SIDE:
            raise ValueError(f"image_size must be a number of pixels to {_MOST_SIDE}, got {self.image_size}")
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std must have a number for each channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(-10 <= value <= 10 for value in self.mean) or not all(
            0 < value <= 10 for value in self.std
        ):
            raise ValueError(
                f"mean and std must be told in units in which white is 1, got {self.mean} and {self.std}"
            )
        if self.normalize not in ("", "data", "imagenet", "none"):
            raise ValueError(f"normalize must be imagenet, none or data, got {self.normalize!r}")
        if self.normalize and self.mean:
            raise ValueError(f"normalize = {self.normalize!r} does not go with mean and std; leave one out")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be distinct, got {list(self.class_names)}")
        if self.transforms and self.image_size:
            raise ValueError("image_size does not go with transforms, which make the size themselves")
        if self.val_is not in ("", "validation", "test"):
            raise ValueError(f"val_is must be validation or test, got {self.val_is!r}")

    def stated(self, name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std of each channel, white being 1, that images of `name` are to be normalized with.

        None if they are to be measured, or usual. Raises DataError if there are not `channels` of them.
        """
        if self.normalize == "none":
            return (0.0,) * channels, (1.0,) * channels
        mean, std = IMAGENET if self.normalize == "imagenet" else (self.mean, self.std)
        if len(mean) not in (0, channels):
            raise DataError(f"mean and std must have {channels} numbers for {name}, got {len(mean)}")
        return (mean, std) if mean else None


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
