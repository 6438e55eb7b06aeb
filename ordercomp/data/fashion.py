"""Fashion-MNIST from its IDX files: Debian's package, torchvision's folder, or a download."""

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ordercomp.data.assemble import Labeled, assemble, hold_out
from ordercomp.data.source import DataError, Source, download_advice, find_folder
from ordercomp.data.splits import ImageData

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
