"""Where data sets lie on disk: the request for one, its folder, and the error when it is missing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ordercomp.data.augmentation import Augmentation

__all__ = ["DataError", "Source", "download_advice", "find_folder"]


class DataError(ValueError):
    """A data set that is not there or not as it should be; the message says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a loader is asked for."""

    name: str
    root: Path  # folder of all data sets
    split_seed: int
    train_limit: int | None
    augmentation: Augmentation | None  # None: the usual one of the data set


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
