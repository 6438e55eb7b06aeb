"""The built-in data sets, read from the files of their authors: CIFAR, SVHN, Fashion-MNIST, digits."""

import gzip
import importlib.util
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.ndimage import map_coordinates

from ordercomp import torchvision_compat
from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.parts import complete_parts, draw_parts, part_notices
from ordercomp.data.source import DataError, Source, download_advice, find_folder
from ordercomp.data.splits import Augmentation, ImageData
from ordercomp.errors import one_line

# CIFAR and SVHN


@dataclass(frozen=True, slots=True)
class _CifarFiles:
    folder: str
    meta: str
    train: Sequence[str]
    test: str
    labels: str  # the key under which a file holds them


_CIFAR10 = _CifarFiles(
    "cifar-10-batches-py", "batches.meta", [f"data_batch_{n}" for n in range(1, 6)], "test_batch", "labels"
)
_CIFAR100 = _CifarFiles("cifar-100-python", "meta", ["train"], "test", "fine_labels")
_CROP_AND_FLIP = Augmentation(padding=4, flip=True)  # He et al. (2015)


def load_cifar10(source: Source) -> ImageData:
    """CIFAR-10 (Krizhevsky 2009): 32x32 in color; 45 000 training, 5000 validation and 10 000 test images."""
    return _load_cifar(source, _CIFAR10, classes=10)


def load_cifar100(source: Source) -> ImageData:
    """CIFAR-100 (Krizhevsky 2009), fine labels: 45 000 training, 5000 validation and 10 000 test images."""
    return _load_cifar(source, _CIFAR100, classes=100)


def _load_cifar(source: Source, files: _CifarFiles, *, classes: int) -> ImageData:
    needed = [f"{files.folder}/{name}" for name in (files.meta, *files.train, files.test)]
    root = find_folder(source, (".", source.name), needed, advice=download_advice(source.name))
    train, test = (
        _read_cifar([root / files.folder / name for name in names], files.labels)
        for names in (files.train, [files.test])
    )
    return _assemble_official(source, train, test, classes=classes, augmentation=_CROP_AND_FLIP)


def _read_cifar(paths: Sequence[Path], key: str) -> Labeled:
    """Read rows of red, green and blue planes from pickles; raise DataError for anything but plain arrays."""
    rows, labels = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="latin1").load()
            rows.append(batch["data"].reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch[key], dtype=np.int64))
        except Exception as error:
            raise DataError(f"{path} is no CIFAR file: {one_line(error)}") from error
    return Labeled(np.concatenate(rows).transpose(0, 2, 3, 1), np.concatenate(labels))


class _ArraysOnly(pickle.Unpickler):
    """Loads numbers, texts, containers and numpy arrays; whatever else could run code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name that the pickle asks for."""
        arrays = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}
        is_array = module.partition(".")[0] == "numpy" and name in arrays
        if is_array or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_svhn(source: Source) -> ImageData:
    """SVHN (Netzer et al. 2011), cropped house numbers: 65 931 training, 7326 validation, 26 032 test images.

    Usually not augmented (Zagoruyko and Komodakis 2016); its extra images are not used.
    """
    files, advice = ["train_32x32.mat", "test_32x32.mat"], download_advice(source.name)
    folder = find_folder(source, (".", "svhn", "SVHN"), files, advice=advice)
    try:
        train, test = (_read_svhn(folder / name) for name in files)
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{source.name} in {folder} cannot be read ({reason}); {advice}") from error
    return _assemble_official(source, train, test, classes=10)


def _read_svhn(path: Path) -> Labeled:
    """Read a MATLAB file, whose last dimension counts the images, and whose label 10 is the digit 0."""
    content = loadmat(path)
    labels = content["y"].reshape(-1).astype(np.int64)
    return Labeled(content["X"].transpose(3, 0, 1, 2), np.where(labels == 10, 0, labels))


def _assemble_official(source: Source, train: Labeled, test: Labeled, **kinds: Any) -> ImageData:
    """The data set of official training and test images; validation images are cut from the former."""
    parts = complete_parts({"train": train, "test": test}, source, name=source.name)
    return assemble(source, parts, notices=part_notices(source, ["test"]), **kinds)


# Fashion-MNIST

_FOLDERS = ("fashion-mnist", "FashionMNIST/raw", Path("/usr/share/datasets/fashion-mnist"))
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
    return _load_fashion(source, margin=0)


def load_fashion_mnist_32(source: Source) -> ImageData:
    """Fashion-MNIST with a black margin of two pixels, so that it fits networks for 32x32 images."""
    return _load_fashion(source, margin=2)


