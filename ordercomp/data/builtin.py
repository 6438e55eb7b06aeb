"""CIFAR-10, CIFAR-100 and SVHN, read by torchvision from the files of their authors."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ordercomp.data.assemble import Labeled, assemble, hold_out
from ordercomp.data.augmentation import Augmentation
from ordercomp.data.source import DataError, Source, download_advice, find_folder
from ordercomp.data.splits import ImageData
from ordercomp.torchvision_compat import datasets

_CROP_AND_FLIP = Augmentation(padding=4, flip=True)  # He et al. (2015)


class _CIFAR10(datasets.CIFAR10):  # type: ignore[misc]
    """torchvision's reader without its checksums: reduced data sets in the same format are welcome."""

    train_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR10.train_list]
    test_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR10.test_list]
    meta: ClassVar = {**datasets.CIFAR10.meta, "md5": None}


class _CIFAR100(datasets.CIFAR100):  # type: ignore[misc]
    train_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR100.train_list]
    test_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR100.test_list]
    meta: ClassVar = {**datasets.CIFAR100.meta, "md5": None}


class _SVHN(datasets.SVHN):  # type: ignore[misc]
    split_list: ClassVar = {
        split: [url, name, None] for split, (url, name, _) in datasets.SVHN.split_list.items()
    }


def load_cifar10(source: Source) -> ImageData:
    """CIFAR-10 (Krizhevsky 2009): 32x32 in color; 45 000 training, 5000 validation and 10 000 test images."""
    return _load_cifar(source, _CIFAR10, classes=10)


def load_cifar100(source: Source) -> ImageData:
    """CIFAR-100 (Krizhevsky 2009), fine labels: 45 000 training, 5000 validation and 10 000 test images."""
    return _load_cifar(source, _CIFAR100, classes=100)


def load_svhn(source: Source) -> ImageData:
    """SVHN (Netzer et al. 2011), cropped house numbers: 65 931 training, 7326 validation, 26 032 test images.

    Usually not augmented (Zagoruyko and Komodakis 2016); its extra images are not used.
    """
    folder = find_folder(
        source,
        (".", "svhn", "SVHN"),
        ["train_32x32.mat", "test_32x32.mat"],
        advice=download_advice(source.name),
    )
    parts = [_read(source, _SVHN, folder, split=split) for split in ("train", "test")]
    train, test = (Labeled(part.data.transpose(0, 2, 3, 1), part.labels.astype(np.int64)) for part in parts)
    kept, held_out = hold_out(train.labels, split_seed=source.split_seed)
    return assemble(source, (train[kept], train[held_out], test), classes=10)


def _load_cifar(source: Source, reader: type[datasets.CIFAR10], *, classes: int) -> ImageData:
    names = [reader.meta["filename"], *(name for name, _ in (*reader.train_list, *reader.test_list))]
    needed = [f"{reader.base_folder}/{name}" for name in names]
    folder = find_folder(source, (".", source.name), needed, advice=download_advice(source.name))
    for name in needed:
        _check_harmless(folder / name)
    parts = [_read(source, reader, folder, train=train) for train in (True, False)]
    train, test = (Labeled(part.data, np.asarray(part.targets, dtype=np.int64)) for part in parts)
    kept, held_out = hold_out(train.labels, split_seed=source.split_seed)
    return assemble(
        source, (train[kept], train[held_out], test), classes=classes, augmentation=_CROP_AND_FLIP
    )


def _read(source: Source, reader: type, folder: Path, **part: bool | str) -> Any:
    """Let torchvision read; whatever goes wrong with a foreign or damaged file becomes one line."""
    try:
        return reader(folder, download=False, **part)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(
            f"{source.name} in {folder} cannot be read ({reason}); {download_advice(source.name)}"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    """Loads numbers, texts, containers and numpy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name that the pickle asks for."""
        arrays = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}
        if (module.partition(".")[0] == "numpy" and name in arrays) or (module, name) == (
            "_codecs",
            "encode",
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _check_harmless(path: Path) -> None:
    """Raise DataError unless a pickle holds plain data: CIFAR's format could run any code when loaded.

    This check takes the place of torchvision's checksums.
    """
    try:
        with path.open("rb") as file:
            _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:
        raise DataError(f"{path} is no CIFAR file: {' '.join(str(error).split())}") from error
