"""CIFAR-10, CIFAR-100 and SVHN, read by torchvision from the files of their authors."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits as _bunch

from ordercomp.data.assemble import Labeled, assemble, hold_out, stratified
from ordercomp.data.source import DataError, Source, download_advice, find_folder
from ordercomp.data.splits import Augmentation, ImageData
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


# Fashion-MNIST from its IDX files: Debian's package, torchvision's folder, or a download.


_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


_FOLDERS = ("fashion-mnist", "FashionMNIST/raw", _DEBIAN)


_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


_ADVICE = f"install Debian's package dataset-fashion-mnist, or {download_advice('fashion-mnist')}"


def load_fashion_mnist(source: Source) -> ImageData:
    """Fashion-MNIST (Xiao et al. 2017): 28x28 in gray; 54 000 training, 6000 validation, 10 000 test images.

    Usually not augmented. Raises DataError if the files are missing or no IDX files.
    """
    return _load(source, margin=0)


def load_fashion_mnist_32(source: Source) -> ImageData:
    """Fashion-MNIST with a black margin of two pixels, so that it fits networks for 32x32 images."""
    return _load(source, margin=2)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped if its name ends in .gz; the shape is that of its header.

    Raises DataError if the file is cut short or of another kind.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no whole gzip file: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is no IDX file of unsigned bytes: it starts with {content[:4].hex(' ')}")
    offset = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:offset], dtype=">i4").tolist())
    if len(content) - offset != int(np.prod(shape)):
        raise DataError(f"{path} must hold {shape} bytes after its header, got {len(content) - offset}")
    return np.frombuffer(content, dtype=np.uint8, offset=offset).reshape(shape)


def _load(source: Source, *, margin: int) -> ImageData:
    first, *_ = _FILES
    packed = any((source.root / folder / f"{first}.gz").exists() for folder in _FOLDERS)
    unpacked = any((source.root / folder / first).exists() for folder in _FOLDERS)
    suffix = "" if unpacked and not packed else ".gz"
    names = [name + suffix for name in _FILES]
    folder = find_folder(source, _FOLDERS, names, advice=_ADVICE)
    train, test = (_read_pair(*(folder / name for name in pair)) for pair in (names[:2], names[2:]))
    kept, held_out = hold_out(train.labels, split_seed=source.split_seed)
    around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    train, validation, test = (
        Labeled(np.pad(part.images, around), part.labels) for part in (train[kept], train[held_out], test)
    )
    return assemble(source, (train, validation, test), classes=10)


def _read_pair(images_path: Path, labels_path: Path) -> Labeled:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{images_path} has shape {images.shape}, which does not fit {labels.shape} labels")
    return Labeled(images[..., None], labels.astype(np.int64))


# The embedded data set: 1797 handwritten digits of 8x8 pixels that come with scikit-learn.


# A fifth each: one image is 0.28 points of accuracy, and the 1077 others train to above 98.5 %.
_HELD_OUT = 360


def load_digits(source: Source) -> ImageData:
    """Handwritten digits in one channel: 1077 training, 360 validation and 360 test images.

    There is no official test set, so the seed draws both held-out parts. Usually not augmented.
    Source: Alpaydin and Kaynak (1998), test part.
    """
    bunch = _bunch()
    everything = Labeled(bunch.images.astype(np.uint8)[..., None], bunch.target.astype(np.int64))
    sizes = (len(everything.labels) - 2 * _HELD_OUT, _HELD_OUT, _HELD_OUT)
    train, validation, test = stratified(
        everything.labels, sizes, rng=np.random.default_rng(source.split_seed)
    )
    return assemble(source, (everything[train], everything[validation], everything[test]), classes=10)


# Rotated digits: the embedded digits, each turned by an angle that is to be told, in degrees.


MOST_DEGREES = 45.0  # to either side


_TURNS = 2  # of each training digit; held-out ones are turned once


_SIDE = 12  # pixels: nothing of a turned 8x8 image is cut off


_BRIGHTER = 15  # stored values 0 … 240, so that rounding after interpolation costs little


def load_rotated_digits(source: Source) -> ImageData:
    """Handwritten digits in one channel, 12x12: 1077 for training, at two angles each, 360 each held out.

    The angle, drawn evenly from -45 to 45 degrees, counterclockwise, is the target. Angles are the same for
    every seed, which draws only the parts. Digits as in `load_digits`.
    """
    bunch = _bunch()
    count = len(bunch.target)
    angles = np.random.default_rng(0).uniform(-MOST_DEGREES, MOST_DEGREES, (_TURNS, count))
    sizes = (count - 2 * _HELD_OUT, _HELD_OUT, _HELD_OUT)
    rng = np.random.default_rng(source.split_seed)
    train, validation, test = stratified(bunch.target.astype(np.int64), sizes, rng=rng)

    def turned(index: npt.NDArray[np.int64], turns: int) -> Labeled:
        told = angles[:turns, index].reshape(-1)
        images = np.concatenate([bunch.images[index]] * turns)
        return Labeled(rotate(images, told)[..., None], told.astype(np.float32))

    return assemble(source, (turned(train, _TURNS), turned(validation, 1), turned(test, 1)), classes=0)


def rotate(images: npt.NDArray[np.float64], degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Turn images, shape (n, h, w), counterclockwise about their middle; bilinear, black where nothing is.

    Returns shape (n, 12, 12). Values are 15 times what they were, rounded.
    """
    _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    turn = np.deg2rad(degrees)[:, None, None]
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    above = np.cos(turn) * rows + np.sin(turn) * columns + (height - 1) / 2 + 1
    left = -np.sin(turn) * rows + np.cos(turn) * columns + (width - 1) / 2 + 1
    above, left = np.clip(above, 0, height + 1 - 1e-9), np.clip(left, 0, width + 1 - 1e-9)
    row, column = above.astype(int), left.astype(int)
    down, right = above - row, left - column
    which = np.arange(len(images))[:, None, None]
    corners = (
        (padded[which, row, column], (1 - down) * (1 - right)),
        (padded[which, row, column + 1], (1 - down) * right),
        (padded[which, row + 1, column], down * (1 - right)),
        (padded[which, row + 1, column + 1], down * right),
    )
    turned: npt.NDArray[np.float64] = np.sum([values * shares for values, shares in corners], axis=0)
    return np.round(_BRIGHTER * turned).astype(np.uint8)


# Downloads of the data sets that torchvision knows where to get.


def download(source: Source) -> None:
    """Download a data set into the root, unless it is there; checksums are verified.

    Raises DataError if torchvision cannot get it, or the download fails.
    """
    fetch = _FETCH.get(source.name)
    if fetch is None:
        raise DataError(f"{source.name} cannot be downloaded; only {', '.join(_FETCH)} can")
    try:
        source.root.mkdir(parents=True, exist_ok=True)
        fetch(source.root)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source.name} could not be downloaded into {source.root}: {reason}") from error


def _fashion(root: Path) -> Any:
    return datasets.FashionMNIST(root, download=True)


def _svhn(root: Path) -> Any:
    return [datasets.SVHN(root, split=split, download=True) for split in ("train", "test")]


_FETCH: dict[str, Callable[[Path], Any]] = {
    "fashion-mnist": _fashion,
    "fashion-mnist-32": _fashion,
    "cifar10": lambda root: datasets.CIFAR10(root, download=True),
    "cifar100": lambda root: datasets.CIFAR100(root, download=True),
    "svhn": _svhn,
}