def _load_fashion(source: Source, *, margin: int) -> ImageData:
    packed, unpacked = (
        any((source.root / folder / f"{_FILES[0]}{suffix}").exists() for folder in _FOLDERS)
        for suffix in (".gz", "")
    )
    names = [name if unpacked and not packed else f"{name}.gz" for name in _FILES]
    folder = find_folder(source, _FOLDERS, names, advice=_ADVICE)
    train, test = (
        _read_pair(folder / images, folder / labels, margin) for images, labels in (names[:2], names[2:])
    )
    return _assemble_official(source, train, test, classes=10)


def _read_pair(images_path: Path, labels_path: Path, margin: int) -> Labeled:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{images_path} has shape {images.shape}, which does not fit {labels.shape} labels")
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    return Labeled(padded[..., None], labels.astype(np.int64))


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


# The digits that come with scikit-learn, upright and turned by an angle that a network is to tell

MOST_DEGREES = 45.0  # to either side
_TURNS = 2  # of each training digit; held-out ones are turned once
_SIDE = 12  # pixels: nothing of a turned 8x8 image is cut off
_HELD_OUT = 360  # of 1797, a fifth: one image is 0.28 points of accuracy
_BRIGHTER = 15  # stored values 0 … 240, so that rounding after interpolation costs little


def load_digits(source: Source) -> ImageData:
    """Handwritten digits in one channel: 1077 training, 360 validation and 360 test images.

    There is no official test set, so the seed draws both held-out parts. Usually not augmented.
    Source: Alpaydin and Kaynak (1998), test part.
    """
    images, labels = read_digits()
    everything = Labeled(images.astype(np.uint8)[..., None], labels)
    train, validation, test = (everything[index] for index in _draw_digits(everything.labels, source))
    return assemble(source, (train, validation, test), classes=10, notices=part_notices(source, []))


def read_digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The digits that scikit-learn ships: images of shape (1797, 8, 8) from 0 to 16, and their classes.

    Read from its file: importing scikit-learn would cost every worker half as much time again as torch.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits come with scikit-learn, which is not installed")
    rows = np.loadtxt(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def _draw_digits(labels: npt.NDArray[np.int64], source: Source) -> list[npt.NDArray[np.int64]]:
    return draw_parts(labels, held_out=_HELD_OUT, split_seed=source.split_seed)


def load_rotated_digits(source: Source) -> ImageData:
    """Handwritten digits in one channel, 12x12: 1077 for training, at two angles each, 360 each held out.

    The angle, drawn evenly from -45 to 45 degrees, counterclockwise, is the target. Angles are the same for
    every seed, which draws only the parts. Digits as in `load_digits`.
    """
    digits, labels = read_digits()
    angles = np.random.default_rng(0).uniform(-MOST_DEGREES, MOST_DEGREES, (_TURNS, len(labels)))

    def turned(index: npt.NDArray[np.int64], turns: int) -> Labeled:
        degrees = angles[:turns, index].reshape(-1)
        images = np.concatenate([digits[index]] * turns)
        return Labeled(rotate(images, degrees)[..., None], degrees.astype(np.float32))

    train, validation, test = _draw_digits(labels, source)
    parts = turned(train, _TURNS), turned(validation, 1), turned(test, 1)
    return assemble(source, parts, classes=0, notices=part_notices(source, []))


def rotate(images: npt.NDArray[np.float64], degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Turn images, shape (n, h, w), counterclockwise about their middle; bilinear, black where nothing is.

    Returns shape (n, 12, 12). Values are 15 times what they were, rounded.
    """
    count, height, width = images.shape
    turn = np.deg2rad(degrees)[:, None, None]
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    above = np.cos(turn) * rows + np.sin(turn) * columns + (height - 1) / 2
    left = -np.sin(turn) * rows + np.cos(turn) * columns + (width - 1) / 2
    image = np.broadcast_to(np.arange(count)[:, None, None], above.shape)
    turned: npt.NDArray[np.float64] = map_coordinates(
        images, [image, above, left], order=1, mode="grid-constant"
    )
    return np.round(_BRIGHTER * turned).astype(np.uint8)


# Downloads by torchvision


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
        problem = f"{source.name} could not be downloaded into {source.root}: {one_line(error)}"
        raise DataError(problem) from error


_FETCH: Mapping[str, Callable[[Path], Any]] = {
    "fashion-mnist": lambda root: torchvision_compat.datasets.FashionMNIST(root, download=True),
    "fashion-mnist-32": lambda root: torchvision_compat.datasets.FashionMNIST(root, download=True),
    "cifar10": lambda root: torchvision_compat.datasets.CIFAR10(root, download=True),
    "cifar100": lambda root: torchvision_compat.datasets.CIFAR100(root, download=True),
    "svhn": lambda root: [
        torchvision_compat.datasets.SVHN(root, split, download=True) for split in ("train", "test")
    ],
}
